"""What the queue worker makes of a packet, and of a policy that fails."""

from __future__ import annotations

import signal
import socket
import struct
from ipaddress import ip_address
from itertools import repeat
from typing import TYPE_CHECKING

import pytest

from markway.balance.policies import Candidate, Connection, Pool
from markway.compiler import compile_config
from markway.config.load import load_text
from markway.director.queueing import QueuedBackend, QueuedService, QueueStats, queued_services
from markway.director.queueing import own as own_module
from markway.director.queueing.decide import Decisions
from markway.director.queueing.own import PATIENCE, OwnPolicy, Undecided
from markway.director.queueing.packet import TCP, UDP, Ends, ends
from markway.marks import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

IP, IP6 = socket.AF_INET, socket.AF_INET6
FIELD = 0xFF
TAG = 0x40


def packet(source: str, destination: str, protocol: int = TCP, ports: tuple[int, int] = (4000, 80)) -> bytearray:
    one, other = ip_address(source).packed, ip_address(destination).packed
    end = struct.pack("!HH", *ports) + bytes(16)
    if len(one) == 4:
        return bytearray(b"\x45" + bytes(8) + bytes([protocol]) + bytes(2) + one + other + end)
    return bytearray(b"\x60" + bytes(5) + bytes([protocol, 64]) + one + other + end)


def service(policy: str, *versions: tuple[int, ...], tag: int = TAG) -> QueuedService:
    backends = (QueuedBackend(name, number + 1, 1.0, each) for number, (name, each) in enumerate(zip("abc", versions)))  # noqa: B905
    return QueuedService("web", tag, policy, tuple(backends))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def decisions(clock) -> Decisions:
    made = Decisions(lambda: 0.5, clock)
    told(made, service("least-connections", (4, 6), (4, 6), (4,)))
    return made


def told(
    decisions: Decisions, *services: QueuedService, gone: tuple[int, ...] = (), resting: tuple[str, ...] = ()
) -> None:
    decisions.update({"field": FIELD, "services": [one.record for one in services], "gone": gone, "resting": resting})


def ask(decisions: Decisions, data: bytearray, mark: int = TAG) -> int:
    return decisions.decide(IP if data[0] >> 4 == 4 else IP6, mark, data, 0, len(data))


TCP4 = packet("198.51.100.1", "192.0.2.10")
TCP6 = packet("2001:db8::1", "2001:db8::10")


def test_the_backends_take_the_tag_s_place_and_nothing_else(decisions):
    found = [ask(decisions, TCP4, 0xA5000000 | TAG) for _ in range(6)]
    assert sorted(found) == [0xA5000000 | mark for mark in (1, 1, 2, 2, 3, 3)]


def test_a_family_has_its_own_pool(decisions):
    assert {ask(decisions, TCP6) for _ in range(6)} == {1, 2}


def test_an_unknown_tag_stays(decisions):
    assert ask(decisions, TCP4, 0x41) == 0x41
    assert decisions.unknown == 1


def test_a_service_that_is_gone_is_not_decided_for(decisions):
    told(decisions, gone=(TAG,))
    assert ask(decisions, TCP4) == TAG


def test_no_backend_is_no_decision(decisions):
    told(decisions, service("least-connections", (6,)))
    assert ask(decisions, TCP4) == TAG
    assert decisions.services[TAG].undecided == {"no backend": 1}


def test_connections_are_counted_and_their_ends_too(decisions):
    for _ in range(6):
        ask(decisions, TCP4)
    for _ in range(3):
        decisions.ended(2)  # the third is of a connection that was never counted
    decisions.ended(0x77)
    assert decisions.connections == {1: 2, 3: 2}
    assert [ask(decisions, TCP4) for _ in range(2)] == [2, 2]
    decisions.recounted({1: 9, 3: 1})
    assert decisions.connections == {1: 9, 3: 1}


def test_a_backend_keeps_its_account_when_others_change(decisions):
    for _ in range(6):
        ask(decisions, TCP4)
    told(decisions, service("least-connections", (4,), (4,)))
    assert decisions.connections == {1: 2, 2: 2}


