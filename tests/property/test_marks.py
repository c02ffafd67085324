"""The registry of numbers: nobody is renumbered, and a mark keeps its meaning."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markway.marks import Field, MarksError, Registry, assign, grant, reserve

NAMES = st.text("abc/", min_size=1, max_size=3)
SETTINGS = settings(max_examples=200, deadline=None)
MASKS = st.integers(0xFF, 0xFFFF_FFFF).filter(lambda mask: mask.bit_count() >= 12)


@SETTINGS
@given(st.lists(st.sets(NAMES, max_size=40), max_size=8))
def test_adding_removing_and_reordering_renumber_nobody(rounds):
    registry, before = Registry(), dict[str, int]()
    for names in rounds:
        registry = assign(registry, names, 0xFFFF)
        now = {name: registry.numbers[name] for name in names}
        assert len(set(now.values())) == len(now)
        assert all(0 < number < 1 << registry.width for number in now.values())
        # Not only those that stayed: one that left and came back has its number again.
        assert all(now[name] == number for name, number in before.items() if name in now)
        assert assign(registry, sorted(names, reverse=True), 0xFFFF) is registry
        assert set(registry.retired) == registry.numbers.keys() - names
        before |= now


@SETTINGS
@given(st.sets(NAMES, min_size=3, max_size=20), st.sets(NAMES, min_size=1, max_size=20))
def test_a_retired_number_is_given_away_last_and_the_longest_gone_first(old, new):
    mask = 0xFF  # 255 numbers
    registry = assign(Registry(), old, mask)
    registry = assign(registry, new, mask)
    fresh = new - old
    retired = {registry.numbers[name] for name in old - new}
    assert not {registry.numbers[name] for name in fresh} & retired
    # Until no other is left.
    crowd = [f"crowd{number}" for number in range(255 - len(registry.numbers))]
    full = assign(registry, {*new, *crowd}, mask)
    assert set(full.retired) == old - new
    if old - new:
        [*_, last] = full.retired
        one_more = assign(full, {*new, *crowd, "x"}, mask)
        assert one_more.numbers["x"] == full.numbers[full.retired[0]]
        assert full.retired[0] not in one_more.numbers
        assert last in one_more.numbers or len(full.retired) == 1


def test_a_mask_too_small_is_said():
    with pytest.raises(MarksError, match="16 backends need 5 mark bits, but mask 0x000000f0 has 4"):
        assign(Registry(), map(str, range(16)), 0xF0)
    assert len(assign(Registry(), map(str, range(15)), 0xF0).numbers) == 15


@SETTINGS
@given(MASKS, st.integers(0, 4095))
def test_a_number_is_placed_in_the_mask_s_bits_and_can_be_read_back(mask, number):
    field = Field(mask)
    mark = field.place(number)
    assert mark & ~mask == 0
    assert mark & field.others == 0
    assert sum(1 << index for index, bit in enumerate(field.bits) if mark & bit) == number
    with pytest.raises(MarksError):
        field.place(1 << mask.bit_count())


@SETTINGS
@given(MASKS, st.integers(0, 1500))
def test_the_field_grows_upward_and_stays_inside_the_mask(mask, count):
    registry = assign(Registry(), map(str, range(count)), mask)
    field = registry.backend_field(mask)
    assert field.mask & ~mask == 0
    assert field.mask | field.others == 0xFFFF_FFFF
    assert all(field.place(number) & field.others == 0 for number in registry.numbers.values())
    assert field.bits == Field(mask).bits[: registry.width]


@SETTINGS
@given(st.lists(st.dictionaries(NAMES, st.integers(16, 4096), max_size=12), max_size=6))
def test_slot_blocks_never_overlap_and_stay_where_they_fit(rounds):
    registry = Registry()
    for sizes in rounds:
        before = registry.blocks
        registry = reserve(registry, {**{name: block.size for name, block in before.items()}, **sizes})
        runs = sorted(registry.blocks.values())
        assert all(a.offset + a.size <= b.offset for a, b in pairwise(runs))
        for name, size in sizes.items():
            assert registry.blocks[name].size >= size
            if name in before and before[name].size >= size:
                assert registry.blocks[name] == before[name]


@SETTINGS
@given(st.lists(st.sets(NAMES, max_size=9), max_size=6))
def test_granted_numbers_stay_are_the_lowest_and_are_not_given_away_at_once(rounds):
    before = dict[str, int]()
    for names in rounds:
        now = grant(before, names, 20, "classes")
        assert now.keys() == names
        assert len(set(now.values())) == len(now)
        assert all(0 < number <= len(names | before.keys()) or number in before.values() for number in now.values())
        assert all(now[name] == number for name, number in before.items() if name in now)
        lost = {number for name, number in before.items() if name not in now}
        assert not lost & {now[name] for name in names - before.keys()}
        before = dict(now)


def test_when_all_numbers_are_given_those_lost_are_given_away_and_then_no_more():
    before = grant({}, ["a", "b"], 2, "uplinks")
    assert grant(before, ["b", "c"], 2, "uplinks") == {"b": 2, "c": 1}
    with pytest.raises(MarksError, match="there are 3 uplinks, but numbers for 2 only"):
        grant(before, ["a", "b", "c"], 2, "uplinks")


@SETTINGS
@given(MASKS, st.integers(8, 12), st.integers(0, 40), st.booleans())
def test_the_fields_of_a_layout_do_not_meet(mask, width, classes, uplinks):
    marked = {str(number): number for number in range(1, classes + 1)}
    registry = Registry(width=width, marked=marked, uplinks={"dsl": 1} if uplinks else {})
    try:
        layout = registry.layout(mask)
    except MarksError as error:
        mask = int(str(error).split("mask ")[-1].split()[0], 16)  # the one that it says would do
        layout = registry.layout(mask)
    fields = [layout.backend.mask, layout.class_.mask, layout.uplink.mask]
    assert sum(fields) & mask == fields[0] | fields[1] | fields[2] == sum(fields)
    assert layout.backend == registry.backend_field(mask)
    assert layout.class_.mask.bit_count() == classes.bit_length()
    assert layout.uplink.mask.bit_count() == 4 * uplinks
    assert fields[1] < layout.uplink.mask or not uplinks
    assert fields[0] < fields[1] or not classes
