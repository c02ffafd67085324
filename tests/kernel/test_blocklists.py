"""Lists in the kernel: what they name is refused, their neighbours are not, and no change leaves a gap.

client eth0 ---- eth0 guarded        packets of any source are put on the client's device
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.packets import UDP, Packet
from tests.kernel.support import eventually, unique_name

from markway.compiler.blocklists import OWNER, Layouts, blocklists_fragment, refusal_name, set_names
from markway.config.blocklisting import Blocklist, Way
from markway.guard.layouts import Difference, Layout, Place, difference, elements, layout_for
from markway.guard.lists import parse
from markway.guard.prefixes import AddressSet
from markway.kernel import netns, nft, prefix_sets, table
from markway.kernel.netlink import Netlink, NetlinkError
from markway.program.diff import diff, lines
from markway.program.model import Program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOR = Path("/usr/share/tor")
HERE = {4: "10.9.0.1", 6: "fd00:9::1"}
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
MAC = b"\x02\0\0\0\0\x01"
DRONES = Blocklist("drones")

# Whoever the lists let by is counted behind them.
WATCH = """add counter inet markway passed
add chain inet markway watch { type filter hook prerouting priority -299; }
add rule inet markway watch udp dport 9 counter name passed"""


def whole(packet: Packet) -> bytes:
    """A packet with the checksum of its header (RFC 1071), without which IPv4 does not look at it."""
    data = bytes(packet)
    if packet.version == 6:
        return data
    total = sum(struct.unpack_from("!10H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return data[:10] + struct.pack("!H", 0xFFFF ^ (total & 0xFFFF) + (total >> 16)) + data[12:]


class Guarded:
    """A namespace with one list in it."""

    def __init__(self, space: str, client: str, item: Blocklist) -> None:
        self.space, self.client, self.item = space, client, item
        self.program = Program()
        self.layout = Layout((), -1)
        self.content = AddressSet()
        with netns.enter(space):
            self.netlink = Netlink()
        with netns.enter(client):
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)

    def put(self, standing: Layouts) -> None:
        """Bring the list's rules and sets into force as any other fragment."""
        program = Program({OWNER: blocklists_fragment([self.item], {self.item.name: standing})})
        with netns.enter(self.space):
            nft.run("\n".join(lines(diff(self.program, program))))
            if not self.program.fragments:
                nft.run(WATCH)
        self.program = program

    def load(self, content: AddressSet) -> None:
        """Fill sets aside, then have the rules refer to them."""
        layout = layout_for(content, self.layout)
        assert layout != self.layout, "a change, and no load"
        self.put(Layouts(self.layout, layout))  # without any sets, the first time
        prefix_sets.fill(self.netlink, set_names(self.item.name, layout), elements(content.spans, layout))
        self.put(Layouts(layout))
        self.layout, self.content = layout, content

    def change(self, content: AddressSet) -> Difference:
        """Change the sets in force by what differs."""
        assert layout_for(content, self.layout) is self.layout
        change = difference(self.content.spans, content.spans, self.layout)
        prefix_sets.change(self.netlink, self.names, change)
        self.content = content
        return change

    @property
    def names(self) -> dict[Place, str]:
        return set_names(self.item.name, self.layout)

    def faults(self, samples: int = 64) -> list[str]:
        found = {place: len(firsts) for place, firsts in elements(self.content.spans, self.layout).items()}
        return prefix_sets.faults(
            self.netlink, self.names, self.content, found, chance=random.Random(1), samples=samples
        )

    def refuses(self, sources: Iterable[str]) -> list[bool]:
        """Whether a packet of each source is refused."""
        return [self._refused(Packet(UDP, source, HERE[6 if ":" in source else 4])) for source in sources]

    def _refused(self, packet: Packet) -> bool:
        refused, passed = self.counts()
        self.wire.sendto(whole(packet), ("eth0", ETHERTYPES[packet.version], 0, 0, MAC))
        eventually(lambda: sum(self.counts()) > refused + passed)
        return self.counts()[0] > refused

    def counts(self) -> tuple[int, int]:
        counters = table.read_counters(self.netlink)
        return counters[refusal_name(self.item.name)].packets, counters["passed"].packets


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    space, client = (f"mwt-{unique_name()}-{side}" for side in ("g", "c"))
    netns.create([space, client])
    try:
        netns.ip(None, [f"link add eth0 netns {space} type veth peer name eth0 netns {client}"])
        for name in (space, client):
            netns.sysctl(name, {"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0"})
            netns.ip(name, ["link set lo up", "link set eth0 up"])
        netns.sysctl(space, {"ipv4/conf/all/rp_filter": "0", "ipv4/conf/eth0/rp_filter": "0"})
        netns.ip(space, [f"addr add {HERE[4]}/24 dev eth0", f"addr add {HERE[6]}/64 dev eth0 nodad"])
        netns.ip(space, [f"link set eth0 address {MAC.hex(':')}"])
        yield space, client
    finally:
        netns.delete([space, client])


