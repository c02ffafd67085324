"""Slot tables: shares within one slot of the weights, and few moves when a backend comes or goes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markway.balance.slots import LARGEST, SMALLEST, exact_size, hash_size, interleave, maglev, quotas

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=20)
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 65535), max_size=40)
SIZES = st.sampled_from([512, 1024, 2048, 4096])
SETTINGS = settings(max_examples=150, deadline=None)


def exact(weights: dict[str, int], size: int) -> dict[str, Fraction]:
    total = sum(weights.values())
    return {name: Fraction(weight * size, total) for name, weight in weights.items()}


@SETTINGS
@given(WEIGHTS, st.integers(1, 4096))
def test_quotas_fill_the_table_and_are_within_one_slot(weights, size):
    found = quotas(weights, size)
    assert found.keys() == weights.keys()
    if sum(weights.values()):
        assert sum(found.values()) == size
        assert all(abs(found[name] - share) < 1 for name, share in exact(weights, size).items())
        assert all(found[name] == 0 for name, weight in weights.items() if not weight)
    else:
        assert not any(found.values())


@SETTINGS
@given(WEIGHTS, st.integers(16, 4096))
def test_turns_are_within_one_slot_and_evenly_apart(weights, size):
    table = interleave(weights, size)
    assert len(table) == (size if any(weights.values()) else 0)
    for name, quota in quotas(weights, size).items():
        at = [slot for slot, other in enumerate(table) if other == name]
        assert len(at) == quota
        if quota > 1:
            gaps = [right - left for left, right in zip(at, [*at[1:], at[0] + size], strict=True)]
            assert max(gaps) <= 2 * size / quota + len(weights)


@SETTINGS
@given(WEIGHTS, SIZES)
def test_hashed_shares_are_within_one_slot(weights, size):
    table = maglev(weights, size)
    assert len(table) == (size if any(weights.values()) else 0)
    if table:
        for name, share in exact(weights, size).items():
            assert abs(table.count(name) - share) < 1


@SETTINGS
@given(st.dictionaries(NAMES, st.integers(1, 20), min_size=1, max_size=12), st.randoms())
def test_the_order_of_the_file_is_irrelevant(weights, random):
    shuffled = list(weights.items())
    random.shuffle(shuffled)
    assert interleave(weights, 64) == interleave(dict(shuffled), 64)
    assert maglev(weights, 512) == maglev(dict(shuffled), 512)


@SETTINGS
@given(st.dictionaries(NAMES, st.integers(0, 300), max_size=8))
def test_small_weights_are_exact(weights):
    size = exact_size(weights)
    assert SMALLEST <= size <= LARGEST
    if any(weights.values()) and sum(weights.values()) <= LARGEST:
        assert all(share.denominator == 1 for share in exact(weights, size).values())


def moved(before: tuple[str, ...], after: tuple[str, ...]) -> float:
    assert len(before) == len(after)
    return sum(a != b for a, b in zip(before, after, strict=True)) / len(before)


@SETTINGS
@given(st.data(), st.integers(2, 64))
def test_one_of_n_equal_backends_takes_along_one_nth_and_at_most_a_twentieth_more(data, count):
    names = data.draw(st.lists(NAMES, min_size=count, max_size=count, unique=True))
    size = hash_size(count)
    whole = dict.fromkeys(names, 1)
    before = maglev(whole, size)
    for gone in (names[0], names[-1]):
        without = {name: 1 for name in names if name != gone}
        assert hash_size(count - 1, size) == size
        after = maglev(without, size)
        assert moved(before, after) <= 1 / count + 0.05
        # ... and so does one that joins, as the tables do not know what was before.
        assert gone not in after


@pytest.mark.parametrize("count", [100, 200, 256])
def test_one_of_many_takes_along_little_more_than_its_own(count):
    names = [f"server-{number}" for number in range(count)]
    before = maglev(dict.fromkeys(names, 1), hash_size(count))
    after = maglev(dict.fromkeys(names[1:], 1), hash_size(count))
    assert moved(before, after) <= 1 / count + 0.05


@pytest.mark.parametrize(("weight", "most"), [(0, 1 / 8 + 0.05), (2, 1 / 8 + 0.05)])
def test_a_changed_weight_moves_about_what_it_must(weight, most):
    names = dict.fromkeys("abcdefgh", 1)
    before, after = maglev(names, 1024), maglev({**names, "c": weight}, 1024)
    assert moved(before, after) <= most


@SETTINGS
@given(st.integers(0, 3000), st.none() | SIZES)
def test_a_hash_table_is_a_power_of_two_and_keeps_its_size_until_crowded(backends, current):
    size = hash_size(backends, current)
    assert size in {512, 1024, 2048, 4096}
    if current:
        assert size >= current or backends * 16 > current
        assert hash_size(max(backends - 1, 0), size) == size