def test_datagrams_of_one_flow_go_one_way(decisions, clock):
    flow, other = (packet("198.51.100.1", "192.0.2.10", UDP, (port, 53)) for port in (5000, 5001))
    first = ask(decisions, flow)
    assert {ask(decisions, flow) for _ in range(9)} == {first}
    assert ask(decisions, other) != first
    assert decisions.services[TAG].decided == 2
    clock.now += 5
    ask(decisions, other)
    clock.now += 5
    assert ask(decisions, flow) != first or decisions.services[TAG].decided == 4


@pytest.mark.parametrize("length", range(28))
def test_a_packet_cut_short_is_decided_all_the_same(decisions, length):
    for data in (TCP4, TCP6):
        assert ask(decisions, data[:length] if length else data) in {1, 2, 3}


def test_the_ends_of_a_packet():
    assert ends(IP, TCP4, 0, len(TCP4)) == Ends(TCP, b"\xc6\x33\x64\x01", 4000, b"\xc0\x00\x02\x0a", 80)
    found = ends(IP6, TCP6, 0, len(TCP6))
    assert found
    assert (found.source_port, found.destination_port) == (4000, 80)
    assert socket.inet_ntop(IP6, found.source) == "2001:db8::1"


def test_the_ends_behind_options_and_extensions():
    optional = bytearray(b"\x46" + TCP4[1:20] + b"\1\1\1\1" + TCP4[20:])
    assert ends(IP, optional, 0, len(optional)) == ends(IP, TCP4, 0, len(TCP4))
    extended = bytearray(TCP6[:6] + b"\0" + TCP6[7:40] + bytes([60, 0, *bytes(6)]) + bytes([TCP, 1, *bytes(14)]))
    extended += TCP6[40:]
    assert ends(IP6, extended, 0, len(extended)) == ends(IP6, TCP6, 0, len(TCP6))


@pytest.mark.parametrize("length", range(24))
def test_the_ends_of_a_cut_packet_are_not_known(length):
    assert ends(IP, TCP4, 0, length) is None
    assert ends(IP6, TCP6, 0, length) is None


def test_other_protocols_have_no_ends():
    assert ends(IP, packet("198.51.100.1", "192.0.2.10", 1), 0, 40) is None


# A policy of the operator's own.

CONNECTION = Connection("web", "tcp", "198.51.100.1", 4000, "192.0.2.10", 80)


class Evil:
    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]


def exits(*_: object) -> str:
    raise SystemExit


ANSWERS = {
    "right": (lambda *seen: seen[1][0].name, ""),
    "raises": (lambda *_: 1 / 0, "raised"),
    "exits": (exits, "raised"),
    "nothing": (lambda *_: None, "nonsense"),
    "another name": (lambda *_: "z", "nonsense"),
    "evil": (lambda *_: Evil(), "nonsense"),
    "endless": (lambda *_: sum(1 for _ in repeat(None)), "late"),
}


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    own_module.install()
    yield
    signal.signal(signal.SIGALRM, before)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def pool() -> Pool:
    return Pool([Candidate("a", 1, 1.0), Candidate("b", 2, 1.0)], lambda: 0.5)


def policy(function, clock, monkeypatch) -> OwnPolicy:
    monkeypatch.setattr(own_module, "_tried", function, raising=False)
    return OwnPolicy("markway.director.queueing.own:_tried", clock)


@pytest.mark.parametrize("name", ANSWERS)
def test_what_comes_of_an_answer(name, clock, monkeypatch):
    function, kind = ANSWERS[name]
    tried = policy(function, clock, monkeypatch)
    if not kind:
        assert tried(CONNECTION, pool()).name == "a"
        return
    with pytest.raises(Undecided) as found:
        tried(CONNECTION, pool())
    assert found.value.kind == kind
    assert str(found.value)


def swallows(connection: object, backends: object) -> str:
    del connection, backends
    while True:
        try:
            for _ in repeat(None):
                pass
        except Exception:  # noqa: BLE001, S110  (an operator's code does such things)
            pass


def test_a_handler_for_everything_does_not_outlast_the_budget(clock, monkeypatch):
    with pytest.raises(Undecided) as found:
        policy(swallows, clock, monkeypatch)(CONNECTION, pool())
    assert found.value.kind == "late"


