"""Matches as u32 filters, for a device where packets are seen before netfilter: by the bits of their headers only."""

from __future__ import annotations

from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from markway.compiler.abilities import CompileError
from markway.compiler.matches import joined_ranges
from markway.config.shaping import Key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from markway.config.model import Network, PortRange
    from markway.config.shaping import Match

Keys: TypeAlias = tuple[Key, ...]

PROTOCOLS: Mapping[str, int] = MappingProxyType(
    {
        "icmp": 1,
        "tcp": 6,
        "udp": 17,
        "dccp": 33,
        "gre": 47,
        "esp": 50,
        "ah": 51,
        "icmpv6": 58,
        "sctp": 132,
        "udplite": 136,
    }
)
"""Numbers of the protocols that a match can name (IANA)."""

_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr")
_PORTED = ("tcp", "udp")
_IPV6_HEADER = 40
_LONGEST = 0xFFFF
_WORD = 32
_NO_CONNECTION = "of a packet that has just arrived the kernel knows no connection, no socket and no mark yet"
_UNSAYABLE: Mapping[str, str] = MappingProxyType(
    {
        "service": "service",
        "slowed": "guard",
        "incoming_device": "incoming-device",
        "outgoing_device": "outgoing-device",
        "icmp_type": "icmp-type",
        "state": "state",
        "bytes_over": "bytes-over",
        "user": "user",
        "group": "group",
        "cgroup": "cgroup",
        "packet_mark": "mark",
        "raw": "nft",
    }
)


def unsayable(match: Match) -> str:
    """The first key of a match, as the file writes it, that u32 cannot say; empty if it can say it all."""
    return next((word for name, word in _UNSAYABLE.items() if getattr(match, name) not in (None, ())), "")


def refusal(match: Match, device: str) -> CompileError:
    """What is said of a match that can be asked only where a packet leaves."""
    return CompileError(
        match.origin,
        f"`{unsayable(match)}` cannot be asked of what arrives at {device}: {_NO_CONNECTION}",
        'name the one device behind which the receivers are, as inside = "lan0": it is asked on the way out there',
    )


def u32_keys(match: Match, version: int) -> Iterator[Keys]:
    """All ways to satisfy a match with packets of a family, each the keys of one filter; none if it is of the other."""
    if match.family not in (None, version):
        return
    sources, destinations = _side(match.source, version, 0), _side(match.destination, version, 1)
    for alternative in product(
        _protocols(match, version), sources, destinations, _ports(match), _dscp(match, version), _length(match, version)
    ):
        keys = tuple(key for part in alternative for key in part)
        yield (*keys, *_flags(match))


def _protocols(match: Match, version: int) -> list[Keys]:
    ported = match.source_port or match.destination_port or match.port
    names = match.protocol or (_PORTED if ported else ("tcp",) if match.tcp_flags else ())
    numbers = dict.fromkeys(PROTOCOLS[name] if name in PROTOCOLS else int(name) for name in names)
    return [(Key(1, number, 0xFF, 9 if version == 4 else 6),) for number in numbers] or [()]  # noqa: PLR2004


def _side(networks: Sequence[Network], version: int, index: int) -> list[Keys]:
    """Addresses, word by word; a side that has only the other family's matches nothing."""
    if not networks:
        return [()]
    start = 12 + 4 * index if version == 4 else 8 + 16 * index  # noqa: PLR2004
    return [tuple(_words(network, start)) for network in networks if network.version == version]


def _words(network: Network, start: int) -> Iterator[Key]:
    address, mask, bits = int(network.network_address), int(network.netmask), network.max_prefixlen
    for word in range(bits // _WORD):
        shift = bits - _WORD * (word + 1)
        part = mask >> shift & 0xFFFF_FFFF
        if part:
            yield Key(4, address >> shift & part, part, start + 4 * word)


def _ports(match: Match) -> Iterator[Keys]:
    sides = [_port_keys(match.source_port, 0), _port_keys(match.destination_port, 2)]
    for asked in product(*sides):
        keys = tuple(key for part in asked for key in part)
        if not match.port:
            yield keys
            continue
        for offset in (0, 2):
            yield from ((*keys, *more) for more in _port_keys(match.port, offset))


def _port_keys(ranges: Sequence[PortRange], offset: int) -> list[Keys]:
    if not ranges:
        return [()]
    pairs = (pair for first, last in joined_ranges(ranges) for pair in masked(first, last))
    return [(Key(2, value, mask, offset, "next"),) for value, mask in pairs]


def masked(first: int, last: int) -> Iterator[tuple[int, int]]:
    """A range of 16-bit numbers as the fewest values with masks."""
    while first <= last:
        size = min(first & -first or 1 << 16, 1 << (last - first + 1).bit_length() - 1)
        yield first, 0x1_0000 - size
        first += size


def _dscp(match: Match, version: int) -> list[Keys]:
    if version == 4:  # noqa: PLR2004
        return [(Key(1, number << 2, 0xFC, 1),) for number in match.dscp] or [()]
    return [(Key(2, number << 6, 0x0FC0, 0),) for number in match.dscp] or [()]


def _length(match: Match, version: int) -> list[Keys]:
    """The length from the IP header on; in IPv6's header is what follows it."""
    if not match.length:
        return [()]
    shorter, offset = (0, 2) if version == 4 else (_IPV6_HEADER, 4)  # noqa: PLR2004
    first, last = max(match.length[0] - shorter, 0), min(match.length[1] - shorter, _LONGEST)
    return [() if mask == 0 else (Key(2, value, mask, offset),) for value, mask in masked(first, last)]


def _flags(match: Match) -> Keys:
    if not match.tcp_flags:
        return ()
    looked, present = (sum(1 << _FLAGS.index(name) for name in names) for names in match.tcp_flags)
    return (Key(1, present, looked, 13, "next"),)
