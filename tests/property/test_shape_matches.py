"""What a match says, said by nft and by u32: the same packets, and the first match has them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from markway.compiler.lookups import PRIORITY, Lookups
from markway.compiler.matches import Marks, alternatives, joined_ranges
from markway.compiler.selectors import PROTOCOLS, masked, u32_keys
from markway.config.guarding import Slowed
from markway.config.model import PortRange
from markway.config.shaping import Match
from markway.marks import Field
from markway.program import nft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.shaping import Key

SETTINGS = settings(max_examples=300, deadline=None)
SERVERS = Marks(Field(0xFF), {"web": (1, 2), "web/a": (1,), "web/b": (2,), "mail": (3,)})
SLOWED = {"@guard/ssh/slow/4": {"10.0.0.2"}, "@guard/ssh/slow/6": {"fd00::2"}}
"""Whom the guard slows whose sources are a /31 and a /127."""
V4, V6 = [f"10.0.0.{n}" for n in range(4)], [f"fd00::{n}" for n in range(4)]
NETWORKS = ["10.0.0.0/31", "10.0.0.0/30", "fd00::/127", "fd00::2/127", *V4, *V6]
PORTS, LENGTHS = range(1, 8), range(40, 104)


@dataclass(frozen=True)
class Packet:
    """What matches look at."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: str
    source_port: int
    destination_port: int
    mark: int
    server: int
    dscp: int
    length: int
    options: int
    fragment: int

    @property
    def bytes(self) -> bytes:
        """The headers (RFC 791, RFC 8200), with IPv4's options."""
        ends = self.source.packed + self.destination.packed
        ports = self.source_port.to_bytes(2) + self.destination_port.to_bytes(2)
        number = PROTOCOLS[self.protocol].to_bytes()
        if self.source.version == 6:
            first = (6 << 28 | self.dscp << 22).to_bytes(4)
            return first + (self.length - 40).to_bytes(2) + number + b"\x40" + ends + ports
        first = bytes([0x45 + self.options, self.dscp << 2])
        fragment = self.fragment.to_bytes(2)
        head = first + self.length.to_bytes(2) + b"\0\0" + fragment + b"\x40" + number + b"\0\0" + ends
        return head + b"\1" * 4 * self.options + ports


def ranges() -> st.SearchStrategy[tuple[PortRange, ...]]:
    pairs = st.tuples(st.sampled_from(PORTS), st.sampled_from([*PORTS, 400]))
    few = st.lists(pairs.map(lambda pair: PortRange(min(pair), max(pair))), max_size=2, unique=True)
    return st.one_of(st.just(()), few.map(tuple))


