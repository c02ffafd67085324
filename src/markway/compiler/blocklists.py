"""Lists of addresses that are refused: a look-up for each prefix length, before the kernel makes a connection of it.

Which lengths there are depends on what the lists say, so it is an argument, as weights are. The elements belong to
whoever fills the sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.compiler.matches import any_of
from markway.compiler.names import FAMILIES
from markway.config.blocklisting import Way
from markway.program.model import Fragment
from markway.program.nft import Chain, Hook, Match, Rule, Set, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markway.config.blocklisting import Blocklist
    from markway.config.model import Config
    from markway.guard.layouts import Layout, Place
    from markway.program.model import Program

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

    def asked(side: str, device: str, operator: str, other: Way) -> list[Rule]:
        """The look-ups of all lists but those of the other direction."""
        found = (_rules(item, held, side, (device, operator)) for item, held in known if item.direction is not other)
        return [rule for each in found for rule in each]

    arriving = asked("saddr", "iifname", "", Way.OUT)
    passing = asked("daddr", "iifname", "!=", Way.IN)  # by what it will leave is not known yet, only where it came from
    leaving = asked("daddr", "oifname", "", Way.IN)
    chains = [_refusal(item) for item, _ in known]
    if arriving or passing:
        chains.append(Chain("blocklists", (_OWN, *arriving, *passing), Hook("filter", "prerouting", "raw")))
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


def lists_in(program: Program) -> list[str]:
    """The names of the lists in a program."""
    fragment = program.fragments.get(OWNER)
    return [item.removeprefix(f"counter {refusal_name('')}") for item in fragment.objects] if fragment else []


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


def _rules(item: Blocklist, held: Layouts, side: str, device: tuple[str, str]) -> Iterator[Rule]:
    if held.layout is None:
        return
    name, operator = device
    behind = (Match(Term(name), operator, any_of([f'"{one}"' for one in item.devices])),) if item.devices else ()
    for place, filled in set_names(item.name, held.layout).items():
        key = _BY_VERSION[place.version].network(side, place.length)
        yield (*behind, Match(key, "", Term(f"@{filled}")), Written(f"goto {refusal_name(item.name)}"))


def _refusal(item: Blocklist) -> Chain:
    name = refusal_name(item.name)
    log: tuple[Rule, ...] = ()
    if item.log:
        rate = f"limit rate {item.log.count}/{item.log.unit} burst {item.log.burst} packets"
        log = ((Written(f'{rate} log prefix "markway: drop {name} "'),),)
    return Chain(name, (*log, (Written(f"counter name {name}"), Written("drop"))))
