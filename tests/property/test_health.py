"""The rise and fall of a backend, whatever its checks say."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from markway.config.model import Check, CheckKind
from markway.director.health import Health, State, next_check

TIMES = st.integers(1, 6)
ANSWERS = st.lists(st.booleans(), max_size=60)
STARTS = st.one_of(
    st.just(Health()), st.builds(Health.remembered, up=st.booleans(), since=st.floats(-1e6, 0)),
)  # fmt: skip


def of(rise: int = 2, fall: int = 3) -> Check:
    return Check(CheckKind.TCP, rise=rise, fall=fall)


def life(start: Health, check: Check, answers: list[bool]) -> list[Health]:
    """The start, and what is believed after each answer; one comes each second from 1 on."""
    found = [start]
    for now, well in enumerate(answers, 1):
        found.append(found[-1].after(well=well, check=check, now=float(now)))
    return found


def run_length(answers: list[bool]) -> int:
    """How many of the latest answers are alike."""
    return len(list(next(iter(groupby(reversed(answers))))[1])) if answers else 0


@given(TIMES, TIMES, STARTS, ANSWERS)
def test_no_change_without_so_many_answers_in_a_row(rise: int, fall: int, start: Health, answers: list[bool]) -> None:
    believed = life(start, of(rise, fall), answers)
    for number, (before, after) in enumerate(pairwise(believed), 1):
        if before.state is not after.state and before.state is not State.UNKNOWN:
            assert run_length(answers[:number]) >= (rise if after.up else fall)
            assert after.up is answers[number - 1]


@given(TIMES, TIMES, STARTS, ANSWERS, st.booleans())
def test_so_many_answers_in_a_row_decide(
    rise: int, fall: int, start: Health, answers: list[bool], well: bool
) -> None:  # fmt: skip
    more = [well] * (rise if well else fall)
    assert life(start, of(rise, fall), answers + more)[-1].up is well


@given(TIMES, TIMES, st.booleans())
def test_the_first_answer_about_an_unknown_backend_decides(rise: int, fall: int, well: bool) -> None:
    assert not Health().up
    after = Health().after(well=well, check=of(rise, fall), now=7.0)
    assert (after.up, after.since, after.changing, after.checked) == (well, 7.0, False, True)


@given(TIMES, TIMES, st.booleans(), st.floats(-1e6, 0))
def test_a_remembered_backend_stays_until_enough_say_otherwise(rise: int, fall: int, up: bool, since: float) -> None:
    believed = life(Health.remembered(up=up, since=since), of(rise, fall), [not up] * 6)
    needed = fall if up else rise
    assert [one.up for one in believed] == [up] * needed + [not up] * (7 - needed)
    assert all(one.since == since for one in believed[:needed])
    assert believed[needed].since == needed


@given(TIMES, TIMES, STARTS, ANSWERS)
def test_since_is_the_last_change(rise: int, fall: int, start: Health, answers: list[bool]) -> None:
    since = start.since
    for now, (before, after) in enumerate(pairwise(life(start, of(rise, fall), answers)), 1):
        since = float(now) if before.state is not after.state else since
        assert after.since == since


@given(TIMES, TIMES, STARTS, ANSWERS.filter(bool))
def test_changing_is_after_a_contradiction_only(rise: int, fall: int, start: Health, answers: list[bool]) -> None:
    health = life(start, of(rise, fall), answers)[-1]
    assert health.checked
    assert health.changing is (health.up is not answers[-1])
    assert health.streak < (fall if health.up else rise)


CHECKS = st.builds(
    lambda every, part, jitter: Check(CheckKind.TCP, every=every, fast=every * part, jitter=jitter),
    st.floats(0.01, 3600), st.floats(0.01, 1), st.floats(0, 0.5),
)  # fmt: skip


@given(CHECKS, st.floats(0, 1, exclude_max=True), STARTS, ANSWERS)
def test_the_next_check_is_about_an_interval_away(
    check: Check, chance: float, start: Health, answers: list[bool]
) -> None:  # fmt: skip
    health = life(start, check, answers)[-1]
    at = next_check(check, health, 0.0, chance)
    if not health.checked:
        assert 0 <= at <= check.fast
    else:
        interval = check.fast if health.changing else check.every
        assert interval * (1 - check.jitter) * 0.999 <= at <= interval * (1 + check.jitter) * 1.001


@given(CHECKS, st.floats(-1e6, 1e6))
def test_the_middle_of_chance_is_the_interval(check: Check, start: float) -> None:
    up = Health().after(well=True, check=check, now=0)
    assert abs(next_check(check, up, start, 0.5) - start - check.every) < 1e-6


@given(TIMES, TIMES, STARTS, ANSWERS)
def test_an_answer_that_counts_for_two_is_two_answers(rise: int, fall: int, start: Health, answers: list[bool]) -> None:
    check = of(rise, fall)
    before = life(start, check, answers)[-1]
    doubled = before.after(well=False, check=check, now=99.0, answers=2)
    assert doubled == before.after(well=False, check=check, now=99.0).after(well=False, check=check, now=99.0)
