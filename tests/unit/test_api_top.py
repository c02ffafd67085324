"""The frame of `markway top` at any size, and the rates in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markway.cli.frame import SORTS, Choice, Seen, frame
from markway.cli.pace import Pace, Rate


def backend(name, connections=0, octets=0, **more):
    return {
        "name": name, "state": "up", "effective": 1.0, "weight": 1, "asked": 0.5, "active": 3, "factor": 1.0,
        "reading": None, "checked": {"well": True, "took": 0.0012, "reason": "", "warning": ""},
        "connections": connections, "bytes": octets, **more,
    }  # fmt: skip


def record(*services, **more):
    return {
        "daemon": True, "pid": 7, "program": "0123456789abcdef", "in_force": True, "damage": None, "beside": None,
        "services": [
            {
                "name": name, "listeners": ["192.0.2.10:80/tcp"], "schedule": "random", "policy": None,
                "backends": backends,
            }
            for name, *backends in services
        ],
        "shapes": [],
        **more,
    }  # fmt: skip


WEB = record(
    ("web", backend("a"), backend("b", state="down", effective=0.0)),
    ("a-service-with-a-long-name.example.org", backend("eins"), backend("zwei", reading=87.0, factor=0.6)),
)
EVENT = {"at": 0.0, "kind": "down", "service": "web", "backend": "b", "text": "connection refused"}


def lines(seen=None, choice=None, width=120, height=None):
    return [line.plain for line in frame(seen or Seen(WEB, {}), choice or Choice(), width, height)]


@given(width=st.integers(1, 200), height=st.integers(1, 60), first=st.integers(0, 100), sort=st.sampled_from(SORTS))
def test_a_frame_never_exceeds_the_screen(width, height, first, sort):
    choice = Choice(sort, first)
    made = frame(Seen(WEB, {}, [EVENT] * 9), choice, width, height)
    assert len(made) <= height
    assert all(line.cell_len <= width for line in made)
    assert 0 <= choice.first <= 6


def test_a_wide_frame_has_everything_and_a_narrow_one_the_most_important():
    wide = "\n".join(lines())
    for word in ("3 of 4 backends up", "1.2 ms", "87 → 60%", "0/1", "daemon 7", "BYTES/S"):
        assert word in wide
    narrow = "\n".join(lines(width=36))
    assert "CONN/S" in narrow
    assert "STATE" in narrow
    assert "BYTES/S" not in narrow


def test_a_low_screen_scrolls_to_the_end_and_no_further():
    choice = Choice(first=1000)
    shown = lines(choice=choice, height=5, width=80)
    assert shown[0].startswith("BACKEND")
    assert len(shown) == 5
    assert shown[-1].lstrip().startswith("b ")
    assert choice.first == 2


def test_what_moves_most_comes_first_if_so_sorted():
    rates = {"web/b": Rate(50.0, 1.0, 1.0), "web/a": Rate(1.0, 900.0, 0.0)}
    order = [line.split()[0] for line in lines(Seen(WEB, rates), Choice("connections/s")) if line[:2] == "  "]
    assert order == ["b", "a", "eins", "zwei"]
    order = [line.split()[0] for line in lines(Seen(WEB, rates), Choice("bytes/s")) if line[:2] == "  "]
    assert order == ["a", "b", "eins", "zwei"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"damage": "chain slot is not as the program has it"}, "damaged: chain slot"),
        ({"in_force": False, "program": None, "services": []}, "nothing in force"),
        ({"daemon": False, "pid": None}, "no daemon"),
    ],
)
def test_the_head_says_what_is_wrong(more, words):
    assert words in lines(Seen({**WEB, **more}, {}))[0]


def test_rates_are_of_the_last_seconds_and_shares_of_the_last_ten():
    pace = Pace()
    for second in range(30):
        a, b = 10 * second, 30 * second if second < 15 else 30 * 15
        rates = pace.look(record(("web", backend("a", a, 1000 * second), backend("b", b))), float(second))
        if second == 0:
            assert rates["web/a"] == Rate(None, None, None)
        elif second < 15:
            assert rates["web/a"] == Rate(10.0, 1000.0, 0.25)
    assert rates["web/a"] == Rate(10.0, 1000.0, 1.0)
    assert rates["web/b"] == Rate(0.0, 0.0, 0.0)


def test_counters_that_begin_anew_are_no_negative_rate():
    pace = Pace()
    pace.look(record(("web", backend("a", 1000, 5000))), 0.0)
    rates = pace.look(record(("web", backend("a", 5, 50))), 1.0)
    assert rates["web/a"].connections is None
    rates = pace.look(record(("web", backend("a", 15, 150))), 2.0)
    assert rates["web/a"] == Rate(10.0, 100.0, 1.0)
