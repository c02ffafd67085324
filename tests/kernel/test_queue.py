"""Schedules that ask the queue worker: what it decides is what happens, in every family, protocol, mode and hook.

client1, client2 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c
                                                            |
                                                      queue worker

Where the kernel has no `queue` in nft, the same goes through the target of xtables.
"""

from __future__ import annotations

import re
import socket
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.kernel.queue_daemon import QueueDaemon
from tests.kernel.support import apply, eventually, flows, in_force, marks, run, seen, status, tell_peers, write

from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.lab.lab import Lab

FAMILIES = {4: "192.0.2.10", 6: "[2001:db8::10]"}
PROTOCOLS = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def service(name: str, port: int, lines: str, backends: str = "abc") -> str:
    """Backends with addresses of both families, on a port of their own for each service."""
    text = [f"[service.{name}]", f'listen = ["192.0.2.10:{port}/tcp+udp", "[2001:db8::10]:{port}/tcp+udp"]', lines]
    for number, backend in enumerate(backends):
        end = f"1{number}]:{port + 1000}"
        text.append(f'backend.{backend}.address = ["192.168.1.{end.replace("]", "")}", "[fd00:1::{end}"]')
    return "\n".join(text) + "\n"


LEAST = 'schedule = "least-connections"'
CONFIG = "".join(
    [
        service("least", 80, LEAST),
        service("load", 81, 'schedule = "least-load"'),
        service("two", 82, 'schedule = "queue"'),
        service("masked", 83, f'{LEAST}\nmode = "snat"'),
        service("sticky", 84, f'{LEAST}\npersist = {{ timeout = "1m" }}'),
        service("plain", 85, 'schedule = "round-robin"'),
        service("wide", 86, LEAST).replace(":86/", ":3000-4000/"),
        service("refused", 87, f'{LEAST}\ndeny = ["198.51.100.0/24", "2001:db8:c1::/64"]'),
    ]
)
PORTS = {"least": 80, "load": 81, "two": 82, "masked": 83, "sticky": 84, "wide": 3333}


@pytest.fixture(scope="module")
def farm() -> Iterator[Lab]:
    with in_force(CONFIG) as lab:
        yield lab


@pytest.fixture
def daemon(farm) -> Iterator[QueueDaemon]:
    farm.director.run("conntrack", "-F")
    with QueueDaemon(farm, write(farm, CONFIG)) as started:
        eventually(lambda: started.tell()["running"])
        yield started


def decided(daemon: QueueDaemon, name: str) -> int:
    found: int = daemon.tell()["services"].get(name, {}).get("decided", 0)
    return found


def account(daemon: QueueDaemon, by_mark: Mapping[int, str]) -> dict[str, int]:
    """The worker's account of open connections, of these marks."""
    found = {int(mark): count for mark, count in daemon.tell()["connections"].items()}
    return {name: found[mark] for mark, name in by_mark.items() if mark in found}


def publish(lab: Lab, daemon: QueueDaemon, port: int, **said: object) -> None:
    """Tell the worker something, and wait until it has read it: it has once it reports a later decision."""
    before = daemon.tell(**said)["verdicts"]
    lab.fetch(f"192.0.2.10:{port}")
    eventually(lambda: daemon.tell()["verdicts"] > before)


def undecided(lab: Lab) -> int:
    """Connections that the kernel gave by slot tables, of services that ask; counted by the kernel."""
    listed = lab.nft("list", "set", "inet", "markway", "undecided")
    return sum(int(part.split()[0]) for part in listed.split("packets ")[1:])


@PROTOCOLS
@VERSIONS
@pytest.mark.parametrize("name", sorted(PORTS.keys() - {"sticky"}))
def test_the_worker_decides_every_connection(farm, daemon, name, version, udp):
    before, slots = decided(daemon, name), undecided(farm)
    tally = farm.fetch(f"{FAMILIES[version]}:{PORTS[name]}", 300, udp=udp)
    assert not tally.failures
    assert tally.answers.total() == 300
    assert set(tally.answers) == {"a", "b", "c"}
    known = len(flows(farm, PORTS[name])) if udp else 300  # a port used again is of a flow that is known
    eventually(lambda: decided(daemon, name) - before >= min(known, 290))
    assert undecided(farm) == slots


def test_without_a_worker_the_slot_table_decides(farm):
    before = undecided(farm)
    assert farm.fetch("192.0.2.10:80", 300).answers == {"a": 100, "b": 100, "c": 100}
    assert undecided(farm) == before + 300