@pytest.fixture
def guarded(pair: tuple[str, str]) -> Guarded:
    return Guarded(*pair, DRONES)


@pytest.mark.parametrize(("devices", "refused"), [(("eth0", "eth1"), True), (("eth1",), False)])
def test_a_list_may_be_of_some_devices_only(pair: tuple[str, str], devices: tuple[str, ...], refused: bool) -> None:
    guarded = Guarded(*pair, replace(DRONES, devices=devices, direction=Way.BOTH))
    guarded.load(parse(b"10.9.0.8/30").content)
    assert guarded.refuses(["10.9.0.9", "10.9.0.7"]) == [refused, False]
    begun = guarded.counts()[0]
    with netns.enter(guarded.space):
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with wire, contextlib.suppress(PermissionError):  # what is dropped on its way out
        wire.sendto(b"", ("10.9.0.9", 9))
    assert (guarded.counts()[0] > begun) is refused


def content(*entries: str) -> AddressSet:
    found = parse("\n".join(entries).encode())
    assert not found.faults
    return found.content


LIST = ("192.0.2.7", "198.51.100.0/25", "203.0.113.9-203.0.113.20", "2001:db8:1::/48", "2001:db8:2::5")
HITS = (
    "192.0.2.7",
    "198.51.100.0",
    "198.51.100.127",
    "203.0.113.9",
    "203.0.113.20",
    "2001:db8:1:ffff::",
    "2001:db8:2::5",
)
MISSES = ("192.0.2.6", "192.0.2.8", "198.51.100.128", "203.0.113.8", "203.0.113.21", "2001:db8:2::4", "2001:db8::")


def test_what_a_list_names_is_refused_and_its_neighbours_are_not(guarded: Guarded):
    guarded.load(content(*LIST))
    assert guarded.faults() == []
    assert guarded.refuses(HITS) == [True] * len(HITS)
    assert guarded.refuses(MISSES) == [False] * len(MISSES)


def test_one_more_and_one_less_are_one_transaction_each(guarded: Guarded):
    guarded.load(content(*LIST))
    more = guarded.change(content(*LIST, "192.0.2.99"))
    assert (more.size, guarded.refuses(["192.0.2.99", "192.0.2.7"])) == (1, [True, True])
    less = guarded.change(content(*LIST[1:], "192.0.2.99"))
    assert (less.size, guarded.refuses(["192.0.2.99", "192.0.2.7"])) == (1, [True, False])
    assert guarded.faults() == []


def test_a_change_that_the_kernel_refuses_changes_nothing(guarded: Guarded):
    guarded.load(content(*LIST))
    place = Place(4, 32)
    mixed = Difference({place: [1]}, {place: [int(IPv4Address("192.0.2.99"))]})
    with pytest.raises(NetlinkError) as gone:
        prefix_sets.change(guarded.netlink, guarded.names, mixed)
    assert gone.value.errno == errno.ENOENT
    many = Difference({}, {place: list(range(5000))})
    with pytest.raises(NetlinkError) as full:
        prefix_sets.change(guarded.netlink, guarded.names, many)
    assert full.value.errno == errno.ENFILE
    assert guarded.faults() == []
    assert guarded.refuses(["192.0.2.99", "0.0.0.5"]) == [False, False]


def test_a_load_that_fails_midway_leaves_the_list_in_force(guarded: Guarded):
    guarded.load(content(*LIST))
    layout = Layout(guarded.layout.rooms, 1)
    guarded.put(Layouts(guarded.layout, layout))
    with pytest.raises(NetlinkError):
        prefix_sets.fill(guarded.netlink, set_names("drones", layout), {Place(4, 32): list(range(5000))})
    assert guarded.refuses(HITS) == [True] * len(HITS)
    guarded.put(Layouts(guarded.layout))
    assert guarded.faults() == []


