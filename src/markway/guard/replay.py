"""Who would have been slowed or banned, when and for how long: a guard's windows over attempts of long ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.guard.sources import Sources
from markway.guard.windows import SOURCES, Action, Windows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.config.guarding import Guard, Window
    from markway.config.model import Network
    from markway.guard.logs import Attempt


@dataclass(slots=True)
class Sentenced:
    """One source's slowing or ban. Times are seconds since 1970.

    `window` is the one that was broken. `offences` counts those remembered, with this one. `attempts` are those that
    were too many: the first, which broke the window, and all that came while it lasted.
    """

    source: Network
    action: Action
    begun: float
    until: float
    window: Window
    offences: int
    attempts: int


def replay(attempts: Iterable[Attempt], guard: Guard, sources: int = SOURCES) -> list[Sentenced]:
    """All slowings and bans that these attempts would have led to, in the order of their beginnings.

    A ban keeps its source's attempts from being counted, as it does in the kernel. Attempts in logs were let in once,
    so of those that met a ban some would not have been made.

    Args:
        attempts: in the order of their times; where one is earlier than its source's last, it counts as at that.
        guard: its windows, ban, prefixes and allowed networks.
        sources: how many sources are remembered at a time.
    """
    windows, networks = Windows(guard, sources), Sources(guard)
    found: list[Sentenced] = []
    latest: dict[bytes, Sentenced] = {}
    for attempt in attempts:
        key = networks.key(attempt.address)
        if key is None:
            continue
        for _ in range(attempt.times):
            sentence = windows.attempt(key, attempt.time)
            if sentence is None:
                continue
            if sentence.window is None:
                latest[key].until = sentence.until
                latest[key].attempts += 1
                continue
            if key in latest:  # a slowing that ends in a ban
                latest[key].until = min(latest[key].until, attempt.time)
            latest[key] = Sentenced(
                networks.network(key), sentence.action, attempt.time, sentence.until, sentence.window,
                sentence.offences, 1,
            )  # fmt: skip
            found.append(latest[key])
    return found