def some(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.one_of(st.just(()), st.lists(st.sampled_from(values), max_size=2, unique=True).map(tuple))


def networks() -> st.SearchStrategy[tuple[object, ...]]:
    return some(NETWORKS).map(lambda texts: tuple(ip_network(text) for text in texts))


HEADERS = {
    "family": st.sampled_from([None, None, 4, 6]),
    "protocol": some(["tcp", "udp"]),
    "source": networks(),
    "destination": networks(),
    "source_port": ranges(),
    "destination_port": ranges(),
    "port": ranges(),
    "dscp": st.sampled_from([(), (), (46,), (8, 46)]),
    "length": st.one_of(
        st.none(), st.tuples(st.sampled_from(LENGTHS), st.sampled_from(LENGTHS)).map(sorted).map(tuple)
    ),
}
SAID = st.builds(Match, **HEADERS)
SIMPLE = st.one_of(
    st.builds(Match, protocol=some(["tcp", "udp"]), destination_port=ranges()),
    st.builds(Match, source=networks()),
    st.builds(Match, service=st.sampled_from(["web", "mail"])),
    st.builds(Match, service=st.just("web"), backend=st.sampled_from(["a", "b"])),
    st.builds(Match, packet_mark=st.tuples(st.integers(0, 3), st.sampled_from([3, 0xFFFF_FFFF]))),
    st.builds(Match, slowed=st.just(Slowed("ssh", 31, 127)), **HEADERS),
    st.builds(Match, service=st.sampled_from([None, "web"]), **HEADERS),
)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    among = draw(st.sampled_from([V4, V6]))
    address, port = st.sampled_from(among), st.sampled_from(PORTS)
    four = among is V4
    return Packet(
        ip_address(draw(address)), ip_address(draw(address)), draw(st.sampled_from(["tcp", "udp", "icmp"])), draw(port),
        draw(port), draw(st.integers(0, 4)), draw(st.integers(0, 3)), draw(st.sampled_from([0, 8, 46])),
        draw(st.sampled_from(LENGTHS)), draw(st.integers(0, 2)) if four else 0,
        draw(st.sampled_from([0, 0x4000, 0x2000, 5])) if four else 0,
    )  # fmt: skip


def holds(match: Match, packet: Packet) -> bool:
    """Whether a packet is what a match says, as its words have it."""

    def within(asked: tuple[PortRange, ...], *ports: int) -> bool:
        return not asked or any(first <= port <= last for first, last in asked for port in ports)

    web = {None: (1, 2), "a": (1,), "b": (2,)}
    servers = {None: range(256), "web": web.get(match.backend, ()), "mail": (3,)}
    ported = match.source_port or match.destination_port or match.port
    value, mask = match.packet_mark or (0, 0)
    return (
        packet.server in servers[match.service]
        and match.family in (None, packet.source.version)
        and packet.protocol in (match.protocol or (("tcp", "udp") if ported else ("tcp", "udp", "icmp")))
        and (not match.source or any(packet.source in network for network in match.source))
        and (not match.destination or any(packet.destination in network for network in match.destination))
        and within(match.source_port, packet.source_port)
        and within(match.destination_port, packet.destination_port)
        and within(match.port, packet.source_port, packet.destination_port)
        and (not match.dscp or packet.dscp in match.dscp)
        and (not match.length or match.length[0] <= packet.length <= match.length[1])
        and packet.mark & mask == value
        and (not match.slowed or any(str(end)[-1] in "23" for end in (packet.source, packet.destination)))
    )


def value_of(packet: Packet, key: object) -> str | None:
    """What nft reads of a packet; None where it is of another family, and the rule ends."""
    if isinstance(key, nft.Concat):
        values = [value_of(packet, part) for part in key.parts]
        return None if None in values else " . ".join(map(str, values))
    if isinstance(key, nft.And) and "addr" in str(key):
        address, mask = value_of(packet, key.left), int(ip_address(str(key.mask)))
        return None if address is None else str(type(ip_address(address))(int(ip_address(address)) & mask))
    if isinstance(key, nft.And):
        mark = {"ct mark": packet.server, "meta mark": packet.mark}[str(key.left)]
        return f"0x{mark & int(str(key.mask), 16):08x}"
    name, (family, _, side) = str(key), str(key).partition(" ")
    if family in {"ip", "ip6"}:
        if (packet.source.version == 6) != (family == "ip6"):
            return None
        return {"saddr": str(packet.source), "daddr": str(packet.destination), "dscp": str(packet.dscp)}[side]
    return {
        "meta mark": f"0x{packet.mark:08x}",
        "meta l4proto": packet.protocol,
        "meta nfproto": f"ipv{packet.source.version}",
        "meta length": str(packet.length),
        "th sport": str(packet.source_port),
        "th dport": str(packet.destination_port),
    }[name]


def compares(packet: Packet, match: nft.Match) -> bool:
    value = value_of(packet, match.left)
    if str(match.right) in SLOWED:
        return value in SLOWED[str(match.right)]
    return value is not None and any(is_in(value, each) for each in str(match.right).strip("{} ").split(", "))


def is_in(value: str, right: str) -> bool:
    if "/" in right:
        return ip_address(value) in ip_network(right)
    first, dash, last = right.partition("-")
    return int(first) <= int(value) <= int(last) if dash else value == right


def classified(lookups: Lookups, packet: Packet) -> str | None:
    """Which class a chain gives a packet to."""
    for *conditions, assign, _ in lookups.rules:
        assert isinstance(assign, nft.Assign)
        assert assign.target == PRIORITY
        if not all(compares(packet, each) for each in conditions if isinstance(each, nft.Match)):
            continue
        if not isinstance(assign.value, nft.Mapped):
            return str(assign.value)
        found = lookups.elements[assign.value.name].get(str(value_of(packet, assign.value.key)))
        if found:
            return found
    return None


@SETTINGS
@given(st.lists(SIMPLE, max_size=8), st.lists(packets(), min_size=1, max_size=8))
def test_the_chain_gives_each_packet_to_its_first_match(matches, seen):
    lookups = Lookups()
    wanted = [(alternative, str(n)) for n, match in enumerate(matches) for alternative in alternatives(match, SERVERS)]
    lookups.add("shape/x", wanted)
    for packet in seen:
        first = next((str(number) for number, match in enumerate(matches) if holds(match, packet)), None)
        assert classified(lookups, packet) == first


def reads(keys: tuple[Key, ...], packet: Packet) -> bool:
    """Whether u32 finds all keys; of a later fragment there is no next header."""
    start = 40 if packet.source.version == 6 else 4 * (packet.bytes[0] & 15)
    for key in keys:
        if key.base == "next" and packet.fragment & 0x1FFF:
            return False
        at = key.offset + (start if key.base == "next" else 0)
        if int.from_bytes(packet.bytes[at : at + key.width]) & key.mask != key.value:
            return False
    return True


@SETTINGS
@given(SAID, st.lists(packets(), min_size=1, max_size=8))
def test_u32_finds_what_the_match_says(match, seen):
    ported = match.source_port or match.destination_port or match.port
    for packet in seen:
        found = any(reads(keys, packet) for keys in u32_keys(match, packet.source.version))
        later = bool(packet.fragment & 0x1FFF and ported)
        assert found == (holds(match, packet) and not later)


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted).map(tuple), max_size=5))
def test_joined_ranges_are_the_same_numbers_without_neighbours(ranges):
    joined = joined_ranges(ranges)
    assert numbers(joined) == numbers(ranges)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(joined))


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@SETTINGS
@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_range_is_covered_once_by_values_with_masks(one, other):
    first, last = sorted((one, other))
    pairs = list(masked(first, last))
    assert len(pairs) <= 30
    assert sum(0x1_0000 - mask for _, mask in pairs) == last - first + 1
    assert all(value & mask == value for value, mask in pairs)
    assert covered(pairs) == [(first, last)]


def covered(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    def joined() -> Iterator[tuple[int, int]]:
        now: tuple[int, int] | None = None
        for value, mask in pairs:
            end = value + 0xFFFF - mask
            if now and now[1] + 1 == value:
                now = now[0], end
            else:
                if now:
                    yield now
                now = value, end
        if now:
            yield now

    return list(joined())
