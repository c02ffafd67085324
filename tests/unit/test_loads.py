"""What readings mean: numbers, fields, SNMP's objects and counters. The real sources are in tests/kernel."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from ipaddress import ip_address

import pytest

from markway.config.model import Load, LoadKind
from markway.director.loads import Loads, reader
from markway.director.loads.http import field
from markway.director.loads.snmp import Count, rate, wanted
from markway.director.loads.value import number
from markway.director.model import AgentSaid, LoadError, Outcome, Target, Word
from markway.lab.load_average import ENTRY, LoadAverage, answer, table

TARGET = Target("web", "a", ip_address("192.0.2.1"), 80)
WIDE, NARROW, UPTIME = "1.3.6.1.2.1.31.1.1.1.6.2", "1.3.6.1.2.1.2.2.1.10.2", "1.3.6.1.2.1.1.3.0"


@pytest.mark.parametrize(
    ("value", "means"),
    [(3, 3.0), (b"0.71", 0.71), ("  12\n", 12.0), (b"\x9fx\x04\x3f\x00\x00\x00", 0.5), ("1e3", 1000.0)],
)
def test_numbers(value, means):
    assert number(value) == means


@pytest.mark.parametrize("value", [None, True, "", "-1", "nan", "inf", b"\xff", [], "x" * 999, 10**400, math.nan])
def test_what_is_no_number(value):
    with pytest.raises(LoadError, match=r"is no load$") as caught:
        number(value)
    assert len(str(caught.value)) < 60


def test_fields():
    document = {"a": [{"b": 1}, [2, 3]], "0": 4}
    assert field(document, ("a", "0", "b")) == 1
    assert field(document, ("a", "1", "1")) == 3
    assert field(document, ("0",)) == 4
    assert field(7, ()) == 7
    for keys, way in [(("a", "2"), "a.2"), (("x", "y"), "x"), (("0", "z"), "0.z"), (("a", "-1"), "a.-1")]:
        with pytest.raises(LoadError, match=f"^no field {way} in the answer$"):
            field(document, keys)


def test_objects():
    assert wanted("laLoadInt.1") == ["1.3.6.1.4.1.2021.10.1.5.1"]
    assert wanted(".1.3.6.1.99") == ["1.3.6.1.99"]
    assert wanted("ifInOctets.2") == [WIDE, NARROW, UPTIME]
    for name in ("laLoadInt", "sysName.0", "ifInOctets"):
        with pytest.raises(LoadError, match="no SNMP object is called"):
            wanted(name)


def rates(*counts: Count) -> list[float | None]:
    kept: deque[Count] = deque()
    found: list[float | None] = []
    for count in counts:
        kept.append(count)
        try:
            found.append(rate(kept))
        except LoadError:
            found.append(None)
    return found


def test_a_rate_is_over_the_last_15_seconds():
    steady = [Count(1000 * second, 100 * second, 64) for second in range(0, 60, 5)]
    assert rates(*steady) == [None] + [1000.0] * 11
    stopped = [*steady, *(Count(steady[-1].octets, 100 * second, 64) for second in (60, 65, 70))]
    assert rates(*stopped)[-3:] == [pytest.approx(2000 / 3), pytest.approx(1000 / 3), 0.0]


@pytest.mark.parametrize("bits", [32, 64])
def test_a_counter_goes_round(bits):
    assert rates(Count(2**bits - 1000, 0, bits), Count(4000, 500, bits)) == [None, 1000.0]


def test_an_agent_that_began_anew_is_no_rate():
    assert rates(Count(9000, 900, 32), Count(10, 100, 32), Count(1010, 200, 32)) == [None, None, 1000.0]
    assert rates(Count(9000, 900, 32), Count(9000, 900, 32)) == [None, None]


class Agent:
    """An agent that says what it is told to; `asked` counts sessions."""

    def __init__(self, *answers: dict[str, object] | list[object] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def connect(self, _load: Load, _target: Target) -> Agent:
        self.asked += 1
        return self

    async def get(self, oids: list[str]) -> dict[str, object]:
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, dict)
        return {oid: found[oid] for oid in oids if oid in found}

    async def column(self, _oid: str) -> list[object]:
        found = self.answers.pop(0)
        assert isinstance(found, list)
        return found


def told(load: Load, agent: Agent, times: int = 1) -> list[object]:
    async def work() -> list[object]:
        loads = Loads(agent.connect)  # type: ignore[arg-type]
        found: list[object] = []
        for _ in range(times):
            try:
                found.append(await loads.read(load, TARGET))
            except LoadError as error:
                found.append(str(error))
        await loads.close()
        return found

    return asyncio.run(work())


def test_the_processors_mean():
    agent = Agent([10, 30], [])
    assert told(Load(LoadKind.SNMP, target="hrProcessorLoad"), agent, 2) == [20.0, "the agent has no hrProcessorLoad"]


def test_counters_of_64_bits_go_before_those_of_32():
    load = Load(LoadKind.SNMP, target="ifInOctets.2")
    both: list[dict[str, object]] = [{WIDE: 5_000_000_000 + n, NARROW: n, UPTIME: n} for n in (100, 200)]
    old: list[dict[str, object]] = [{NARROW: n, UPTIME: n} for n in (300, 400)]
    first = "a rate needs two readings"
    # An agent that loses its wide counters is another agent.
    assert told(load, Agent(*both, *old), 4) == [first, 100.0, first, 100.0]
    assert told(load, Agent({UPTIME: 5}), 1) == ["the agent has no ifInOctets.2"]


def test_a_session_that_failed_is_not_used_again():
    oid = wanted("laLoadInt.1")[0]
    agent = Agent({oid: 7}, {oid: 8}, TimeoutError(), {oid: 9}, OSError(111, "Connection refused"), {})
    load = Load(LoadKind.SNMP, target="laLoadInt.1")
    assert told(load, agent, 6) == [7, 8, "no answer in 2 s", 9, "connection refused", "the agent has no laLoadInt.1"]
    assert agent.asked == 3


def agent_says(monkeypatch, outcome: Outcome) -> object:
    async def ask(*_: object) -> Outcome:
        return outcome

    monkeypatch.setattr(reader, "ask", ask)
    return told(Load(LoadKind.AGENT, port=8888), Agent())[0]


@pytest.mark.parametrize(
    ("said", "percent"),
    [
        (AgentSaid(percent=40), 40.0),
        (AgentSaid(Word.READY, 75), 75.0),
        (AgentSaid(Word.UP), 100.0),
        (AgentSaid(), 100.0),
        (AgentSaid(Word.DRAIN, 75), 0.0),
        (AgentSaid(Word.MAINT), 0.0),
    ],
)
def test_what_an_agent_gives(monkeypatch, said, percent):
    assert agent_says(monkeypatch, Outcome(well=True, took=0, agent=said)) == percent


def test_an_agent_that_says_down_takes_nothing_and_a_silent_one_is_an_error(monkeypatch):
    assert agent_says(monkeypatch, Outcome(well=False, took=0, reason="x", agent=AgentSaid(Word.DOWN))) == 0
    assert agent_says(monkeypatch, Outcome(well=False, took=0, reason="no answer in 1 s")) == "no answer in 1 s"


def test_a_lab_s_load_average_is_the_kernel_s():
    load = LoadAverage(60)
    assert load.interval == 5
    for _ in range(12):
        load.add(2)
    # kernel/sched/loadavg.c: after a minute of two that run.
    assert load.averages == pytest.approx(
        [2 * (1 - math.exp(-1)), 2 * (1 - math.exp(-1 / 5)), 2 * (1 - math.exp(-1 / 15))]
    )


def test_a_lab_s_table_is_walked_in_order():
    cells = table([1.0, 0.25, 0.0])
    assert answer("get", f"{ENTRY}.5.1", cells) == [f"{ENTRY}.5.1", "integer", "100"]
    assert answer("get", f"{ENTRY}.3.2", cells) == [f"{ENTRY}.3.2", "string", "0.25"]
    assert answer("get", f"{ENTRY}.4.1", cells) == ["NONE"]
    walked, here = [], ENTRY
    while (found := answer("getnext", here, cells)) != ["NONE"]:
        here = found[0]
        walked.append(here.removeprefix(f"{ENTRY}."))
    assert walked == [f"{column}.{row}" for column in (1, 2, 3, 5) for row in (1, 2, 3)]
