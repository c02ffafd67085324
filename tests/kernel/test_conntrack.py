"""Connections of one backend are removed from the table, and no others; what becomes of them then.

client1, client2 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import apply, flows, in_force, marks, unique_name

from markway.config.model import Protocol
from markway.kernel import netns
from markway.kernel.conntrack import connections_by_mark, forget
from markway.kernel.netlink import Message, Netlink, attribute, nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

ADDRESSES = {4: "192.0.2.10:80", 6: "[2001:db8::10]:80"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])
BOTH = set(Protocol)
FOREIGN = 0x005A_0000


def config(lines: str = "", weight: int = 1) -> str:
    return f"""
[service.web]
listen = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]
{lines}
[service.web.backend.a]
address = ["192.168.1.10:8080", "[fd00:1::10]:8080"]
weight = {weight}
[service.web.backend.b]
address = ["192.168.1.11:8080", "[fd00:1::11]:8080"]
"""


def cut(lab: Lab, names: str, protocols: set[Protocol] = BOTH) -> int:
    own = marks(lab, "web")
    with netns.enter(lab.director.namespace), Netlink() as netlink:
        return forget(netlink, 0xFF, {own[name] for name in names}, protocols)


def left(lab: Lab) -> set[tuple[str, str, int]]:
    """Protocol, client and mark of each connection to the service."""
    return {(flow.protocol, flow.client, flow.mark) for flow in flows(lab, 80)}


@contextmanager
def talkers(lab: Lab, version: int, count: int) -> Iterator[list[socket.socket]]:
    """UDP clients, each with a port that it keeps."""
    family, address = (socket.AF_INET, "192.0.2.10") if version == 4 else (socket.AF_INET6, "2001:db8::10")
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            with netns.enter(lab.clients[0].namespace):
                opened.append(stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)))
            opened[-1].settimeout(20)
            opened[-1].connect((address, 80))
        yield opened


def answers(opened: list[socket.socket]) -> list[str]:
    """Who answers each of them."""
    for each in opened:
        each.send(b"who?")
    return [each.recv(64).decode().strip() for each in opened]


@VERSIONS
def test_udp_flows_of_a_backend_move_with_their_next_packet_and_the_others_stay(version):
    with in_force(config()) as lab, talkers(lab, version, 20) as opened:
        before = answers(opened)
        assert sorted(before) == ["a"] * 10 + ["b"] * 10
        assert not lab.clients[1].fetch(ADDRESSES[version], 10).failed
        apply(lab, config(weight=0))
        assert answers(opened) == before
        tcp = {flow for flow in left(lab) if flow[0] == "tcp"}
        assert cut(lab, "a", {Protocol.UDP}) == 10
        assert {flow for flow in left(lab) if flow[0] == "tcp"} == tcp
        assert answers(opened) == ["b"] * 20
        assert cut(lab, "a", {Protocol.UDP}) == 0


@VERSIONS
@pytest.mark.parametrize("whose", ["a", "b", "ab"])
@pytest.mark.parametrize("protocols", [{Protocol.TCP}, {Protocol.UDP}, BOTH], ids=["tcp", "udp", "both"])
def test_only_what_is_meant_goes(version, whose, protocols):
    """Beside connections of other backends, of the other protocol, of nobody, and with others' bits in their marks."""
    with in_force(config()) as lab, talkers(lab, version, 8) as opened:
        # A late acknowledgement must not make a connection out of one that was forgotten.
        lab.director.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
        lab.nft("add table inet their")
        lab.nft("add chain inet their early { type filter hook prerouting priority -180; }")
        lab.nft(f"add rule inet their early ct mark 0 numgen inc mod 3 0 ct mark set {FOREIGN:#x}")
        with lab.clients[0].hold(ADDRESSES[version], 8), lab.clients[0].hold("192.168.1.10:8080", 4):
            answers(opened)
            own = {mark for name, mark in marks(lab, "web").items() if name in whose}
            before = left(lab) | {(flow.protocol, flow.client, flow.mark) for flow in flows(lab)}
            gone = {flow for flow in before if flow[2] & 0xFF in own and Protocol(flow[0]) in protocols}
            assert any(flow[2] & FOREIGN for flow in gone)
            assert any(flow[2] == FOREIGN for flow in before)
            assert cut(lab, whose, protocols) == len(gone)
            after = {(flow.protocol, flow.client, flow.mark) for flow in flows(lab)}
            assert after == before - gone


