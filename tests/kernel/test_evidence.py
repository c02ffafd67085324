"""The kernel tells which backend shows signs of death, at once, and of no other.

client1, client2 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b
                                                            |
                                       this test listens, where the daemon would
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import eventually, in_force, marks, unique_name

from markway.compiler.evidence import GROUP, PER_SECOND
from markway.kernel import netns, nft
from markway.kernel.netlink import NetlinkError
from markway.kernel.nflog import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

pytestmark = pytest.mark.needs("nft_log")

ADDRESSES = {4: "192.0.2.10:80", 6: "[2001:db8::10]:80"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])
MODES = pytest.mark.parametrize("mode", ["dnat", "snat"])
DROP_ALL = "table inet dead { chain in { type filter hook input priority 0; th dport 8080 drop; }; }"


def config(mode: str = "dnat", passive: str = "true") -> str:
    return f"""
[service.web]
listen = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]
mode = "{mode}"
check = {{ tcp = true, passive = {passive} }}
[service.web.backend.a]
address = ["192.168.1.10:8080", "[fd00:1::10]:8080"]
[service.web.backend.b]
address = ["192.168.1.11:8080", "[fd00:1::11]:8080"]
"""


class Told:
    """What the kernel has told so far: how often of each mark."""

    def __init__(self, log: Log, own: dict[str, int]) -> None:
        self.log = log
        self._names = {mark: name for name, mark in own.items()}
        self.raw: list[int] = []

    @property
    def of(self) -> list[str]:
        """The backends told of, each as often as it was."""
        self.raw += self.log.marks()
        return [self._names[mark & 0xFF] for mark in self.raw]


@contextmanager
def listening(text: str) -> Iterator[tuple[Lab, Told]]:
    with ExitStack() as stack:
        lab = stack.enter_context(in_force(text))
        with netns.enter(lab.director.namespace):
            log = stack.enter_context(Log(GROUP))
        yield lab, Told(log, marks(lab, "web"))


@contextmanager
def asking(lab: Lab, version: int, count: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[None]:
    """Connections begun, or datagrams sent, by a client that does not wait for the outcome."""
    family, address = (socket.AF_INET, "192.0.2.10") if version == 4 else (socket.AF_INET6, "2001:db8::10")
    with ExitStack() as stack:
        for _ in range(count):
            with netns.enter(lab.clients[0].namespace):
                opened = stack.enter_context(socket.socket(family, kind))
            opened.setblocking(False)
            opened.connect_ex((address, 80))
            if kind is socket.SOCK_DGRAM:
                opened.send(b"anyone?")
        yield


@VERSIONS
@MODES
def test_a_killed_server_is_told_of_by_its_resets_and_no_other(version, mode):
    with listening(config(mode)) as (lab, told):
        assert not lab.fetch(ADDRESSES[version], 100).failed
        assert told.of == []
        lab.stop("a")
        assert lab.fetch(ADDRESSES[version], 100).failed == 50
        eventually(lambda: told.of)
        assert set(told.of) == {"a"}
        lab.start("a")
        before = told.of
        assert not lab.fetch(ADDRESSES[version], 100).failed
        assert told.of == before


@VERSIONS
@MODES
def test_a_server_that_says_nothing_is_told_of_when_the_client_asks_again(version, mode):
    with listening(config(mode)) as (lab, told):
        lab.host("b").run("nft", DROP_ALL)
        with asking(lab, version, 4):
            eventually(lambda: told.of)
        assert set(told.of) == {"b"}


@VERSIONS
@MODES
def test_a_server_without_a_process_is_told_of_by_one_datagram(version, mode):
    with listening(config(mode)) as (lab, told):
        lab.stop("a")
        with asking(lab, version, 2, socket.SOCK_DGRAM):
            eventually(lambda: told.of)
        assert told.of == ["a"]


@VERSIONS
@MODES
def test_a_server_that_is_gone_is_told_of_by_one_datagram(version, mode):
    """The director itself finds that there is no such neighbour, and says so to the client."""
    with listening(config(mode)) as (lab, told):
        lab.host("a").run("ip", "link", "set", "eth0", "down")
        with asking(lab, version, 2, socket.SOCK_DGRAM):
            eventually(lambda: told.of)
        assert set(told.of) == {"a"}


@VERSIONS
def test_a_server_that_is_gone_is_told_of_by_its_old_connections(version):
    with listening(config()) as (lab, told), lab.clients[0].hold(ADDRESSES[version], 10) as holding:
        assert holding.opened.open == 10
        lab.host("a").run("ip", "link", "set", "eth0", "down")
        lab.director.run("ip", "neigh", "flush", "all")
        assert told.of == []
        holding.ask()
        eventually(lambda: told.of)
        assert set(told.of) == {"a"}


@MODES
def test_healthy_and_busy_is_no_sign(mode):
    with listening(config(mode)) as (lab, told):
        for address in ADDRESSES.values():
            with lab.clients[1].hold(address, 20) as holding:
                assert not lab.fetch(address, 500).failed
                assert holding.report().open == 20
            assert not lab.fetch(address, 200, udp=True).failed
        assert told.of == []


def test_a_service_whose_check_is_not_passive_is_not_told_of():
    with listening(config(passive="false")) as (lab, told):
        lab.stop("a")
        assert lab.fetch(ADDRESSES[4], 20).failed == 10
        assert told.of == []


def test_a_flood_is_told_of_ten_times_a_second():
    with listening(config()) as (lab, told), ExitStack() as stack:
        for name in "ab":
            lab.host(name).run("nft", DROP_ALL)
        with netns.enter(lab.clients[0].namespace):
            flood = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        begun = time.monotonic()
        for _ in range(500):
            for opened in flood:
                opened.sendto(b"still there?", ("192.0.2.10", 80))
        eventually(lambda: set(told.of) == {"a", "b"})
        most = 2 * (1 + PER_SECOND * (time.monotonic() - begun))
        assert len(told.of) <= most


@pytest.mark.virtual_time
def test_a_mark_is_told_of_again_after_a_tenth_of_a_second(pass_time):
    with listening(config()) as (lab, told), ExitStack() as stack:
        lab.host("a").run("nft", DROP_ALL)
        lab.host("b").run("nft", DROP_ALL)
        with netns.enter(lab.clients[0].namespace):
            opened = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened.sendto(b"one", ("192.0.2.10", 80))
        for _ in range(20):
            opened.sendto(b"more", ("192.0.2.10", 80))
            pass_time(0.05)
        assert len(told.of) == 10


def test_foreign_bits_survive_where_signs_are_told_of():
    """Others mark packets and connections early; what leaves has their bits and ours."""
    with listening(config()) as (lab, told):
        lab.nft("add table inet their")
        lab.nft("add chain inet their early { type filter hook prerouting priority -180; }")
        lab.nft("add rule inet their early meta mark set 0xa5000000")
        lab.nft("add rule inet their early ct mark 0 ct mark set 0x005a0000")
        lab.nft("add set inet their seen { type mark . mark; flags dynamic; size 999; }")
        lab.nft("add chain inet their late { type filter hook postrouting priority 300; }")
        lab.nft("add rule inet their late meta l4proto { tcp, udp } add @seen { meta mark . ct mark }")
        lab.host("a").run("nft", DROP_ALL)
        with asking(lab, 4, 4):
            eventually(lambda: told.of)
        assert set(told.of) == {"a"}
        assert all(mark & ~0xFF == 0xA500_0000 for mark in told.raw)
        own = marks(lab, "web").values()
        seen = re.findall(r"(0x\w+) \. (0x\w+)", lab.nft("list", "set", "inet", "their", "seen"))
        assert set(seen) == {(f"0x{0xA500_0000 | mark:08x}", f"0x{0x005A_0000 | mark:08x}") for mark in own}


def test_messages_that_nobody_reads_are_lost_and_the_next_ones_come():
    space = unique_name()
    netns.create([space])
    try:
        netns.ip(space, ["link set lo up"])
        with netns.enter(space):
            nft.run("table ip t { chain c { type filter hook output priority 0; udp dport 9 log group 7; }; }")
            log, sender = Log(7), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with log, sender, socket.socket(fileno=os.dup(log.fileno())) as same:
            sender.setsockopt(socket.SOL_SOCKET, 36, 0x2A)  # SO_MARK
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            for _ in range(500):
                sender.sendto(b"", ("127.0.0.1", 9))
            kept = list(log.marks())
            assert set(kept) == {0x2A}
            assert len(kept) < 500
            assert log.lost == 1
            sender.setsockopt(socket.SOL_SOCKET, 36, 0x2B)
            sender.sendto(b"", ("127.0.0.1", 9))
            assert list(log.marks()) == [0x2B]
    finally:
        netns.delete([space])


def test_two_cannot_listen_to_one_group():
    space = unique_name()
    netns.create([space])
    try:
        with netns.enter(space), Log(7), pytest.raises(NetlinkError, match="not permitted"):
            Log(7)
    finally:
        netns.delete([space])
