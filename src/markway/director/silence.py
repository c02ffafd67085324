"""Backends that get connections and say nothing: a sign of death that shows before any client asks again.

A machine that is gone answers nothing at all, and of each connection the kernel hears again after a second at the
earliest (RFC 6298, 2). Where many come, counters tell sooner: they grow by the first packets of connections and by
nothing else.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

LOOK = 0.1
"""Seconds from one look to the next, at least."""

FEWEST = 5
"""Connections between two looks from which on silence means something."""

_EACH = 0.0005
"""Seconds that a look may be away for each backend: it takes 20 µs, so this is 4 % of a core at most."""


class Passed(NamedTuple):
    """What a backend's connections came to so far: their first packets, and all later ones of both directions."""

    first: int
    later: int


def silent(before: Mapping[int, Passed], now: Mapping[int, Passed]) -> list[int]:
    """The marks of the backends that were given connections between two looks, and answered nearly nothing.

    A connection that is answered has three packets more at least. A few later ones may be of old connections, which
    are sent again.
    """
    found = []
    for mark, passed in now.items():
        first, later = passed.first - before.get(mark, passed).first, passed.later - before.get(mark, passed).later
        if first >= FEWEST and 0 <= later <= first // 2:
            found.append(mark)
    return found


async def listen(look: Callable[[], Awaitable[Mapping[int, Passed]]], tell: Callable[[int], None]) -> None:
    """Look again and again, and tell the marks of backends that fell silent."""
    before: Mapping[int, Passed] = {}
    while True:
        with suppress(OSError):  # what is wrong with the table is told by who looks after it
            now = await look()
            for mark in silent(before, now):
                tell(mark)
            before = now
        await asyncio.sleep(max(LOOK, _EACH * len(before)))
