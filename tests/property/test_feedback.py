"""Load feedback: bounded, at rest under noise, and of use on a simulated farm."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from math import exp, log
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markway.balance.feedback import FRESH, STEP_TOLD, Seen, effective, next_ramp, ramp, step, told
from markway.config.model import Load, LoadKind

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = settings(max_examples=100, deadline=None)
SIMULATED = settings(max_examples=8, deadline=None)
EVERY = 5.0
LOAD = Load(LoadKind.SNMP, full=1.0, every=EVERY, stale=15.0, floor=0.1)
LAGS = pytest.mark.parametrize("lag", [0.0, 60.0, 300.0], ids=lambda lag: f"lag-{lag:g}")

READINGS = st.one_of(st.none(), st.floats(0, 1e9))
NAMES = st.sampled_from("abcde")


@dataclass
class Farm:
    """Servers that share a demand by their weights; each is read as the kernel's load average reads it.

    `demand` and capacities are of one unit of work a second. A reading lags by an exponential average over `lag`
    seconds. With `queues`, what is read is not the utilisation r but the length of a queue, r / (1 - r).
    """

    capacities: dict[str, float]
    demand: float
    lag: float = 60.0
    noise: float = 0.0
    queues: bool = False
    foreign: Callable[[float, str], float] = lambda _time, _name: 0.0
    seed: int = 1
    every: float = EVERY
    now: float = 0.0
    changes: int = 0
    seen: dict[str, Seen] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self):
        self.chance = random.Random(self.seed)
        self.averages = dict.fromkeys(self.capacities, 0.0)

    def factor(self, name: str) -> float:
        return self.seen.get(name, FRESH).factor

    def utilisation(self, name: str) -> float:
        weights = {name: effective(1, self.factor(name)) for name in self.capacities}
        share = weights[name] / sum(weights.values())
        return share * self.demand / self.capacities[name] + self.foreign(self.now, name)

    def spread(self) -> float:
        """The largest distance of a utilisation from the mean of all, as a fraction of it."""
        found = [self.utilisation(name) for name in self.capacities]
        mean = sum(found) / len(found)
        return max(abs(value - mean) for value in found) / mean

    def run(self, seconds: float) -> Farm:
        end = self.now + seconds
        while self.now < end:
            kept = exp(-self.every / self.lag) if self.lag else 0.0
            for name in self.capacities:
                now = self._shown(self.utilisation(name))
                self.averages[name] = kept * self.averages[name] + (1 - kept) * now
            self.now += self.every
            noisy = {n: load * (1 + self.chance.uniform(-self.noise, self.noise)) for n, load in self.averages.items()}
            before = {name: self.factor(name) for name in self.capacities}
            load = replace(LOAD, every=self.every)
            self.seen = step(load, self.seen, noisy, self.now, dict.fromkeys(self.capacities, 1))
            after = {name: self.factor(name) for name in self.capacities}
            self.changes += after != before
            self.history.append(after)
        return self

    def swing(self) -> float:
        """Peak to peak of any factor in the last quarter, as a fraction of it."""
        last = self.history[-len(self.history) // 4 :]
        return max(max(f[n] for f in last) / min(f[n] for f in last) - 1 for n in self.capacities)

    def _shown(self, utilisation: float) -> float:
        if not self.queues:
            return utilisation
        return utilisation / (1 - utilisation) if utilisation < 0.95 else 19 + 100 * (utilisation - 0.95)


CAPACITIES = st.lists(st.floats(1, 4), min_size=2, max_size=8).map(
    lambda found: {f"s{number}": capacity for number, capacity in enumerate(found)}
)


@SIMULATED
@given(CAPACITIES, st.floats(0.4, 2.0), st.sampled_from([0.0, 60.0, 300.0]))
def test_unlike_servers_end_equally_used_and_stay_so(capacities, use, lag):
    farm = Farm(capacities, use * sum(capacities.values()), lag).run(3 * 3600)
    assert farm.spread() < 0.2
    assert farm.swing() <= 0.06  # one change that is worth telling at most


@SIMULATED
@given(CAPACITIES, st.floats(0.4, 0.9))
def test_near_saturation_it_is_calm_too(capacities, use):
    farm = Farm(capacities, use * sum(capacities.values()), queues=True).run(3 * 3600)
    assert farm.spread() < 0.2
    assert farm.swing() <= 0.11


@LAGS
def test_a_farm_of_three(lag):
    farm = Farm({"a": 1, "b": 2, "c": 4}, 4, lag)
    assert farm.spread() > 0.7
    farm.run(7200)
    assert farm.spread() < 0.15
    assert farm.swing() == 0
    assert farm.changes < 40


@LAGS
@pytest.mark.parametrize("servers", [2, 3, 20])
def test_noise_moves_nothing_where_all_are_equal(servers, lag):
    farm = Farm({f"s{i}": 1.0 for i in range(servers)}, 0.6 * servers, lag, noise=0.2).run(2 * 3600)
    assert min(min(factors.values()) for factors in farm.history) > 0.9
    assert farm.changes <= 10  # in 1,440 steps


def test_noise_moves_little_where_servers_are_unlike():
    farm = Farm({"a": 1, "b": 2, "c": 4}, 4, noise=0.2).run(4 * 3600)
    assert farm.spread() < 0.2
    assert farm.swing() < 0.15
    assert farm.changes < 100


@LAGS
def test_other_work_on_a_server_moves_connections_away_and_back(lag):
    farm = Farm(dict.fromkeys("abc", 1.0), 1.5, lag, foreign=lambda now, name: 2.0 * (name == "b" and 300 <= now < 900))
    farm.run(300)
    assert farm.factor("b") == 1
    farm.run(120)
    assert farm.factor("b") < 0.7
    farm.run(480)
    assert farm.factor("b") < 0.25
    assert farm.factor("a") == farm.factor("c") == 1
    farm.run(1800)
    assert min(map(farm.factor, "abc")) > 0.75


@pytest.mark.parametrize("every", [1.0, 30.0])
def test_all_times_are_numbers_of_readings(every):
    """A reading a second and a lag of 60 s are as one each 5 s and a lag of 300 s: what holds there holds here."""
    usual = Farm({"a": 1, "b": 2, "c": 4}, 4, lag=300.0).run(7200)
    other = Farm({"a": 1, "b": 2, "c": 4}, 4, lag=60.0 * every, every=every).run(1440 * every)
    assert len(usual.history) == len(other.history) == 1440
    assert all(then == pytest.approx(now) for then, now in zip(usual.history, other.history, strict=True))


@pytest.mark.parametrize(("every", "reaction"), [(1.0, 12.0), (0.1, 12.0), (5.0, 60.0)])
def test_who_reads_more_often_is_answered_sooner_up_to_once_a_second(every, reaction):
    farm = Farm(dict.fromkeys("abc", 1.0), 1.5, every / 5, foreign=lambda *at: 2.0 * (at[1] == "b"), every=every)
    farm.run(reaction)
    assert farm.factor("b") < 0.5


@pytest.mark.parametrize("every", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("queues", [False, True])
def test_a_load_average_may_be_read_as_often_as_one_likes(every, queues):
    farm = Farm({"a": 1, "b": 2, "c": 4}, 4, every=every, queues=queues).run(1800)
    assert farm.spread() < 0.2
    assert farm.swing() <= 0.11


def test_a_farm_that_falls_idle_has_its_own_weights_again():
    farm = Farm({"a": 1, "b": 2, "c": 4}, 4).run(3600)
    assert farm.factor("a") < 0.5
    farm.demand = 0.05
    farm.run(1200)
    assert min(map(farm.factor, "abc")) > 0.94


@SETTINGS
@given(st.lists(st.tuples(st.dictionaries(NAMES, READINGS), st.floats(0, 60)), max_size=40), st.floats(0.01, 1))
def test_whatever_is_read_factors_are_between_the_floor_and_1(rounds, floor):
    load = Load(LoadKind.SNMP, full=1.0, floor=floor)
    seen: dict[str, Seen] = {}
    now = 0.0
    for readings, passed in rounds:
        now += passed
        seen = step(load, seen, readings, now, dict.fromkeys("abcde", 1))
        assert seen.keys() == set("abcde")
        assert all(floor <= one.factor <= 1 for one in seen.values())
        assert max(one.factor for one in seen.values()) > 1 - STEP_TOLD


@SETTINGS
@given(st.lists(READINGS, max_size=40))
def test_equal_loads_make_equal_factors(readings):
    seen: dict[str, Seen] = {}
    for count, reading in enumerate(readings):
        seen = step(LOAD, seen, dict.fromkeys("abc", reading), count * EVERY, dict.fromkeys("abc", 1))
    assert all(one.factor == 1 for one in seen.values())


@SETTINGS
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=5), st.lists(st.floats(0, 1e6), min_size=5, max_size=5))
def test_a_step_is_bounded(first, then):
    names = "abcde"[: len(first)]
    seen = step(LOAD, {}, dict(zip(names, first, strict=True)), 0.0, dict.fromkeys(names, 1))
    for count in range(1, 10):
        before = seen
        seen = step(LOAD, seen, dict(zip(names, then, strict=False)), count * EVERY, dict.fromkeys(names, 1))
        moves = [log(seen[n].factor / before[n].factor) for n in names]
        assert max(moves) - min(moves) < 2 * 0.25 + 2 * STEP_TOLD  # either way, and what was not told before


@pytest.mark.parametrize("silent", ["a", "b"])
def test_stale_data_is_the_configured_weight(silent):
    farm = Farm({"a": 1, "b": 3}, 2).run(3600)
    assert farm.factor("a") < 0.5
    other = {"a": "b", "b": "a"}[silent]
    seen, steady = farm.seen, farm.averages[other]
    for passed in (5, 10, 14.7):
        seen = step(LOAD, seen, {silent: None, other: steady}, farm.now + passed, {"a": 1, "b": 1})
        assert seen[silent].smooth is not None
    seen = step(LOAD, seen, {other: steady}, farm.now + 14.99, {"a": 1, "b": 1})  # timers are not that exact
    assert seen[silent].smooth is None
    assert seen[silent].factor == 1


def test_who_falls_silent_gets_no_more_than_its_weight():
    seen: dict[str, Seen] = {}
    for count in range(30):
        seen = step(LOAD, seen, {"a": 2.0, "b": 0.5, "c": 0.5}, count * EVERY, dict.fromkeys("abc", 1))
    assert seen["a"].factor < 0.5
    for count in range(30, 40):
        seen = step(LOAD, seen, {"b": 0.5, "c": 0.5}, count * EVERY, dict.fromkeys("abc", 1))
    assert {name: one.factor for name, one in seen.items()} == dict.fromkeys("abc", 1)


def test_a_factor_that_is_remembered_holds_until_it_would_be_stale():
    seen = {"a": Seen(factor=0.3), "b": FRESH}
    for now in (0, 5, 10, 14.7):
        seen = step(LOAD, seen, {}, now, {"a": 1, "b": 1})
        assert seen["a"].factor == 0.3
    assert step(LOAD, seen, {}, 15, {"a": 1, "b": 1})["a"].factor == 1


def test_those_that_take_no_connections_take_no_part():
    seen: dict[str, Seen] = {}
    for count in range(100):
        seen = step(LOAD, seen, {"a": 0.8, "b": 0.8, "c": 0.0, "d": 0.0}, count * EVERY, {"a": 1, "b": 1, "c": 0})
    assert {name: one.factor for name, one in seen.items()} == dict.fromkeys("abc", 1)
    seen = step(LOAD, seen | {"d": Seen(factor=0.2)}, {}, 500.0, {"a": 1, "b": 1})
    assert seen["d"].factor == 1


def test_an_agent_orders():
    load = Load(LoadKind.AGENT, stale=15.0)
    seen = told(load, {}, {"a": 0.0, "b": 40.0, "c": 300.0, "d": None}, 0.0)
    assert {name: one.factor for name, one in seen.items()} == {"a": 0, "b": 0.4, "c": 1, "d": 1}
    seen = told(load, seen, {}, 14.7)
    assert (seen["a"].factor, seen["b"].factor) == (0, 0.4)
    assert {one.factor for one in told(load, seen, {}, 15.0).values()} == {1}
    # And the controller can go on from there.
    assert step(LOAD, seen, {}, 14.7, dict.fromkeys("abcd", 1))["a"].factor == LOAD.floor


@SETTINGS
@given(st.integers(0, 65535), st.floats(0, 1), st.floats(0, 1))
def test_an_effective_weight_is_never_nothing_by_rounding(configured, factor, slow):
    weight = effective(configured, factor, slow)
    assert (weight == 0) == (configured * 100 * factor * slow == 0)
    assert weight <= configured * 100
    assert weight == 1 or abs(weight - configured * 100 * factor * slow) <= 0.5


@SETTINGS
@given(st.floats(0.01, 86400))
def test_a_ramp_rises_in_few_equal_steps_at_the_times_told(slow_start):
    values, at = [ramp(0.0, slow_start)], 0.0
    while values[-1] < 1:
        coming = next_ramp(at, slow_start)
        assert ramp(coming - slow_start / 1000, slow_start) == values[-1]
        at = coming
        values.append(ramp(at, slow_start))
    assert at == pytest.approx(slow_start)
    assert values == pytest.approx([0.1 + 0.05 * count for count in range(19)])
    assert ramp(slow_start, slow_start) == ramp(0.0, 0.0) == 1
    assert next_ramp(slow_start, slow_start) == pytest.approx(slow_start)
