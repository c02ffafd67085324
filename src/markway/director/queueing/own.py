"""A policy of the operator's own, called so that it can do no harm: with a time limit, and believed nothing."""

from __future__ import annotations

import importlib
import signal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from markway.balance.policies import Candidate, Choose, Connection, Pool

T = TypeVar("T")

BUDGET = 0.02
"""Seconds that a call may take."""

LOADING = 4.0
"""Seconds that importing its module may take."""

PATIENCE = 5
"""Failures in a row before it is not asked for a while."""

PAUSE = 1.0
"""Seconds for which it is not asked then."""


class _LateError(BaseException):
    """The time is up. Not an Exception, so that the callable's own handlers let it through."""


class Undecided(Exception):  # noqa: N818  (no error: the slot table decides)
    """The policy gave no answer that can be used. `kind` is a word for the statistics; the text says more."""

    def __init__(self, kind: str, what: str = "") -> None:
        super().__init__(what)
        self.kind = kind


class OwnPolicy:
    """`MODULE:NAME`, imported when it is first made."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        """Import it; a failure is kept, and is the answer to every question."""
        self._clock = clock
        self._failures = 0
        self._asked_again = 0.0
        self._broken: Undecided | None = None
        self._choose: Choose
        module, _, attribute = name.partition(":")
        try:
            self._choose = getattr(_limited(LOADING, importlib.import_module, module), attribute)
        except _LateError:
            self._broken = Undecided("missing", f"{module}: the import takes longer than {LOADING:g} s")
        except (Exception, SystemExit) as error:  # noqa: BLE001  (it is the operator's code)
            self._broken = Undecided("missing", f"{name}: {type(error).__name__}: {error}")

    def __call__(self, connection: Connection, pool: Pool) -> Candidate:
        """Ask it.

        Raises:
            Undecided: it is not there, raises, is late, answers nonsense, or has failed too often just now.
        """
        if self._broken:
            raise self._broken
        if self._failures >= PATIENCE and self._clock() < self._asked_again:
            raise Undecided("suspended")
        try:
            found = self._asked(connection, pool)
        except Undecided:
            self._failures += 1
            self._asked_again = self._clock() + PAUSE
            raise
        self._failures = 0
        return found

    def _asked(self, connection: Connection, pool: Pool) -> Candidate:
        backends = tuple(candidate.seen() for candidate in pool.candidates)
        try:
            name = _limited(BUDGET, self._choose, connection, backends)
        except _LateError:
            raise Undecided("late", f"no answer in {BUDGET * 1000:g} ms") from None
        except (Exception, SystemExit) as error:
            raise Undecided("raised", f"{type(error).__name__}: {error}") from error
        if type(name) is not str:  # another type's comparison and text would be the operator's code too
            raise Undecided("nonsense", f"an answer of type {type(name).__name__}")
        for candidate in pool.candidates:
            if candidate.name == name:
                return candidate
        raise Undecided("nonsense", f"{name!r:.80} is none of {', '.join(one.name for one in pool.candidates):.200}")


_armed = False


def _late(number: int, frame: FrameType | None) -> None:
    del number, frame
    if _armed:
        raise _LateError


def install() -> None:
    """Make time limits work in this process; in its main thread."""
    signal.signal(signal.SIGALRM, _late)


def _limited(seconds: float, call: Callable[..., T], *arguments: object) -> T:
    """Call; raises `_LateError` in the midst of it when the time is up, and again if that is swallowed."""
    global _armed  # noqa: PLW0603  (a process has one alarm)
    _armed = True
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        return call(*arguments)
    finally:
        _armed = False  # first: no signal is looked at between the call and here
        signal.setitimer(signal.ITIMER_REAL, 0)
