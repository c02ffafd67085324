"""The stream of events, as server-sent events: HTML Living Standard, section 9.2."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from markway.director.events import Events, Noted

_QUIET = 15.0
"""Seconds without an event after which a comment shows both ends that the other is there."""


class Stream:
    """The events of one life of the daemon, for any number of readers."""

    def __init__(self, events: Events, life: int) -> None:
        """Give out `events`; `life` tells this daemon's numbers from those of the one before: its start, in seconds."""
        self._events, self._life = events, life
        self._over = asyncio.Event()

    def end(self) -> None:
        """Let every reader go."""
        self._over.set()

    def kept(self, last: str | None = None) -> list[Noted]:
        """The events after the one that a reader has seen last (an id), of those that are still there."""
        after = self._number(last)
        return [noted for noted in self._events.kept if noted.number > after]

    def _number(self, last: str | None) -> int:
        life, _, number = (last or "").rpartition("-")
        return int(number) if number.isdecimal() and life in {"", str(self._life)} else 0

    async def follow(self, last: str | None) -> AsyncIterator[str]:
        """Kept events, then each as it happens, until `end`."""
        with self._events.following() as coming:
            seen = 0
            for noted in self.kept(last):
                yield self._written(noted)
                seen = noted.number
            yield ": here from now on\n\n"
            over = asyncio.create_task(self._over.wait())
            try:
                while not over.done():
                    fresh = await _next(coming, over)
                    if fresh is None:
                        yield ": still here\n\n"
                    elif fresh.number > seen:
                        yield self._written(fresh)
            finally:
                over.cancel()

    def _written(self, noted: Noted) -> str:
        record = json.dumps({**noted.record, "id": self.id(noted)}, separators=(",", ":"))
        return f"id: {self.id(noted)}\nevent: {noted.event.kind}\ndata: {record}\n\n"

    def id(self, noted: Noted) -> str:
        """What a reader gives as its Last-Event-ID, unique also over restarts."""
        return f"{self._life}-{noted.number}"


async def _next(coming: asyncio.Queue[Noted], over: asyncio.Task[bool]) -> Noted | None:
    """The next event; None when it was quiet for long, or all is over."""
    getting = asyncio.create_task(coming.get())
    try:
        await asyncio.wait({getting, over}, timeout=_QUIET, return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else None
    finally:
        getting.cancel()
