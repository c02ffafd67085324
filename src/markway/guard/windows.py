"""Exact sliding windows over the attempts of each source, and what becomes of who makes too many.

Exact: every attempt is a time that is kept, not a token in a bucket. Time is an argument, in seconds of any clock.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.guarding import Ban, Guard, Window

SOURCES = 65536
"""How many sources are remembered at a time."""

TIMES_EACH = 32
"""How many times are kept for each of them on average; one source may have as many as the largest window needs."""

SOURCE_BYTES = 400
"""What a source takes at most besides its times: its key, an empty array, its entry in an OrderedDict."""

OFFENDER_BYTES = 500
"""What an offender takes at most."""

TIME_BYTES = 10
"""What a time takes at most: 8 bytes, and what arrays keep in hand to grow."""

_ONE_TIME = array("d", (0.0,))


class Action(StrEnum):
    """What a source has coming."""

    SLOW = "slow"
    BAN = "ban"


class Sentence(NamedTuple):
    """What holds for a source from an attempt on, until `until`; None of it is for an attempt that may pass.

    `window` is the one that was broken, None when an attempt falls into a ban that lasts already. `offences` counts
    those remembered, with this one.
    """

    action: Action
    until: float
    offences: int
    window: Window | None


class Offender:
    """A source that has offended: what holds, until when, how often so far."""

    __slots__ = ("action", "offences", "until")

    def __init__(self, action: Action, until: float, offences: int) -> None:
        self.action, self.until, self.offences = action, until, offences


def memory_bound(guard: Guard, sources: int = SOURCES) -> int:
    """The most bytes that the `Windows` of a guard can take, whoever comes."""
    return sources * (SOURCE_BYTES + OFFENDER_BYTES) + _most_times(guard.windows, sources) * TIME_BYTES


def _most_times(windows: tuple[Window, ...], sources: int) -> int:
    return max(sources * TIMES_EACH, 2 * _kept(windows))


def _kept(windows: tuple[Window, ...]) -> int:
    """How many times a source's array grows to before the older ones go: an eighth more than are needed."""
    largest = max((window.count for window in windows), default=0)
    return largest + 1 + largest // 8 + 8


class Windows:
    """Counts the attempts of a guard, and says which one is too many.

    The third attempt within 20 s breaks the window "2 in 20s": an attempt counts for less than the window's length, so
    one exactly 20 s ago no more. Attempts that meet a ban are refused by the kernel and not counted; they begin the
    ban's time anew if it lasts until the source is quiet. All others count, also those before a ban: who made 400
    within 20000 s is banned at the next one again, as often as that is true. A slowed source begins at none.

    At most `sources` sources are remembered, and `sources` * `TIMES_EACH` times; the source longest without an
    attempt is forgotten first. Offenders are kept apart, `sources` of them as well, so a flood of sources that come
    once pushes no ban out; among them, too, goes first who was longest without an attempt. So memory stays below
    `memory_bound`: sources * (`SOURCE_BYTES` + `OFFENDER_BYTES` + `TIMES_EACH` * `TIME_BYTES`), 80 MB by default; the
    flood of sources that come once takes 24 MB.

    An attempt costs the same however many there are, but for windows, of which each costs a comparison.
    """

    def __init__(self, guard: Guard, sources: int = SOURCES) -> None:
        """Begin with nobody.

        Args:
            guard: its windows, its ban, and whether it slows first.
            sources: how many sources are remembered.
        """
        self._windows = tuple((w.count + 1, w.seconds, w) for w in sorted(guard.windows, key=_by_count))
        self._ban: Ban = guard.ban
        self._slows = guard.slow
        self._sources = sources
        self._largest = max((window.count for window in guard.windows), default=0) + 1
        self._kept = _kept(guard.windows)
        self._most = _most_times(guard.windows, sources)
        self._times: OrderedDict[bytes, array[float]] = OrderedDict()
        self._count = 0
        self._offenders: OrderedDict[bytes, Offender] = OrderedDict()

    def attempt(self, source: bytes, now: float) -> Sentence | None:
        """Count an attempt; what becomes of its source from this very one on, None if it may pass.

        Args:
            source: any key of it, as `sources.Sources` makes.
            now: seconds. Time does not go back for a source: an attempt before its last one counts as at that.
        """
        known = self._offenders.get(source)
        if known and now < known.until and known.action is Action.BAN:
            return self._met(known, source, now)
        times = self._times.get(source)
        if times is None:
            times = self._times[source] = _ONE_TIME * 1  # a copy is made in half the time of a new one
            times[0] = now
        else:
            now = max(now, times[-1])
            times.append(now)
            self._times.move_to_end(source)
            if len(times) > self._kept:
                surplus = len(times) - self._largest
                del times[:surplus]
                self._count -= surplus
        self._count += 1
        while len(self._times) > self._sources or self._count > self._most:
            self._count -= len(self._times.popitem(last=False)[1])
        for needed, seconds, window in self._windows:
            if len(times) < needed:
                break
            if now - times[-needed] < seconds:
                return self._sentence(known, source, now, window)
        if known and now < known.until:
            return self._met(known, source, now)
        return None

    def _met(self, known: Offender, source: bytes, now: float) -> Sentence:
        """An attempt while something lasts."""
        if self._ban.until_quiet:
            known.until = max(known.until, now + self._length(known.offences))
        self._offenders.move_to_end(source)
        return Sentence(known.action, known.until, known.offences, None)

    def _sentence(self, known: Offender | None, source: bytes, now: float, window: Window) -> Sentence:
        offences = 1
        if known and now < known.until + self._ban.memory:
            offences += known.offences
        action = Action.SLOW if self._slows and offences == 1 else Action.BAN
        if action is Action.SLOW:
            self._count -= len(self._times.pop(source))
        until = now + self._length(offences)
        self._keep(source, Offender(action, until, offences))
        return Sentence(action, until, offences, window)

    def _length(self, offences: int) -> float:
        """Seconds that a ban lasts, by how often there was an offence; a slowing is none."""
        before = offences - 1 - (self._slows and offences > 1)
        ban = self._ban
        if ban.factor <= 1 or not before:
            return ban.seconds
        try:
            return min(ban.seconds * ban.factor**before, max(ban.longest, ban.seconds))
        except OverflowError:
            return ban.longest

    def _keep(self, source: bytes, offender: Offender) -> None:
        self._offenders[source] = offender
        self._offenders.move_to_end(source)
        if len(self._offenders) > self._sources:
            self._offenders.popitem(last=False)

    def offenders(self, now: float) -> Iterator[tuple[bytes, Offender]]:
        """Who is slowed or banned at this time."""
        return ((source, known) for source, known in self._offenders.items() if now < known.until)

    def remembered(self) -> Iterator[tuple[bytes, Offender]]:
        """All who have offended, also those whose time is over; longest without an attempt first."""
        return iter(self._offenders.items())

    def restore(self, source: bytes, action: Action, until: float, offences: int = 1) -> None:
        """Take over a ban or a slowing, as from the state folder or another director."""
        self._keep(source, Offender(action, until, offences))

    def forgive(self, source: bytes) -> bool:
        """Forget all of a source; whether anything was known."""
        times = self._times.pop(source, None)
        self._count -= len(times or ())
        return self._offenders.pop(source, None) is not None or times is not None

    def __len__(self) -> int:
        """How many sources are counted now."""
        return len(self._times)


def _by_count(window: Window) -> int:
    return window.count
