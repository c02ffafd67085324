"""What counters say of a backend that answers nothing."""

from __future__ import annotations

from markway.director.silence import FEWEST, Passed, silent


def test_who_gets_connections_and_says_nothing_is_silent():
    assert silent({1: Passed(100, 900), 2: Passed(100, 900)}, {1: Passed(120, 900), 2: Passed(120, 1100)}) == [1]


def test_a_few_packets_of_old_connections_are_no_answer():
    assert silent({1: Passed(100, 900)}, {1: Passed(120, 910)}) == [1]
    assert silent({1: Passed(100, 900)}, {1: Passed(120, 911)}) == []


def test_a_few_connections_say_nothing():
    assert silent({1: Passed(0, 0)}, {1: Passed(FEWEST - 1, 0)}) == []
    assert silent({1: Passed(0, 0)}, {1: Passed(FEWEST, 0)}) == [1]


def test_a_first_look_and_counters_that_began_anew_say_nothing():
    assert silent({}, {1: Passed(100, 0)}) == []
    assert silent({1: Passed(100, 900)}, {1: Passed(50, 20)}) == []
    assert silent({1: Passed(100, 900)}, {1: Passed(150, 20)}) == []