@VERSIONS
def test_connections_that_are_held_are_evened_out(farm, daemon, version):
    """One backend has fewer, for its were forgotten: it gets all, until it has as many as the others."""
    target = f"{FAMILIES[version]}:3333"
    by_mark = {mark: name for name, mark in marks(farm, "wide").items()}

    def held() -> dict[str, int]:
        return account(daemon, by_mark)

    silent = ("--every", "600")  # a line whose connection was forgotten and that spoke would be a new one
    with farm.clients[0].hold(target, 30, *silent) as first:
        assert first.opened.answers == {"a": 10, "b": 10, "c": 10}
        eventually(lambda: held() == {"a": 10, "b": 10, "c": 10})
        lost = next(mark for mark, name in by_mark.items() if name == "b")
        family = ["-f", "ipv6"] if version == 6 else []
        farm.director.run("conntrack", "-D", *family, "--mark", str(lost))
        eventually(lambda: held() == {"a": 10, "c": 10})
        with farm.clients[0].hold(target, 10, *silent) as second:
            assert second.opened.answers == {"b": 10}
            with farm.clients[1].hold(target, 9, *silent) as third:
                assert third.opened.answers == {"a": 3, "b": 3, "c": 3}
    eventually(lambda: not held())


def test_short_connections_leave_no_account_behind(farm, daemon):
    for _ in range(3):
        assert not farm.fetch("192.0.2.10:80", 500).failures
    eventually(lambda: decided(daemon, "least") == 1500)
    by_mark = {mark: name for name, mark in marks(farm, "least").items()}
    eventually(lambda: not account(daemon, by_mark))


def test_connections_of_before_the_worker_are_in_its_account(farm):
    with farm.clients[0].hold("192.0.2.10:80", 30), QueueDaemon(farm, write(farm, CONFIG)) as daemon:
        eventually(lambda: sorted(daemon.tell()["connections"].values()) == [10, 10, 10])


def test_least_load_follows_the_load_and_never_gives_all_to_one(farm, daemon):
    publish(farm, daemon, 81, loads={"load/a": 0.8, "load/b": 0.2, "load/c": 0.0})
    tally = farm.fetch("192.0.2.10:81", 200)
    assert not tally.failures
    assert [tally.answers[name] for name in "abc"] == [pytest.approx(each, abs=2) for each in (20, 80, 100)]


def test_weights_that_hold_now_are_those_of_the_worker(farm, daemon):
    publish(farm, daemon, 80, weights={"least": {"a": 100, "b": 300, "c": 0}})
    with farm.clients[0].hold("192.0.2.10:80", 40) as held:
        assert held.opened.answers == {"a": 10, "b": 30}


@VERSIONS
def test_a_connection_of_the_director_itself_asks_too(farm, daemon, version):
    tally = farm.director.fetch(f"{FAMILIES[version]}:80", 60)
    assert not tally.failures
    assert set(tally.answers) == {"a", "b", "c"}
    eventually(lambda: decided(daemon, "least") == 60)


@pytest.mark.usefixtures("daemon")
def test_a_masked_client_stays_masked(farm):
    tell_peers(farm, "a", 1083)
    try:
        answers = farm.fetch("192.0.2.10:83", 30).answers
        assert answers.keys() == {"192.0.2.10", "b", "c"}
        assert all(abs(count - 10) <= 3 for count in answers.values())  # one that ends a moment later counts longer
    finally:
        farm.stop("a")
        farm.start("a")


@pytest.mark.usefixtures("daemon")
def test_a_source_that_is_remembered_keeps_its_backend(farm):
    for address in ("198.51.100.70", "198.51.100.71", "2001:db8:c1:0:1::7"):
        target = f"{FAMILIES[6 if ':' in address else 4]}:84"
        assert len(farm.fetch(target, 20, source=address).answers) == 1


@pytest.mark.usefixtures("daemon")
def test_who_is_refused_is_refused_at_once(farm):
    assert list(farm.fetch("192.0.2.10:87", 20).failures) == ["refused"]
    assert not flows(farm, 87)


WATCH = """
table inet watch {
    chain before { type filter hook prerouting priority -140; policy accept; %s; }
    set packets { type mark; flags dynamic; counter; size 1024; }
    set connections { type mark; flags dynamic; counter; size 1024; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip daddr 192.168.1.0/24 update @packets { meta mark } update @connections { ct mark }
        ip6 daddr fd00:1::/64 update @packets { meta mark } update @connections { ct mark }
    }
}
"""
PACKET, CONNECTION = 0xA500_0000, 0x005A_0000