def test_a_list_that_outgrows_its_sets_gets_others_and_keeps_its_counter(guarded: Guarded):
    guarded.load(content(*LIST))
    guarded.refuses(HITS)
    old = guarded.names
    guarded.load(content(*LIST, *(f"10.{high}.{low}.1" for high in range(10, 20) for low in range(250))))
    assert set(old.values()).isdisjoint(guarded.names.values())
    assert guarded.counts()[0] == len(HITS)
    assert guarded.faults() == []
    assert guarded.refuses(["10.12.7.1", "10.12.7.2", "192.0.2.7"]) == [True, False, True]
    assert prefix_sets.count(guarded.netlink, guarded.names[Place(4, 32)]) in {None, 2500 + 1 + 128 + 12}


def test_a_set_that_somebody_emptied_or_added_to_is_found_out(guarded: Guarded):
    guarded.load(content(*LIST))
    more = Difference({}, {Place(4, 32): [int(IPv4Address("192.0.2.8"))]})
    prefix_sets.change(guarded.netlink, guarded.names, more)
    assert guarded.faults()
    prefix_sets.clear(guarded.netlink, guarded.names.values())
    assert guarded.faults()


@pytest.mark.parametrize(
    ("way", "wanted"), [(Way.IN, [True, False]), (Way.OUT, [False, True]), (Way.BOTH, [True, True])]
)
def test_a_direction(pair: tuple[str, str], way: Way, wanted: list[bool]):
    guarded = Guarded(*pair, Blocklist("drones", direction=way))
    guarded.load(content("192.0.2.7"))
    found = [guarded._refused(Packet(UDP, *two)) for two in (("192.0.2.7", HERE[4]), ("10.9.0.2", "192.0.2.7"))]
    assert found == wanted
    netns.ip(pair[0], ["route add 192.0.2.0/24 dev eth0"])
    with netns.enter(pair[0]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        refused = contextlib.nullcontext() if way is Way.IN else pytest.raises(PermissionError)
        with refused:
            own.sendto(b"x", ("192.0.2.7", 9))


def test_what_this_machine_tells_itself_passes(pair: tuple[str, str]):
    guarded = Guarded(*pair, Blocklist("bogons", direction=Way.BOTH))
    guarded.load(content("127.0.0.0/8", "10.0.0.0/8", "::1"))
    for address in ("127.0.0.1", HERE[4], "::1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.enter(pair[0]), socket.socket(family, socket.SOCK_DGRAM) as own:
            own.bind((address, 0))
            own.settimeout(10)
            own.sendto(b"x", own.getsockname())
            assert own.recv(1) == b"x"


def tor_ranges() -> Iterator[tuple[str, str]]:
    """First and last address of each range in Debian's tor-geoipdb, whatever country it is of."""
    for name in ("geoip", "geoip6"):
        for line in (TOR / name).read_text(encoding="ascii").splitlines():
            if not line.startswith("#"):
                first, last, _ = line.split(",")
                yield (first, last) if name == "geoip6" else (dotted(first), dotted(last))


def dotted(number: str) -> str:
    return socket.inet_ntoa(struct.pack("!I", int(number)))


def test_a_real_list_of_hundreds_of_thousands_of_ranges(guarded: Guarded):
    """Every second range of it: all of them together are a few large ones."""
    ranges = list(tor_ranges())[::2]
    found = parse("\n".join(f"{first}-{last}" for first, last in ranges).encode())
    assert (found.entries, found.faulty, found.hosts) == (len(ranges), 0, 0)
    assert found.entries > 300_000
    guarded.load(found.content)
    assert guarded.faults(300) == []
    chance = random.Random(2)
    firsts = {first for first, _ in ranges}
    chosen = [tuple(map(ip_address, one)) for one in chance.sample(ranges, 150)]
    hits = [str(type(first)(chance.randint(int(first), int(last)))) for first, last in chosen]
    assert guarded.refuses(hits) == [True] * len(hits)
    beside = [str(last + 1) for _, last in chosen if str(last + 1) not in firsts]
    assert len(beside) > 100
    assert guarded.refuses(beside) == [False] * len(beside)


def test_a_network_of_the_allow_list_is_not_refused(guarded: Guarded):
    guarded.load(content(*LIST) - AddressSet.of([ip_network("198.51.100.64/26"), ip_network("2001:db8:1:1::/64")]))
    sources = ["198.51.100.63", "198.51.100.64", "2001:db8:1:1::1", "2001:db8:1:2::1"]
    assert guarded.refuses(sources) == [True, False, False, True]
