"""New connections reach the backends in the shares asked for, by every schedule, family, protocol and port form.

client1, client2 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c

Shares are compared by Pearson's chi-square test (`support.shares_fit`).
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import flows, in_force, marks, seen, shares_fit, status

from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

SCHEDULES = {"random": 1001, "round-robin": 1002, "source-hash": 1003, "flow-hash": 1004}
FAMILIES = {4: "192.0.2.10", 6: "[2001:db8::10]"}
SOURCES = {4: "198.51.100.64/26", 6: "2001:db8:c1:0:1::/80"}
WEIGHTS = {"a": 3.0, "b": 2.0, "c": 1.0}


def service(name: str, listen: str, port: int | None = None, lines: str = "", weights: str = "321") -> str:
    """Three backends with addresses of both families, unless only IPv4 is listened on."""
    text = [f"[service.{name}]", f"listen = {listen}", lines]
    for number, (backend, weight) in enumerate(zip("abc", weights, strict=True)):
        end = f":{port}" if port else ""
        second = f', "[fd00:1::1{number}]{end}"' if end else f', "fd00:1::1{number}"'
        second = second if "db8" in listen else ""
        text.append(f'backend.{backend} = {{ address = ["192.168.1.1{number}{end}"{second}], weight = {weight} }}')
    return "\n".join(text) + "\n"


def both(ports: str) -> str:
    return f'["192.0.2.10:{ports}", "[2001:db8::10]:{ports}"]'


CONFIG = "".join(
    [
        *(
            service(name, both(f"{port}/tcp+udp"), port + 1000, f'schedule = "{name}"')
            for name, port in SCHEDULES.items()
        ),
        service("even", both("1010"), 2010, weights="111"),
        service("onlyone", both("1011"), 2011, weights="070"),
        service("list", both("80,443,8000-8003/tcp+udp"), lines='schedule = "random"'),
        service("translated", both("7000-7003/tcp+udp"), 2020),
        service("wide", both("20000-30000/tcp+udp"), lines='schedule = "round-robin"'),
        service("every", '["192.0.2.20:*/tcp+udp", "[2001:db8::20]:*/tcp+udp"]'),
        service("several", '["192.0.2.31:90", "192.0.2.32:90", "192.0.2.32:91", "[2001:db8::31]:90"]', 2030),
        service("tcponly", '"192.0.2.40:53/tcp"', 2040, weights="100"),
        service("udponly", '"192.0.2.40:53/udp"', 2041, weights="010"),
    ]
)


@pytest.fixture(scope="module")
def farm() -> Iterator[Lab]:
    with in_force(CONFIG) as lab:
        yield lab


PROTOCOLS = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
VERSIONS = pytest.mark.parametrize("version", [4, 6])


@PROTOCOLS
@VERSIONS
def test_random_gives_each_its_share(farm, version, udp):
    tally = farm.fetch(f"{FAMILIES[version]}:{SCHEDULES['random']}", 3000, udp=udp)
    assert not tally.failed
    assert shares_fit(tally.answers, WEIGHTS)


@PROTOCOLS
@VERSIONS
def test_round_robin_is_exact(farm, version, udp):
    tally = farm.fetch(f"{FAMILIES[version]}:{SCHEDULES['round-robin']}", 900, udp=udp)
    assert tally.answers == {"a": 450, "b": 300, "c": 150}


def test_round_robin_takes_turns_evenly(farm):
    one_by_one = [next(iter(farm.fetch("192.0.2.10:1010", 1).answers)) for _ in range(30)]
    turns = [one_by_one[at : at + 3] for at in range(0, 30, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)


def test_a_weight_of_nothing_gets_nothing(farm):
    assert farm.fetch("192.0.2.10:1011", 100).answers == {"b": 100}


@PROTOCOLS
@VERSIONS
def test_source_hash_spreads_sources_by_the_slots_shares(farm, version, udp):
    target = f"{FAMILIES[version]}:{SCHEDULES['source-hash']}"
    count = 62 if version == 4 else 1500  # each from another address
    tally = farm.fetch(target, count, source=SOURCES[version], udp=udp)
    assert not tally.failed
    asked = {name: backend["asked"] for name, backend in seen(farm, "source-hash")["backends"].items()}
    assert shares_fit(tally.answers, asked)
    assert all(abs(asked[name] - weight / 6) <= 1 / 512 for name, weight in WEIGHTS.items())


@PROTOCOLS
@VERSIONS
def test_source_hash_gives_a_source_its_backend_every_time(farm, version, udp):
    target = f"{FAMILIES[version]}:{SCHEDULES['source-hash']}"
    first = "198.51.100." if version == 4 else "2001:db8:c1:0:1::"
    for number in range(70, 85):
        tally = farm.fetch(target, 5, source=f"{first}{number}", udp=udp)
        assert len(tally.answers) == 1
        assert tally.answers.total() == 5


@PROTOCOLS
@VERSIONS
def test_flow_hash_spreads_the_flows_of_one_source(farm, version, udp):
    tally = farm.fetch(f"{FAMILIES[version]}:{SCHEDULES['flow-hash']}", 3000, udp=udp)
    assert not tally.failed
    assert shares_fit(tally.answers, WEIGHTS)


@pytest.mark.parametrize("name", ["flow-hash", "source-hash"])
@VERSIONS
def test_a_hashed_flow_finds_its_backend_again_when_the_director_has_forgotten_it(farm, version, name):
    target = FAMILIES[version].strip("[]"), SCHEDULES[name]
    answers: dict[int, set[bytes]] = {}
    for _ in range(3):
        farm.director.run("conntrack", "-F")
        for port in range(40000, 40030):
            answers.setdefault(port, set()).add(ask(farm, target, port))
    assert all(len(each) == 1 for each in answers.values())
    assert len(set.union(*answers.values())) == (3 if name == "flow-hash" else 1)


def ask(lab: Lab, target: tuple[str, int], port: int) -> bytes:
    """One datagram from a port of client1, and its answer."""
    with netns.enter(lab.clients[0].namespace):
        opened = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM)
    with opened:
        opened.settimeout(5)
        opened.bind(("", port))
        opened.sendto(b"?", target)
        return opened.recv(100)


@PROTOCOLS
@pytest.mark.parametrize("port", [80, 443, 8000, 8003])
@VERSIONS
def test_a_list_of_ports_is_one_service_and_keeps_the_port(farm, version, port, udp):
    tally = farm.fetch(f"{FAMILIES[version]}:{port}", 60, udp=udp)
    assert tally.answers.total() == 60
    assert set(tally.answers) == {"a", "b", "c"}
    assert {flow.backend.rpartition(":")[2] for flow in flows(farm, port)} == {str(port)}


def test_a_port_beside_the_list_is_refused(farm):
    for port in (81, 8004, 7004, 30001, 19999):
        assert list(farm.fetch(f"192.0.2.10:{port}", 3).failures) == ["refused"]


@PROTOCOLS
@VERSIONS
def test_a_range_can_be_translated_to_one_port(farm, version, udp):
    for port in range(7000, 7004):
        assert farm.fetch(f"{FAMILIES[version]}:{port}", 18, udp=udp).answers == {"a": 9, "b": 6, "c": 3}
        found = flows(farm, port)
        assert {flow.backend.rpartition(":")[2] for flow in found} == {"2020"}


@PROTOCOLS
@VERSIONS
def test_a_large_range_of_ports(farm, version, udp):
    for port in (20000, 20003, 20007):
        assert farm.fetch(f"{FAMILIES[version]}:{port}", 18, udp=udp).answers == {"a": 9, "b": 6, "c": 3}
    kind = "udp" if udp else "tcp"
    assert f"{kind} . 20000-30000" in farm.nft("list", "map", "inet", "markway", f"ranges{version}")


@PROTOCOLS
@VERSIONS
def test_all_ports(farm, version, udp):
    address = {4: "192.0.2.20", 6: "[2001:db8::20]"}[version]
    for port in (1, 8, 80, 8080):
        assert farm.fetch(f"{address}:{port}", 18, udp=udp).answers == {"a": 9, "b": 6, "c": 3}
    if not udp:  # it is the backend that refuses
        before = seen(farm, "every")
        assert list(farm.fetch(f"{address}:65535", 3).failures) == ["refused"]
        after = seen(farm, "every")
        assert after["offered"] - before["offered"] == 3
        assert (before["refused"], after["refused"]) == (0, 0)


def test_several_addresses_and_ports_are_one_service(farm):
    before = seen(farm, "several")["offered"]
    got: Counter[str] = Counter()
    for target in ("192.0.2.31:90", "192.0.2.32:90", "192.0.2.32:91"):
        got += farm.fetch(target, 6).answers
    assert got == {"a": 9, "b": 6, "c": 3}
    assert farm.fetch("[2001:db8::31]:90", 18).answers == {"a": 9, "b": 6, "c": 3}
    assert seen(farm, "several")["offered"] - before == 36
    assert list(farm.fetch("192.0.2.31:91", 1).failures) == ["refused"]


def test_tcp_and_udp_of_one_port_can_be_two_services(farm):
    assert farm.fetch("192.0.2.40:53", 10).answers == {"a": 10}
    assert farm.fetch("192.0.2.40:53", 10, udp=True).answers == {"b": 10}


def test_each_backend_has_its_mark_and_every_connection_its_backend_s(farm):
    farm.director.run("conntrack", "-F")
    farm.fetch("192.0.2.10:1001", 200)
    known = {f"192.168.1.1{number}:2001": marks(farm, "random")[name] for number, name in enumerate("abc")}
    found = flows(farm, 1001)
    assert len(found) == 200
    assert {flow.backend: flow.mark for flow in found} == known
    assert all(flow.mark == known[flow.backend] for flow in found)
    every = [backend["mark"] for each in status(farm)["services"] for backend in each["backends"]]
    assert len(set(every)) == len(every) > 36


def test_counters_are_what_the_clients_counted():
    config = service("web", both("80/tcp+udp"), 8080, 'schedule = "random"') + service("other", '"192.0.2.10:81"', 8081)
    with in_force(config) as lab:
        got = lab.fetch("192.0.2.10:80", 300).answers + lab.fetch("[2001:db8::10]:80", 200).answers
        got += lab.fetch("192.0.2.10:80", 150, udp=True).answers + lab.fetch("[2001:db8::10]:80", 50, udp=True).answers
        other = lab.fetch("192.0.2.10:81", 60).answers
        web = seen(lab, "web")
        assert (web["offered"], web["refused"]) == (700, 0)
        assert {name: backend["connections"] for name, backend in web["backends"].items()} == got
        assert {name: backend["got"] for name, backend in web["backends"].items()} == {n: got[n] / 700 for n in got}
        assert {name: b["connections"] for name, b in seen(lab, "other")["backends"].items()} == other
        assert seen(lab, "other")["offered"] == 60


def test_every_packet_is_counted_for_its_backend_both_ways():
    config = service("echo", both("9/udp"), 8080, weights="120")
    with in_force(config) as lab:
        # 8 + 8 bytes of UDP and payload; the answers are one byte. Headers of 20 and 40 bytes.
        lab.fetch("192.0.2.10:9", 300, udp=True)
        lab.fetch("[2001:db8::10]:9", 30, udp=True)
        got = {name: (b["packets"], b["bytes"]) for name, b in seen(lab, "echo")["backends"].items()}
        one4, one6 = 20 + 16 + 20 + 9, 40 + 16 + 40 + 9
        assert got == {
            "a": (220, 100 * one4 + 10 * one6),
            "b": (440, 200 * one4 + 20 * one6),
            "c": (0, 0),
        }


def test_an_unanswered_udp_flow_keeps_its_backend_and_mark_for_life():
    """A rule on `ct state new` would choose anew for each datagram: they all are new until one is answered."""
    with in_force(service("mute", both("9/udp"), 8080, 'schedule = "random"', weights="111")) as lab:
        for name in "abc":
            lab.host(name).run("nft", "add table inet t")
            lab.host(name).run("nft", "add chain inet t in { type filter hook input priority 0; }")
            lab.host(name).run("nft", "add rule inet t in udp dport 8080 counter drop")
        known = set(marks(lab, "mute").values())
        lab.nft("add table inet spy")
        lab.nft("add set inet spy marks { type inet_proto . mark; counter; flags dynamic; }")
        lab.nft("add chain inet spy f { type filter hook forward priority 0; }")
        lab.nft("add rule inet spy f udp dport 8080 add @marks { meta l4proto . meta mark }")
        for address in ("192.0.2.10", "2001:db8::10"):
            for _ in range(5):  # five flows, so that chance cannot hide it
                lab.director.run("conntrack", "-F")
                lab.nft("flush set inet spy marks")
                with netns.enter(lab.clients[0].namespace):
                    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
                with opened:
                    opened.connect((address, 9))
                    for _ in range(100):
                        opened.send(b"?")
                [flow] = flows(lab, 9)
                mark = f"0x{flow.mark:08x}"
                assert f"udp . {mark} counter packets 100 " in lab.nft("list set inet spy marks")
                assert flow.mark in known
        arrived = [lab.host(name).run("nft", "list", "table", "inet", "t").stdout for name in "abc"]
        packets = [int(text.partition("packets ")[2].split()[0]) for text in arrived]
        assert sum(packets) == 1000
        assert all(count % 100 == 0 for count in packets)