@VERSIONS
@pytest.mark.parametrize("mode", ["dnat", "snat"])
@pytest.mark.parametrize("orphans", ["cut", "keep"])
def test_a_tcp_connection_that_is_cut_is_reset_when_it_goes_on_and_the_others_stay(version, mode, orphans):
    lines = f'mode = "{mode}"\norphans = "{orphans}"'
    with in_force(config(lines)) as lab, lab.clients[0].hold(ADDRESSES[version], 20) as holding:
        assert holding.opened.answers == {"a": 10, "b": 10}
        lab.host("b").run("nft", "add table inet t { chain in { type filter hook input priority 0; }; }")
        late = "ct state new tcp flags != syn / fin,syn,rst,ack counter"  # b's own count, for it begins only now
        lab.host("b").run("nft", f"add rule inet t in {late}")
        apply(lab, config(lines, weight=0))
        assert holding.report().open == 20
        assert cut(lab, "a", {Protocol.TCP}) == 10
        held = holding.report()
        assert held.failures == {"reset": 10}
        assert held.open == 10
        listed = lab.host("b").run("nft", "list", "chain", "inet", "t", "in").stdout
        assert f"packets {10 if orphans == 'cut' else 20} " in listed


def test_nothing_is_asked_for_and_nothing_goes():
    with in_force(config()) as lab, lab.clients[0].hold(ADDRESSES[4], 4):
        before = left(lab)
        with netns.enter(lab.director.namespace), Netlink() as netlink:
            assert forget(netlink, 0xFF, set(), BOTH) == 0
            assert forget(netlink, 0xFF, {0}, BOTH) == 0
            assert forget(netlink, 0xFF, set(marks(lab, "web").values()), set()) == 0
            assert forget(netlink, 0xFF, {FOREIGN, 0x1FF}, BOTH) == 0
        assert left(lab) == before


def entry(number: int, mark: int) -> Message:
    """A request for a connection in the table that no packet has made."""
    source, port = (10 << 24 | number).to_bytes(4), (1024 + number % 60000).to_bytes(2)
    there, udp = bytes((192, 0, 2, 1)), attribute(1, b"\x11")

    def tuple_of(kind: int, ends: tuple[bytes, bytes], ports: tuple[bytes, bytes]) -> bytes:
        address = nested(1, attribute(1, ends[0]), attribute(2, ends[1]))
        return nested(kind, address, nested(2, udp, attribute(2, ports[0]), attribute(3, ports[1])))

    own = tuple_of(1, (source, there), (port, b"\0\x35")), tuple_of(2, (there, source), (b"\0\x35", port))
    rest = attribute(7, (600).to_bytes(4)) + attribute(8, mark.to_bytes(4))
    return Message(1 << 8, 0x600, socket.AF_INET, b"".join(own) + rest)


def test_many_go_in_several_requests():
    space = unique_name()
    netns.create([space])
    try:
        with netns.enter(space):
            netlink = Netlink()
        with netlink:
            many = [entry(number, FOREIGN | number % 4) for number in range(10_000)]
            for at in range(0, len(many), 500):
                assert netlink.attempt(many[at : at + 500]) == []
            assert connections_by_mark(netlink, 3) == {1: 2500, 2: 2500, 3: 2500}
            assert forget(netlink, 3, {1, 3}, {Protocol.UDP}) == 5000
            assert connections_by_mark(netlink, 3) == {2: 2500}
            assert connections_by_mark(netlink, FOREIGN) == {FOREIGN: 5000}
    finally:
        netns.delete([space])
