"""Lists of addresses that are refused: a look-up for each prefix length, before the kernel makes a connection of it.

Which lengths there are depends on what the lists say, so it is an argument, as weights are. The elements belong to
whoever fills the sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.compiler.names import FAMILIES
from markway.config.blocklisting import Way
from markway.program.model import Fragment
from markway.program.nft import Chain, Hook, Match, Rule, Set, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markway.config.blocklisting import Blocklist
    from markway.config.model import Config
    from markway.guard.layouts import Layout, Place

OWNER = "guard/blocklists"

_BY_VERSION = {family.version: family for family in FAMILIES}
_OWN: Rule = (Match(Term("iif"), "", Term('"lo"')), Written("return"))
"""What this machine tells itself passes, though a list of networks that nobody has may hold 127.0.0.0/8."""


@dataclass(frozen=True, slots=True)
class Layouts:
    """The sets of one list: those in force, and those that are being filled to follow them. None for none."""

    layout: Layout | None = None
    coming: Layout | None = None


def blocklists_of(config: Config, layouts: Mapping[str, Layouts]) -> dict[str, Fragment]:
    """The lists' fragment, by its owner; none if the file has no lists."""
    lists = config.blocklisting.lists
    return {OWNER: blocklists_fragment(lists, layouts)} if lists else {}


def blocklists_fragment(lists: Sequence[Blocklist], layouts: Mapping[str, Layouts]) -> Fragment:
    """The lists' part of the table.

    Args:
        lists: those in the file; the first that has an address counts it.
        layouts: the sets of each by its name; a list that is not among them has no content yet.
    """
    known = [(item, layouts.get(item.name, Layouts())) for item in lists]
    arriving = [rule for item, held in known for rule in _rules(item, held, "saddr", {Way.IN, Way.BOTH})]
    leaving = [rule for item, held in known for rule in _rules(item, held, "daddr", {Way.OUT, Way.BOTH})]
    chains = [_refusal(item) for item, _ in known]
    if arriving or leaving:
        chains.append(Chain("blocklists", (_OWN, *arriving, *leaving), Hook("filter", "prerouting", "raw")))
    if leaving:
        own = (Match(Term("oif"), "", Term('"lo"')), Written("return"))
        chains.append(Chain("blocklists-output", (own, *leaving), Hook("filter", "output", "raw")))
    sets = [item for listed, held in known for item in _sets(listed, held)]
    return Fragment(
        owner=OWNER,
        chains={chain.name: chain for chain in chains},
        sets={item.name: item for item in sets},
        objects=tuple(f"counter {refusal_name(item.name)}" for item, _ in known),
    )


def refusal_name(name: str) -> str:
    """A list's chain, and its counter of what it refused."""
    return f"blocklist/{name}"


def set_names(name: str, layout: Layout) -> dict[Place, str]:
    """What the sets of a list are called."""
    return {
        room.place: f"blocklist/{name}/{room.place.version}/{room.place.length}/{layout.generation}"
        for room in layout.rooms
    }


def _sets(item: Blocklist, held: Layouts) -> Iterator[Set]:
    """With a size: the kernel then has a faster hash for addresses of IPv4, and needs no other to grow into.

    nft_hash_fast_lookup in net/netfilter/nft_set_hash.c.
    """
    for layout in filter(None, (held.layout, held.coming)):
        names = set_names(item.name, layout)
        for place, size in layout.rooms:
            yield Set(names[place], (_BY_VERSION[place.version].kind,), size=size, dynamic=True)


def _rules(item: Blocklist, held: Layouts, side: str, ways: set[Way]) -> Iterator[Rule]:
    if held.layout is None or item.direction not in ways:
        return
    for place, name in set_names(item.name, held.layout).items():
        key = _BY_VERSION[place.version].network(side, place.length)
        yield (Match(key, "", Term(f"@{name}")), Written(f"goto {refusal_name(item.name)}"))


def _refusal(item: Blocklist) -> Chain:
    name = refusal_name(item.name)
    log: tuple[Rule, ...] = ()
    if item.log:
        rate = f"limit rate {item.log.count}/{item.log.unit} burst {item.log.burst} packets"
        log = ((Written(f'{rate} log prefix "markway: drop {name} "'),),)
    return Chain(name, (*log, (Written(f"counter name {name}"), Written("drop"))))
