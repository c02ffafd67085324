"""Which class packets reach, by service, by mark and by anything that nft can see; on their way out and in.

client1 --[198.51.100.0/24]-- eth0 director eth1 --[192.168.1.0/24]-- a, b
client2 --'
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from tests.kernel.shaped import Watch, numbers
from tests.kernel.support import apply, read, run, status, unique_name

from markway.kernel import netns
from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Place

SERVICE = """
[service.web]
listen = ["192.0.2.10:80/tcp", "192.0.2.10:53/udp", "[2001:db8::10]:53/udp"]
schedule = "round-robin"
backend.a = { address = ["192.168.1.11", "fd00:1::11"] }
backend.b = { address = ["192.168.1.12", "fd00:1::12"] }
"""
WAN = """
[shape.wan]
device = "eth0"
rate = "100mbit"
leaf = "pfifo"
default = "rest"
[shape.wan.class.rest]
rate = "10mbit"
"""
CLIENT1, CLIENT2, DIRECTOR, A, B = (
    "198.51.100.11", "198.51.100.12", "198.51.100.1", "192.168.1.11", "192.168.1.12",
)  # fmt: skip


def class_of(name: str, match: str, shape: str = "wan") -> str:
    return f'[shape.{shape}.class.{name}]\nrate = "5mbit"\nmatch = {match}\n'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(read(SERVICE), unique_name()) as made:
        for place in (made.director, made.host("a"), made.host("b")):  # neighbours know each other from now on
            for address in (CLIENT1, CLIENT2, A, B):
                with netns.enter(place.namespace), suppress(ConnectionRefusedError):
                    socket.create_connection((address, 9), timeout=10).close()
        yield made


def udp(place: Place) -> socket.socket:
    with netns.enter(place.namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def say(place: Place, to: tuple[str, int], *, tos: int = 0, size: int = 8) -> None:
    """One datagram."""
    with udp(place) as opened:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        opened.sendto(bytes(size), to)


def watch(lab: Lab, shape: str = "wan", device: str = "eth0") -> Watch:
    return Watch(lab, device, numbers(lab, shape))


def test_matches_of_each_kind(lab: Lab):
    """Tried in the order of the file; the first that holds has the packet."""
    matches = {
        "a": '{ service = "web", backend = "a" }',
        "web": '{ service = "web" }',
        "ef": '{ dscp = "ef" }',
        "ports": '{ protocol = "udp", destination-port = [1000, "2000-2010"] }',
        "net": '{ source = "198.51.100.0/24", destination = "198.51.100.12" }',
        "small": '{ protocol = "udp", length = "0-40", destination-port = 3000 }',
        "user": f"{{ user = {os.geteuid()}, destination-port = 3001 }}",
        "raw": '{ nft = "udp dport 3002 ip ttl 7" }',
        "large": '{ bytes-over = "10k" }',
    }
    text = SERVICE + WAN + "".join(class_of(name, match) for name, match in matches.items())
    apply(lab, text)
    seen = watch(lab)
    director = lab.director
    sent: tuple[tuple[tuple[str, int], dict[str, int], str], ...] = (
        ((CLIENT1, 999), {}, "rest"),
        ((CLIENT1, 1000), {}, "ports"),
        ((CLIENT1, 2010), {}, "ports"),
        ((CLIENT1, 2011), {}, "rest"),
        ((CLIENT1, 999), {"tos": 46 << 2}, "ef"),
        ((CLIENT1, 1000), {"tos": 46 << 2}, "ef"),
        ((CLIENT2, 999), {}, "net"),
        ((CLIENT1, 3000), {"size": 12}, "small"),
        ((CLIENT1, 3000), {"size": 13}, "rest"),
        ((CLIENT1, 3001), {}, "user"),
    )
    for to, options, taken in sent:
        say(director, to, **options)
        seen.took({taken: 1})
    say(lab.host("a"), (CLIENT1, 3001))  # a forwarded packet has no user
    seen.took({"rest": 1})
    with udp(director) as opened:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7)
        opened.sendto(b"", (CLIENT1, 3002))
        seen.took({"raw": 1})
        for _ in range(12):
            opened.sendto(bytes(996), (CLIENT1, 3003))  # ten are 10,240 bytes
        seen.took({"rest": 10, "large": 2})
    for target in ("192.0.2.10:53", "[2001:db8::10]:53"):
        assert lab.fetch(target, 4, udp=True).answers == {"a": 2, "b": 2}
        seen.took({"a": 2, "web": 2})


MARKS = """
[shape.lan]
device = "eth1"
rate = "100mbit"
leaf = "pfifo"
default = "rest"
[shape.lan.class.rest]
rate = "10mbit"
[shape.lan.class.up]
rate = "10mbit"
[shape.wan.class.bulk]
rate = "10mbit"
[shape.wan.class.better]
rate = "10mbit"
[mark.slow]
match = [{ source = "192.168.1.11" }, { protocol = "udp", destination-port = 4000 }]
class = "wan.bulk"
[mark.better]
match = { protocol = "udp", destination-port = 4000, dscp = "ef" }
class = "wan.better"
[mark.up]
match.destination-port = 4001
class = "lan.up"
on = ["forwarded"]
[mark.in]
match.destination-port = 4002
class = "wan.bulk"
on = ["incoming"]
"""


def counts(lab: Lab) -> dict[str, int]:
    """How many packets each marking rule has taken."""
    return {each["name"]: each["packets"] for each in status(lab)["marks"]}


def test_marks_on_forwarded_incoming_and_local_packets(lab: Lab):
    apply(lab, SERVICE + WAN + MARKS)
    wan, lan = watch(lab), watch(lab, "lan", "eth1")
    before = counts(lab)
    say(lab.host("a"), (CLIENT1, 999))
    wan.took({"bulk": 1})
    say(lab.host("b"), (CLIENT1, 999))
    wan.took({"rest": 1})
    say(lab.director, (CLIENT1, 4000))
    wan.took({"bulk": 1})
    say(lab.director, (CLIENT1, 4000), tos=46 << 2)
    wan.took({"better": 1})
    say(lab.clients[0], (A, 4001))
    say(lab.director, (A, 4001))
    lan.took({"up": 1, "rest": 1})
    say(lab.clients[0], (DIRECTOR, 4002))
    more = {name: count - before[name] for name, count in counts(lab).items()}
    assert more == {"slow": 3 + 2, "better": 1, "up": 1, "in": 1}  # `a` says twice that nobody listens


ELSEWHERE = ("203.0.113.7", 7000)


def answer(place: Place) -> bytes:
    """Who answers a connection to elsewhere."""
    with netns.enter(place.namespace):
        opened = socket.create_connection(ELSEWHERE, timeout=10)
    with opened:
        return opened.recv(100)


def test_an_uplink_leads_local_and_forwarded_connections_its_way(lab: Lab):
    """By main, elsewhere is behind client2; by the table of the uplink behind client1. Each answers its name."""
    text = (
        "[uplink.dsl]\ntable = 100\n"
        '[mark.own]\nuplink = "dsl"\nmatch = { destination = "203.0.113.7", protocol = "tcp", user = 0 }\n'
        '[mark.a]\nuplink = "dsl"\nmatch.source = "192.168.1.11"\n'
    )
    routes = ("203.0.113.0/24 via 198.51.100.11 table 100", "203.0.113.0/24 via 198.51.100.12")
    netns.ip(lab.director.namespace, [f"route add {route}" for route in routes])
    with ExitStack() as stack:
        for place in lab.clients:
            netns.ip(place.namespace, [f"addr add {ELSEWHERE[0]}/32 dev eth0"])
            with netns.enter(place.namespace):
                listener = stack.enter_context(socket.create_server(ELSEWHERE))
            threading.Thread(target=_answer, args=(listener, place.host.name.encode()), daemon=True).start()
        apply(lab, SERVICE + WAN + text)
        assert answer(lab.director) == b"client1"
        assert answer(lab.host("a")) == b"client1"
        assert answer(lab.host("b")) == b"client2"
        apply(lab, SERVICE + WAN)
        assert answer(lab.director) == b"client2"
    netns.ip(lab.director.namespace, [f"route del {route}" for route in routes])


def _answer(listener: socket.socket, name: bytes) -> None:
    with suppress(OSError):
        while True:
            opened, _ = listener.accept()
            with opened:
                opened.sendall(name)


DOWN = """
[shape.down]
device = "eth0"
direction = "ingress"
inside = "eth1"
rate = "100mbit"
leaf = "pfifo"
default = "rest"
[shape.down.class.rest]
rate = "10mbit"
"""


def test_ingress_by_an_ifb(lab: Lab):
    apply(lab, SERVICE + DOWN + class_of("far", '{ source = "198.51.100.12", protocol = "udp" }', "down"))
    (shape,) = status(lab)["shapes"]
    assert shape["acts_on"] == "mw-down"
    seen = watch(lab, "down", "mw-down")
    for client, taken in ((0, "rest"), (1, "far")):
        say(lab.clients[client], (A, 999))
        say(lab.clients[client], (DIRECTOR, 999))
        seen.took({taken: 2})


def test_ingress_on_the_way_out_to_the_inside(lab: Lab):
    """What netfilter knows, an IFB does not: packets come there before."""
    apply(lab, SERVICE + DOWN + class_of("a", '{ service = "web", backend = "a" }', "down"))
    (shape,) = status(lab)["shapes"]
    assert shape["acts_on"] == "eth1"
    assert any("eth1" in notice for notice in shape["notices"])
    seen = watch(lab, "down", "eth1")
    assert lab.fetch("192.0.2.10:53", 4, udp=True).answers == {"a": 2, "b": 2}
    seen.took({"a": 2, "rest": 2})
    say(lab.director, (A, 999))
    seen.took({})


def test_plan_shows_the_classes_of_a_preset(lab: Lab):
    text = SERVICE + '[shape.wan]\ndevice = "eth0"\nrate = "1024kbit"\npreset = "home"\n'
    apply(lab, text)
    names = numbers(lab, "wan")
    assert {"interactive", "ssh", "web", "rest", "bulk"} <= names.keys()
    seen = watch(lab)
    for to, size, taken in (
        ((CLIENT1, 53), 300, "interactive"),
        ((CLIENT1, 999), 20, "interactive"),
        ((CLIENT1, 443), 900, "web"),
        ((CLIENT1, 6881), 900, "bulk"),
        ((CLIENT1, 999), 900, "rest"),
    ):
        say(lab.director, to, size=size)
        seen.took({taken: 1})
    assert "interactive" in run(lab, "status")