@contextmanager
def watched(lab: Lab, rules: str) -> Iterator[None]:
    lab.nft("-f", "-", text=WATCH % rules)
    try:
        yield
    finally:
        lab.nft("delete", "table", "inet", "watch")


@pytest.mark.parametrize("working", [True, False], ids=["with a worker", "without"])
@pytest.mark.parametrize(
    ("rules", "packet", "connection"),
    [
        ("accept", 0, 0),
        (f"meta mark set meta mark | {PACKET:#x}", PACKET, 0),
        (f"ct mark set ct mark | {CONNECTION:#x}", 0, CONNECTION),
        (f"meta mark set meta mark | {PACKET:#x}; ct mark set ct mark | {CONNECTION:#x}", PACKET, CONNECTION),
    ],
    ids=["alone", "packet", "connection", "both"],
)
def test_no_tag_reaches_a_backend_and_no_foreign_bit_is_lost(farm, rules, packet, connection, working):
    farm.director.run("conntrack", "-F")
    known = set(marks(farm, "least").values())
    with watched(farm, rules):
        if working:
            with QueueDaemon(farm, write(farm, CONFIG)) as daemon:
                eventually(lambda: daemon.tell()["running"])
                ask_all(farm)
                eventually(lambda: decided(daemon, "least") == 240)
        else:
            ask_all(farm)
        assert packets_by_mark(farm).keys() == {packet | mark for mark in known}
        assert packets_by_mark(farm, "connections").keys() == {connection | mark for mark in known}


def ask_all(lab: Lab) -> None:
    for address in FAMILIES.values():
        for udp in (False, True):
            tally = lab.fetch(f"{address}:80", 60, udp=udp)
            assert not tally.failures
            assert set(tally.answers) == {"a", "b", "c"}


@VERSIONS
@pytest.mark.parametrize("working", [True, False], ids=["with a worker", "without"])
def test_a_flow_that_nobody_answers_does_not_drift(farm, version, working):
    """Many datagrams at once, so that several are on their way to the worker together; and more later."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    farm.director.run("conntrack", "-F")
    mute = "chain mute { type filter hook forward priority -1; policy accept; udp sport 1080 drop; }"
    with watched(farm, "accept"):
        farm.nft("-f", "-", text=f"table inet watch {{\n{mute}\n}}\n")
        if working:
            with QueueDaemon(farm, write(farm, CONFIG)) as daemon:
                eventually(lambda: daemon.tell()["running"])
                send(farm, family)
        else:
            send(farm, family)
        carried_by = {flow.client: flow for flow in flows(farm, 80)}
        assert len(flows(farm, 80)) == len(carried_by) == 10
        counts = packets_by_mark(farm)
        expected = Counter(flow.mark for flow in carried_by.values())
        assert counts == {mark: count * 25 for mark, count in expected.items()}


def send(lab: Lab, family: socket.AddressFamily) -> None:
    """Ten flows of 25 datagrams."""
    with netns.enter(lab.clients[0].namespace):
        opened = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(10)]
    target = ("2001:db8::10" if family == socket.AF_INET6 else "192.0.2.10", 80)
    for _ in range(25):
        for one in opened:
            one.sendto(b"?", target)
    eventually(lambda: sum(packets_by_mark(lab).values()) >= 250)
    for one in opened:
        one.close()


def packets_by_mark(lab: Lab, name: str = "packets") -> dict[int, int]:
    """What passed on its way to backends."""
    listed = lab.nft("list", "set", "inet", "watch", name)
    return {int(mark, 16): int(count) for mark, count in re.findall(r"(0x[0-9a-f]+) counter packets (\d+)", listed)}


def test_a_program_that_asks_is_verified_mended_and_undone(lab):
    simple = service("web", 80, LEAST)
    made = lab(simple)
    planned = run(made, "plan", write(made, simple))
    assert "queue flags bypass to 26997" in planned or "# over netlink: add rule inet markway ask xt target" in planned
    apply(made, simple)
    assert "Nothing to change" in apply(made, simple)
    assert status(made)["damage"] is None
    assert "26997" in made.nft("list", "chain", "inet", "markway", "ask")
    made.nft("flush", "chain", "inet", "markway", "ask")
    assert status(made, code=1)["damage"]
    apply(made, simple)
    assert "26997" in made.nft("list", "chain", "inet", "markway", "ask")
    apply(made, service("web", 80, ""))
    assert "ask" not in made.nft("list", "table", "inet", "markway")
    run(made, "rollback")
    assert "26997" in made.nft("list", "chain", "inet", "markway", "ask")
    assert seen(made, "web")["schedule"] == "least-connections"