def test_one_that_fails_again_and_again_is_left_alone_for_a_while(clock, monkeypatch):
    calls = []

    def fails(connection: Connection, backends: object) -> str:
        calls.append((connection, backends))
        raise ValueError

    tried = policy(fails, clock, monkeypatch)
    kinds = [kind_of(tried) for _ in range(PATIENCE + 3)]
    assert kinds == ["raised"] * PATIENCE + ["suspended"] * 3
    clock.now += 1.1
    assert [kind_of(tried), kind_of(tried)] == ["raised", "suspended"]
    assert len(calls) == PATIENCE + 1


def kind_of(tried: OwnPolicy) -> str:
    with pytest.raises(Undecided) as found:
        tried(CONNECTION, pool())
    return found.value.kind


@pytest.mark.parametrize("name", ["no_such_module:f", "markway.balance.policies:no_such_name"])
def test_one_that_is_not_there_is_missing(name, clock):
    assert kind_of(OwnPolicy(name, clock)) == "missing"


def test_a_failure_inside_is_no_failure_of_the_packet(decisions):
    asked = decisions.services[TAG]
    asked.policy = lambda *_: 1 / 0
    assert ask(decisions, TCP4) == TAG
    assert asked.undecided == {"error": 1}


def test_who_is_called_is_noted_until_it_returns(clock, monkeypatch):
    noted: list[object] = []
    monkeypatch.setattr(own_module, "_tried", lambda *_: noted.append("called"), raising=False)
    decisions = Decisions(lambda: 0.5, clock, noted.append)
    told(decisions, service("markway.director.queueing.own:_tried", (4,), (4,)))
    assert noted == [TAG, 0]  # its import
    ask(decisions, TCP4)
    assert noted[2:] == [TAG, "called", 0]


def test_a_resting_policy_is_not_asked_and_not_even_imported(decisions, monkeypatch):
    name = "markway.director.queueing.own:_tried"
    own = service(name, (4,), (4,), tag=0x50)
    told(decisions, own, resting=(name,))
    assert ask(decisions, TCP4, 0x50) == 0x50
    assert decisions.services[0x50].undecided == {"suspended": 1}
    monkeypatch.setattr(own_module, "_tried", lambda *seen: seen[1][0].name, raising=False)
    told(decisions)
    assert ask(decisions, TCP4, 0x50) == 1


# What the daemon says.

FILE = """
[service.web]
listen = ["192.0.2.10:80", "[2001:db8::10]:80"]
schedule = "least-load"
backend.a.address = ["192.168.1.10:80", "[fd00:1::10]:80"]
backend.b = { address = "192.168.1.11:80", weight = 3 }
backend.c = { address = ["192.168.1.12:80", "[fd00:1::12]:80"], priority = 2 }
[service.plain]
listen = "192.0.2.10:81"
backend.a.address = "192.168.1.10:80"
"""


def test_what_the_worker_is_told():
    compiled = compile_config(load_text(FILE, "x.toml").config, Registry())
    [found] = queued_services(compiled, {"web/a": 0.5})
    entry = next(entry for entry in compiled.program.services if entry.name == "web")
    marks = {b.name: b.mark for b in entry.backends}
    assert found.policy == "least-load"
    assert found.backends == (
        QueuedBackend("a", marks["a"], 1.0, (4, 6), 0.5),
        QueuedBackend("b", marks["b"], 3.0, (4,), None),
    )
    assert f"0x{found.tag:08x}" in compiled.program.fragments["web"].elements["undecided"]
    assert QueuedService.from_record(found.record) == found


def test_weights_that_hold_now_are_in_the_file_s_unit():
    compiled = compile_config(
        load_text(FILE, "x.toml").config, Registry(), weights={"web": {"a": 0, "b": 150, "c": 100}}
    )
    [found] = queued_services(compiled, {})
    assert {b.name: (b.weight, b.versions) for b in found.backends} == {"b": (1.5, (4,)), "c": (1.0, (6,))}


def test_reports_add_up():
    stats = QueueStats()
    report = {
        "verdicts": 5,
        "unknown": 1,
        "lost": 0,
        "latency": [1] * len(stats.latency),
        "services": {"web": {"decided": 4, "undecided": {"late": 1}, "said": "no answer"}},
        "connections": {"3": 7},
    }
    assert stats.add(report) == ["web"]
    assert stats.add(report | {"services": {}}) == []
    assert (stats.verdicts, stats.unknown, stats.latency[0], stats.connections) == (10, 2, 2, {3: 7})
    assert stats.services["web"].undecided == {"late": 1}
