"""Filters of tc(8): as the kernel's own classifiers, or said by nft where it lacks them."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from markway.compiler.abilities import CompileError
from markway.config import shaping
from markway.config.shaping import FilterKind, Key
from markway.program.plumbing import Filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.compiler.abilities import Abilities
    from markway.compiler.tree import Tree

MOST = 0x7FF
"""How many u32 filters one preference can hold: half of TC_U32_NODE (linux/pkt_cls.h), for changes need the rest."""

_TABLES = 0x7FF
_FROM_SHIFT = 16
_FIRST_FRAGMENT = Key(2, 0, 0x1FFF, 6)
_IPV4 = Key(1, 0x40, 0xF0, 0)
_FAMILIES = {"ip": 4, "ipv6": 6, "all": None}
_EVERYTHING = "match u32 0x00000000 0x00000000 at 0"
_IPV6_HEADER = 40


def tc_filters(tree: Tree, filters: Sequence[shaping.Filter], abilities: Abilities, shift: int = 0) -> Iterator[Filter]:
    """The filters that the kernel has classifiers for, in the order in which they are made.

    Args:
        tree: whose classes are aimed at.
        filters: what the file asks for.
        abilities: which classifiers there are.
        shift: what is added to each preference, where ours come first.

    Raises:
        CompileError: the kernel has no u32, or a preference holds too much.
    """
    ordered = sorted(filters, key=lambda item: item.preference)
    for _, group in groupby(ordered, key=lambda item: item.preference):
        members = list(group)
        kind, origin = members[0].kind, members[0].origin
        if kind is FilterKind.U32 and kind not in abilities.filters:
            raise CompileError(origin, "this kernel has no u32", "load its module (modprobe cls_u32), or use a match")
        if kind in abilities.filters:
            yield from _group(tree, members, members[0].preference + shift)


def _group(tree: Tree, members: list[shaping.Filter], preference: int) -> Iterator[Filter]:
    targets = [tree.classids[item.target] for item in members]
    if members[0].kind is FilterKind.U32:
        each = [(item.keys, target, item.origin) for item, target in zip(members, targets, strict=True)]
        yield from u32_filters(tree.device, tree.handle, preference, members[0].protocol, each)
        return
    for item, target in zip(members, targets, strict=True):
        place = (tree.device, tree.handle, preference, item.protocol, item.kind.value)
        if item.kind is FilterKind.FW:
            value, mask = item.mark
            handle = f"{value:#x}/{mask:#x}"
            yield Filter(*place, f"classid {target}", handle, target, item.origin)
        else:
            yield Filter(*place, f"{_realms(item)} classid {target}", _realm_handle(item), target, item.origin)


def _realm_handle(item: shaping.Filter) -> str:
    """The handle that the kernel gives it, from its realms (route4_set_parms in net/sched/cls_route.c)."""
    to = 0x8000 if item.to_realm is None else item.to_realm
    source = 0xFFFF if item.from_realm is None else item.from_realm
    return f"{source << _FROM_SHIFT | to:#x}"


def _realms(item: shaping.Filter) -> str:
    named = (("from", item.from_realm), ("to", item.to_realm))
    return " ".join(f"{name} {number}" for name, number in named if number is not None)


def u32_filters(
    device: str,
    parent: str,
    preference: int,
    protocol: str,
    each: Sequence[tuple[Sequence[Key], str, shaping.Origin]],
) -> Iterator[Filter]:
    """The u32 filters of one preference: keys, class and origin of each, first match first.

    Where the header behind that of IPv4 begins, the kernel finds out on the way to another hash table only
    (u32_classify in net/sched/cls_u32.c). If one filter asks for it, all of this preference are in such a table, so
    that their order holds. IPv6 has it at a fixed place, unless there are extension headers: such packets do not match.

    Raises:
        CompileError: there are too many.
    """
    if len(each) > MOST:
        raise CompileError(each[MOST][2], f"more than {MOST} u32 filters of one priority", "give the rest another")
    place = (device, parent, preference, protocol, "u32")
    each = [(_placed(keys, protocol), target, origin) for keys, target, origin in each]
    linked = any(key.base == "next" for keys, _, _ in each for key in keys)
    table, prefix = "", ""
    if linked:
        table = f"{1 + preference % _TABLES:x}:"
        prefix = f"ht {table} "
        yield Filter(*place, "divisor 1", table, "", each[0][2])
    for number, (keys, target, origin) in enumerate(each, 1):
        handle = f"{table or ':'}:{number:x}"
        yield Filter(*place, f"{prefix}{_selectors(keys)} flowid {target}", handle, target, origin)
    if linked:
        yield Filter(*place, f"{_EVERYTHING} link {table} offset at 0 mask 0x0f00 shift 6", "::1", "", each[0][2])


def _placed(keys: Sequence[Key], protocol: str) -> Sequence[Key]:
    """The keys with what those of the next header need: its place, and that it is there.

    A later fragment has no such header, only bytes that may look like one.
    """
    if all(key.base != "next" for key in keys):
        return keys
    if protocol == "ipv6":
        return [
            replace(key, base="ip", offset=key.offset + _IPV6_HEADER) if key.base == "next" else key for key in keys
        ]
    needed = [_FIRST_FRAGMENT] if protocol == "ip" else [_IPV4, _FIRST_FRAGMENT]
    return [*(key for key in needed if key not in keys), *keys]


def _selectors(keys: Iterable[Key]) -> str:
    return " ".join(map(_selector, keys)) or _EVERYTHING


def _selector(key: Key) -> str:
    digits = 2 * key.width
    where = f"nexthdr+{key.offset}" if key.base == "next" else str(key.offset)
    return f"match u{8 * key.width} 0x{key.value:0{digits}x} 0x{key.mask:0{digits}x} at {where}"


def said_by_nft(filters: Sequence[shaping.Filter], abilities: Abilities) -> tuple[list[tuple[str, shaping.Match]], str]:
    """Filters that the kernel has no classifier for, as matches with their classes; and what to say of their order.

    Raises:
        CompileError: nft does not see packets of that protocol.
    """
    missing = [item for item in filters if item.kind not in abilities.filters and item.kind is not FilterKind.U32]
    ordered = sorted(missing, key=lambda item: (item.preference, _unspecific(item)))
    found = [(item.target, _as_match(item)) for item in ordered]
    if not found:
        return [], ""
    kinds = " and ".join(sorted({item.kind for item in ordered}))
    own = [item.preference for item in filters if item.kind in abilities.filters]
    late = "" if not own or ordered[-1].preference < min(own) else ", so they are asked before all others"
    return found, f"this kernel has no filter {kinds}; nft stands in{late}"


def _unspecific(item: shaping.Filter) -> int:
    """The kernel asks for both realms first, then for the one to, then for the one from (net/sched/cls_route.c)."""
    if item.kind is not FilterKind.ROUTE:
        return 0
    return 0 if None not in (item.from_realm, item.to_realm) else 1 if item.to_realm is not None else 2


def _as_match(item: shaping.Filter) -> shaping.Match:
    if item.protocol not in _FAMILIES:
        raise CompileError(
            item.origin,
            f"this kernel has no filter {item.kind}, and nft, which stands in, sees no {item.protocol}",
            f"load its module: modprobe cls_{item.kind}",
        )
    family = _FAMILIES[item.protocol]
    if item.kind is FilterKind.FW:
        return shaping.Match(item.origin, family=family, packet_mark=item.mark)
    return shaping.Match(item.origin, family=family, raw=_realm_test(item))


def _realm_test(item: shaping.Filter) -> str:
    """The routing table keeps the realm to in the low 16 bits, the one from in the high ones (nft(8), "rt classid")."""
    source, to = item.from_realm or 0, item.to_realm or 0
    value = source << _FROM_SHIFT | to
    mask = (0xFFFF_0000 if item.from_realm is not None else 0) | (0xFFFF if item.to_realm is not None else 0)
    return f"rt classid & {mask:#010x} == {value:#010x}"
