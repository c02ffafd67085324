"""The windows of a guard, against a list of all times."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from markway.config.guarding import Ban, Guard, Window
from markway.guard.windows import Action, Windows

SETTINGS = settings(max_examples=400, deadline=None)
QUARTERS = st.integers(0, 200).map(lambda quarter: quarter / 4)
"""Seconds that add up without rounding, so that borders are met."""

GUARDS = st.builds(
    Guard,
    name=st.just("ssh"),
    windows=st.lists(st.builds(Window, st.integers(0, 12), QUARTERS.map(lambda s: s + 0.25)), max_size=4).map(tuple),
    ban=st.builds(
        Ban,
        seconds=st.sampled_from([0.25, 3.0, 10.0, 60.0]),
        until_quiet=st.booleans(),
        factor=st.sampled_from([1.0, 2.0, 10.0]),
        longest=st.sampled_from([5.0, 100.0]),
        memory=st.sampled_from([0.0, 7.0, 1e9]),
    ),
    slow=st.booleans(),
)
ATTEMPTS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(-4, 40)), max_size=120)
"""Who, and how many quarters of a second later; or earlier, as in logs."""


@dataclass
class Known:
    """All that a source has done."""

    times: list[float] = field(default_factory=list)
    last: float = 0.0
    action: Action | None = None
    until: float = 0.0
    offences: int = 0


class Naive:
    """What windows mean, word by word."""

    def __init__(self, guard):
        self.guard = guard
        self.known = {}

    def attempt(self, source, now):
        """What becomes of the source, and until when; None if nothing."""
        ban, known = self.guard.ban, self.known.setdefault(source, Known())
        lasts = known.action is not None and now < known.until
        if not (lasts and known.action is Action.BAN):
            now = max([now, *known.times[-1:]])
            lasts = known.action is not None and now < known.until
            known.times.append(now)
            if any(sum(now - w.seconds < at for at in known.times) > w.count for w in self.guard.windows):
                known.offences = known.offences + 1 if known.action and now < known.until + ban.memory else 1
                known.action = Action.SLOW if self.guard.slow and known.offences == 1 else Action.BAN
                if known.action is Action.SLOW:
                    known.times = []
                known.until = now + self.length(known)
                return known.action, known.until
        if not lasts:
            return None
        if ban.until_quiet:
            known.until = max(known.until, now + self.length(known))
        return known.action, known.until

    def length(self, known):
        """The first ban is as long as the file says, the next one `factor` times as long."""
        bans = known.offences - (1 if self.guard.slow else 0)
        ban = self.guard.ban
        length = ban.seconds
        for _ in range(bans - 1):
            length = max(ban.seconds, min(length * ban.factor, ban.longest))
        return length


@SETTINGS
@given(GUARDS, ATTEMPTS)
def test_windows_are_exact(guard, attempts):
    windows, naive, now = Windows(guard), Naive(guard), 1000.0
    for source, later in attempts:
        now += later / 4
        found = windows.attempt(source, now)
        assert (found and (found.action, found.until)) == naive.attempt(source, now)


@SETTINGS
@given(st.integers(1, 4), st.lists(st.integers(0, 7), max_size=200))
def test_the_source_longest_without_an_attempt_is_forgotten_first(sources, attempts):
    windows = Windows(Guard("ssh", windows=(Window(2, 1e9),), ban=Ban(seconds=0.0)), sources)
    recent: dict[bytes, int] = {}
    for number in attempts:
        source = bytes([number])
        recent[source] = recent.pop(source, 0) + 1
        if len(recent) > sources:
            del recent[next(iter(recent))]
        assert (windows.attempt(source, 0.0) is not None) == (recent[source] > 2)
        assert len(windows) == len(recent)
