"""The ladder, its borders, bans of every kind, and how much is remembered at most."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from markway.config.guarding import LADDER, Ban, Guard, Window
from markway.guard.sources import Sources, packed
from markway.guard.windows import OFFENDER_BYTES, SOURCE_BYTES, TIME_BYTES, Action, Windows, memory_bound

SSH = Guard("ssh")


@pytest.mark.parametrize("window", LADDER, ids=str)
def test_each_rung_bans_at_the_attempt_that_is_too_many(window):
    windows = Windows(SSH)
    apart = window.seconds / (window.count + 0.5)  # too slow for the rungs below
    answers = [windows.attempt(b"who", number * apart) for number in range(window.count + 1)]
    assert answers[:-1] == [None] * window.count
    assert answers[-1] is not None
    assert answers[-1][0] is Action.BAN
    assert answers[-1].window == window


@pytest.mark.parametrize("window", LADDER, ids=str)
def test_an_attempt_exactly_as_long_ago_as_the_window_counts_no_more(window):
    for at, banned in ((window.seconds, False), (window.seconds - 0.001, True)):
        windows = Windows(replace(SSH, windows=(window,)))
        assert not any(windows.attempt(b"who", number / 1000) for number in range(window.count))
        assert (windows.attempt(b"who", at) is not None) == banned


def test_a_ban_lasts_until_the_source_is_quiet():
    windows = Windows(SSH)
    assert [windows.attempt(b"who", at) is None for at in (0, 1, 2)] == [True, True, False]
    begun = windows.attempt(b"who", 601.9)
    assert begun is not None
    assert begun.until == 1201.9
    assert begun.window is None
    assert windows.attempt(b"who", 1201.9) is None


def test_a_fixed_ban_ends_whatever_is_tried():
    windows = Windows(replace(SSH, windows=(Window(2, 20),), ban=Ban(seconds=60, until_quiet=False)))
    answers = [windows.attempt(b"who", at) for at in range(62)]
    assert [answer and answer.until for answer in answers] == [None, None, *[62] * 60]
    assert windows.attempt(b"who", 62) is None


def test_bans_grow_and_are_forgotten():
    ban = Ban(seconds=10, until_quiet=False, factor=3, longest=60, memory=1000)
    windows = Windows(replace(SSH, windows=(Window(0, 1),), ban=ban))
    ends = []
    now = 0.0
    for _ in range(4):
        sentence = windows.attempt(b"who", now)
        assert sentence is not None
        ends.append(sentence.until - now)
        now = sentence.until
    assert ends == [10, 30, 60, 60]
    late = windows.attempt(b"who", now + 1000)
    assert late is not None
    assert late.offences == 1


def test_a_growing_ban_has_no_number_too_large():
    windows = Windows(replace(SSH, windows=(Window(0, 1),), ban=Ban(factor=10, longest=86400)))
    windows.restore(b"who", Action.BAN, 0.0, offences=10**6)
    sentence = windows.attempt(b"who", 1.0)
    assert sentence is not None
    assert sentence.until == 86401


def test_the_first_offence_may_slow_and_the_next_bans():
    windows = Windows(replace(SSH, slow=True, windows=(Window(2, 20),)))
    found = [windows.attempt(b"who", at) for at in range(6)]
    assert [answer and answer.action for answer in found] == [None, None, "slow", "slow", "slow", "ban"]


def test_a_ban_that_is_restored_holds_and_one_forgiven_does_not():
    windows = Windows(SSH)
    windows.restore(b"who", Action.BAN, 100.0)
    assert [source for source, _ in windows.offenders(99.0)] == [b"who"]
    assert list(windows.offenders(100.0)) == []
    assert windows.attempt(b"who", 50.0) is not None
    assert windows.forgive(b"who")
    assert windows.attempt(b"who", 51.0) is None
    assert windows.forgive(b"who")
    assert not windows.forgive(b"who")


def test_a_source_without_windows_may_do_all():
    windows = Windows(replace(SSH, windows=()))
    assert not any(windows.attempt(b"who", 0.0) for _ in range(100))


def grown(guard, sources, attempts):
    """Bytes that windows have taken at most."""
    tracemalloc.start()
    try:
        windows = Windows(guard, sources)
        for source, now in attempts:
            windows.attempt(source, now)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SOURCES = 1024
KEYS = [number.to_bytes(16, "big") for number in range(8 * SOURCES)]
WIDE = replace(SSH, windows=(Window(399, 0.5),))
ALL_BANNED = replace(SSH, windows=(Window(1, 1e9),))


@pytest.mark.parametrize(
    ("guard", "attempts"),
    [
        (SSH, lambda: ((key, 0.0) for key in KEYS)),
        (WIDE, lambda: ((key, float(turn)) for turn in range(60) for key in KEYS[:SOURCES])),
        (WIDE, lambda: ((key, turn * 1.0) for key in KEYS[:100] for turn in range(1000))),
        (ALL_BANNED, lambda: ((key, float(turn)) for turn in range(2) for key in KEYS[:SOURCES])),
        (ALL_BANNED, lambda: ((key, float(turn)) for key in KEYS for turn in range(3))),
    ],
    ids=["once each", "all often", "few very often", "all banned", "ever more banned"],
)
def test_memory_stays_below_its_bound_whoever_comes(guard, attempts):
    assert grown(guard, SOURCES, attempts()) <= memory_bound(guard, SOURCES)


def test_the_bound_is_the_one_that_is_told():
    assert memory_bound(SSH) < 80_000_000
    assert memory_bound(SSH, SOURCES) == SOURCES * (SOURCE_BYTES + OFFENDER_BYTES + 32 * TIME_BYTES)


def test_a_flood_of_sources_that_come_once_frees_nobody():
    windows = Windows(SSH, 16)
    for at in (0, 1, 2):
        sentence = windows.attempt(b"who", at)
    for number in range(1000):
        windows.attempt(number.to_bytes(4, "big"), 3.0)
    assert sentence is not None
    assert windows.attempt(b"who", 4.0) is not None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"::ffff:192.0.2.1", "192.0.2.1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"fe80::1%eth0", "fe80::1"),
        (b"192.0.2.01", None),
        (b"192.0.2", None),
        (b"192.0.2.1\n", None),
        (b"example.org", None),
        (b"", None),
        (b"\xff", None),
        (b"1" * 100, None),
    ],
)
def test_an_address_is_read_strictly(text, found):
    assert packed(text) == (found and ip_address(found).packed)


def test_a_source_is_a_network():
    sources = Sources(replace(SSH, prefix=20, allow=(ip_network("192.0.2.0/24"), ip_network("2001:db8:5::/48"))))
    key = sources.key(ip_address("198.51.100.7").packed)
    assert key is not None
    assert sources.network(key) == ip_network("198.51.96.0/20")
    key = sources.key(ip_address("2001:db8:1:2:3::4").packed)
    assert key is not None
    assert sources.network(key) == ip_network("2001:db8:1:2::/64")
    assert sources.key(ip_address("192.0.2.77").packed) is None
    assert sources.key(ip_address("2001:db8:5:1::1").packed) is None
    assert Sources(SSH).key(b"\xc0\0\2\1") == b"\xc0\0\2\1"
