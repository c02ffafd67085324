"""Whether a backend counts as up: the answers of its checks in, one state out.

Time and chance are arguments, so that a simulated day takes no time; any clock will do, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from markway.config.model import Check


class State(StrEnum):
    """What is believed of a backend."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Health:
    """What is believed of a backend, and how firmly.

    `since` is when it came into its state. `streak` counts the latest answers in a row that contradict the state.
    `checked` is False until the first answer in this life of the daemon.

    The first answer about an unknown backend decides at once, either way: a service that starts waits for one check
    and not for `rise` of them, and a backend that never answered gets no client (keepalived's `alpha` mode, and what
    HAProxy does with a server that fails its first check). From then on `rise` good answers in a row bring a backend
    up and `fall` bad ones take it down.

    What the kernel sees of a backend takes nobody down alone: it says when to ask. But a backend that leaves all its
    new connections unanswered (`silence`) and then the check too has failed twice, and that answer counts for two.
    """

    state: State = State.UNKNOWN
    since: float = 0.0
    streak: int = 0
    checked: bool = False

    @classmethod
    def remembered(cls, *, up: bool, since: float) -> Self:
        """A backend whose state was known a moment ago: it keeps it until `rise` or `fall` answers say otherwise."""
        return cls(State.UP if up else State.DOWN, since)

    @property
    def up(self) -> bool:
        """Whether it may get connections. An unknown backend may not."""
        return self.state is State.UP

    @property
    def changing(self) -> bool:
        """Whether the latest answer contradicts the state: the backend is asked at the fast interval."""
        return self.streak > 0

    def after(self, *, well: bool, check: Check, now: float, answers: int = 1) -> Health:
        """What is believed after one more answer, which came at `now`; it counts as so many of its kind."""
        claimed = State.UP if well else State.DOWN
        if self.state is State.UNKNOWN:
            return Health(claimed, now, checked=True)
        if claimed is self.state:
            return self if self.checked and not self.streak else replace(self, streak=0, checked=True)
        if self.streak + answers >= (check.rise if well else check.fall):
            return Health(claimed, now, checked=True)
        return replace(self, streak=self.streak + answers, checked=True)


def next_check(check: Check, health: Health, last_start: float, chance: float) -> float:
    """When a backend is to be asked again, if it was last asked at `last_start`; `chance` is in [0, 1).

    The interval varies by up to `check.jitter` of itself both ways. It counts from start to start: a check that takes
    longer than its interval makes this a time that has passed. A backend not yet asked is asked within the fast
    interval after `last_start` (the daemon's start), which spreads the first checks of a large file.
    """
    if not health.checked:
        return last_start + check.fast * chance
    interval = check.fast if health.changing else check.every
    return last_start + interval * (1 + check.jitter * (2 * chance - 1))
