"""Who gets a new connection: even, in proportion, never outside the pool, and never all to one."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markway.balance.policies import POLICIES, Candidate, Pool, least_connections, least_load, two_choices

WEIGHTS = st.lists(st.floats(0.1, 100), min_size=1, max_size=12)
COUNTS = st.lists(st.integers(0, 1000), min_size=12, max_size=12)
LOADS = st.lists(st.one_of(st.none(), st.floats(0, 2)), min_size=12, max_size=12)
SEEDS = st.integers(0, 1000)


def pool(weights, counts=(0,) * 12, loads=(None,) * 12, seed=1) -> Pool:
    made = zip(weights, loads, counts, strict=False)
    candidates = [Candidate(f"b{n}", n + 1, w, load, count) for n, (w, load, count) in enumerate(made)]
    return Pool(candidates, Random(seed).random)


def given_to(among: Pool, policy, count: int) -> Counter[str]:
    """How many of so many connections each gets, if all are held."""
    found: Counter[str] = Counter()
    for _ in range(count):
        chosen = policy(among)
        chosen.connections += 1
        found[chosen.name] += 1
    return found


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@given(WEIGHTS, COUNTS, LOADS, SEEDS)
def test_the_chosen_is_one_of_the_pool(policy, weights, counts, loads, seed):
    among = pool(weights, counts, loads, seed)
    for _ in range(20):
        chosen = policy(among)
        assert any(chosen is candidate for candidate in among.candidates)
        chosen.connections += 1


@given(WEIGHTS, COUNTS)
def test_least_connections_takes_the_least(weights, counts):
    among = pool(weights, counts)
    burdens = [(c.connections + 1) / c.weight for c in among.candidates]
    chosen = least_connections(among)
    assert (chosen.connections + 1) / chosen.weight == min(burdens)


@given(st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_held_connections_come_to_the_weights(weights):
    among = pool(weights)
    total = 20 * sum(weights)
    for number, got in enumerate(given_to(among, least_connections, total)[f"b{n}"] for n in range(len(weights))):
        assert abs(got - 20 * weights[number]) <= 1


def test_equals_take_turns():
    among = pool([1, 1, 1])
    names = [least_connections(among).name for _ in range(9)]  # each is over before the next begins
    assert Counter(names) == {"b0": 3, "b1": 3, "b2": 3}


@given(WEIGHTS.filter(lambda weights: len(weights) > 1), LOADS)
def test_least_load_gives_in_proportion_to_what_is_left(weights, loads):
    among = pool(weights, loads=loads)
    known = [load for load in loads[: len(weights)] if load is not None]
    usual = sum(known) / len(known) if known else 0.0
    able = [w * max(1 - (usual if load is None else load), 0.02) for w, load in zip(weights, loads, strict=False)]
    got = given_to(among, least_load, 1000)
    for number, one in enumerate(able):
        assert abs(got[f"b{number}"] - 1000 * one / sum(able)) <= len(weights) + 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_least_load_never_waits_for_a_reading_with_all_on_one(loads):
    """However idle one is beside others that have something left: it gets no more than its part, at any time."""
    among = pool([1] * len(loads), loads=loads)
    able = [max(1 - load, 0.02) for load in loads]
    got: Counter[str] = Counter()
    for count in range(1, 200):
        got[least_load(among).name] += 1
        for number, one in enumerate(able):
            assert got[f"b{number}"] <= count * one / sum(able) + len(loads)


def test_a_backend_that_recovers_does_not_catch_up():
    among = pool([1, 1], loads=[0.98, 0.0])
    given_to(among, least_load, 500)
    among.candidates[0].load = 0.0
    got = given_to(among, least_load, 300)
    assert got["b0"] <= 151


@given(SEEDS)
def test_two_choices_is_even_and_follows_the_weights(seed):
    got = given_to(pool([1, 2, 3], seed=seed), two_choices, 600)
    assert [got["b0"], got["b1"], got["b2"]] == [pytest.approx(each, abs=12) for each in (100, 200, 300)]


@given(SEEDS)
def test_two_choices_evens_out_what_chance_does_not(seed):
    """The fullest of ten has hardly more than the mean; by chance alone it has a third more at these numbers."""
    got = given_to(pool([1] * 10, seed=seed), two_choices, 1000)
    assert max(got.values()) <= 105
