"""What a packet has to be, as nft says it.

A match becomes alternatives, each a list of conditions that all must hold: one for each family where nft's words
differ, and one for each direction of a port or of a slowed source. A condition that compares a selector with single
values is `Exact`: many of them can be looked up in one map (`lookups`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from markway.compiler.guarding import slow_set
from markway.compiler.names import CONNTRACK, FAMILIES, IP, PACKET, Family, hexed, merged
from markway.program.nft import And, Match, Statement, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.config import shaping
    from markway.config.model import PortRange
    from markway.marks import Field

SINGLE_PORTS = 64
"""Ranges up to this many ports become single values, which a map finds faster."""

_ALL_BITS = 0xFFFF_FFFF
_PORTED = ("tcp", "udp")
_PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}


@dataclass(frozen=True, slots=True)
class Exact:
    """A selector has one of some values. `kind` is nft's name of its type, `size` the bytes it takes in a key."""

    key: Term | And
    kind: str
    size: int
    values: tuple[str, ...]

    @property
    def statement(self) -> Match:
        """The comparison of a rule."""
        operator = "==" if isinstance(self.key, And) and len(self.values) == 1 else ""
        return Match(self.key, operator, any_of(self.values))


Condition: TypeAlias = Exact | Statement
Alternative: TypeAlias = tuple[Condition, ...]


@dataclass(frozen=True)
class Marks:
    """The marks of servers, by service and by `service/backend`, and the field of the mark they are in."""

    field: Field
    of: Mapping[str, tuple[int, ...]]


def alternatives(match: shaping.Match, marks: Marks) -> list[Alternative]:
    """All ways to satisfy a match: none if it contradicts itself, one without conditions if it asks for nothing."""
    return [
        (
            *_connection(match, marks),
            *_transport(match),
            *ports,
            *_network(match, family),
            *slowed,
            *_packet(match),
            *_owner(match),
        )
        for family in _families(match)
        for ports in _ports(match)
        for slowed in _slowed(match, family)
    ]


def statements(alternative: Alternative) -> tuple[Statement, ...]:
    """The conditions as a rule has them."""
    return tuple(each.statement if isinstance(each, Exact) else each for each in alternative)


def any_of(values: Iterable[str]) -> Term:
    """One value, or an anonymous set of several."""
    texts = list(values)
    return Term(texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}")


def _families(match: shaping.Match) -> tuple[Family | None, ...]:
    """The families that a match can be of; None if it need not tell them apart."""
    able = {family.version for family in FAMILIES}
    able &= {match.family} if match.family else able
    for networks in (match.source, match.destination):
        able &= {network.version for network in networks} if networks else able
    if match.icmp_type:
        able &= {4} if set(match.protocol) <= {"icmp", "1"} else {6}
    told_apart = match.family or _tells_family(match)
    return tuple(family for family in FAMILIES if family.version in able) if told_apart else (None,)


def _tells_family(match: shaping.Match) -> bool:
    """Whether what is asked has other words in each family."""
    return bool(match.source or match.destination or match.dscp or match.icmp_type or match.slowed)


def _connection(match: shaping.Match, marks: Marks) -> Iterator[Condition]:
    if match.service is not None:
        name = match.service if match.backend is None else f"{match.service}/{match.backend}"
        values = tuple(hexed(mark) for mark in marks.of[name])
        yield Exact(And(CONNTRACK, Term(hexed(marks.field.mask))), "mark", 4, values)
    if match.packet_mark:
        value, mask = match.packet_mark
        key = PACKET if mask == _ALL_BITS else And(PACKET, Term(hexed(mask)))
        yield Exact(key, "mark", 4, (hexed(value),))


def _transport(match: shaping.Match) -> Iterator[Condition]:
    ported = match.source_port or match.destination_port or match.port
    asked = tuple(dict.fromkeys(_PROTOCOLS.get(name, name) for name in match.protocol))
    if named := asked or (_PORTED if ported else ("tcp",) if match.tcp_flags else ()):
        yield Exact(Term("meta l4proto"), "inet_proto", 4, named)


def _ports(match: shaping.Match) -> Iterator[Alternative]:
    asked = tuple(_port(side, ranges) for side, ranges in _sides(match) if ranges)
    if not match.port:
        yield asked
        return
    for side in ("sport", "dport"):
        yield (*asked, _port(side, match.port))


def _sides(match: shaping.Match) -> tuple[tuple[str, tuple[PortRange, ...]], ...]:
    return (("sport", match.source_port), ("dport", match.destination_port))


def _port(side: str, ranges: Iterable[PortRange]) -> Condition:
    key, joined = Term(f"th {side}"), joined_ranges(ranges)
    if sum(last - first + 1 for first, last in joined) <= SINGLE_PORTS:
        return Exact(key, "inet_service", 4, tuple(str(n) for first, last in joined for n in range(first, last + 1)))
    return Match(key, "", any_of([_range(first, last) for first, last in joined]))


def joined_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, without the overlaps that nft refuses."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _network(match: shaping.Match, family: Family | None) -> Iterator[Condition]:
    if family is None:
        return
    for side, networks in (("saddr", match.source), ("daddr", match.destination)):
        if texts := merged(networks, family):
            key = Term(f"{family.name} {side}")
            single = not any("/" in text for text in texts)
            yield Exact(key, family.kind, family.bits // 8, texts) if single else Match(key, "", any_of(texts))
    if match.dscp:
        yield Match(Term(f"{family.name} dscp"), "", any_of([str(number) for number in match.dscp]))
    if match.icmp_type:
        yield Match(Term("icmp type" if family is IP else "icmpv6 type"), "", any_of(match.icmp_type))
    if not _tells_family(match):
        yield Match(Term("meta nfproto"), "", Term(family.nfproto))


def _slowed(match: shaping.Match, family: Family | None) -> Iterator[Alternative]:
    if match.slowed is None or family is None:
        yield ()
        return
    found = Term(f"@{slow_set(match.slowed.guard, family.version)}")
    for side in ("saddr", "daddr"):
        yield (Match(family.network(side, family.choose(match.slowed.prefix, match.slowed.prefix6)), "", found),)


def _packet(match: shaping.Match) -> Iterator[Statement]:
    for name, device in (("iifname", match.incoming_device), ("oifname", match.outgoing_device)):
        if device:
            yield Match(Term(name), "", Term(f'"{device}"'))
    if match.tcp_flags:
        looked, present = match.tcp_flags
        yield Match(And(Term("tcp flags"), Term(_flags(looked))), "==", Term(_flags(present)))
    if match.length:
        yield Match(Term("meta length"), "", Term(_range(*match.length)))
    if match.state:
        yield Match(Term("ct state"), "", Term(",".join(match.state)))
    if match.bytes_over is not None:
        yield Match(Term("ct bytes"), ">", Term(str(match.bytes_over)))
    if match.raw:
        yield Written(match.raw)


def _owner(match: shaping.Match) -> Iterator[Statement]:
    for name, owners in (("meta skuid", match.user), ("meta skgid", match.group)):
        if owners:
            yield Match(Term(name), "", any_of([owner if owner.isdigit() else f'"{owner}"' for owner in owners]))
    if match.cgroup:
        path = match.cgroup.strip("/")
        yield Match(Term(f"socket cgroupv2 level {path.count('/') + 1}"), "", Term(f'"{path}"'))


def _flags(names: Iterable[str]) -> str:
    return f"({' | '.join(names)})" if names else "0x0"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
