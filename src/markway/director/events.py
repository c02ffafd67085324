"""What happened: a stream that is logged, kept for a while, and followed by whoever listens."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KEPT = 1000
"""Events that a newcomer can still read."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an operator may want to know.

    `kind` is one word (`up`, `down`, `load`, `drain`, `drained`, `enable`, `disable`, `weight`, `apply`, `mended`,
    `evidence`, `warning`, `error`, `start`, `stop` …); `data` has the figures that `text` speaks of.
    """

    kind: str
    text: str
    service: str = ""
    backend: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The backend among all services, the service, or nothing."""
        return f"{self.service}/{self.backend}" if self.backend else self.service


@dataclass(frozen=True, slots=True)
class Noted:
    """An event with its number, from 1, and its time in seconds since the epoch."""

    number: int
    at: float
    event: Event

    @property
    def record(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"number": self.number, "at": self.at, **asdict(self.event)}


class Events:
    """The stream. Used from one event loop's thread only."""

    def __init__(self, clock: Callable[[], float], tell: Callable[[Noted], None]) -> None:
        """Begin a stream.

        Args:
            clock: seconds since the epoch.
            tell: is called with every event at once, as to log it.
        """
        self._clock, self._tell = clock, tell
        self._listeners: set[asyncio.Queue[Noted]] = set()
        self._number = 0
        self.kept: deque[Noted] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()
        """How many there were of each kind."""

    def note(self, event: Event) -> None:
        """Add an event."""
        self._number += 1
        self.counts[event.kind] += 1
        noted = Noted(self._number, self._clock(), event)
        self.kept.append(noted)
        self._tell(noted)
        for listener in self._listeners:
            if listener.full():  # who reads too slowly misses the oldest, and sees that by the numbers
                listener.get_nowait()
            listener.put_nowait(noted)

    @contextmanager
    def following(self) -> Iterator[asyncio.Queue[Noted]]:
        """A queue that receives every event while the block lasts."""
        listener: asyncio.Queue[Noted] = asyncio.Queue(KEPT)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
