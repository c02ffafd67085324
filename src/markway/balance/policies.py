"""Who gets a new connection, decided one by one: the policies of the queued schedules. Pure; chance is an argument.

A policy sees one connection and those of the service's backends that may have it now, and says which it is. `weight` is
in any unit; a backend of twice the weight is to have twice as many.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LEAST_HEADROOM = 0.02
"""What is left of a fully loaded backend: if all are full, each gets its share."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that is about to be made; addresses are written as text, `protocol` is tcp or udp."""

    service: str
    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend that may have it. `load` is 1 when the backend is fully loaded; None if it is not known."""

    name: str
    weight: float
    connections: int
    load: float | None = None


Choose: TypeAlias = "Callable[[Connection, Sequence[Backend]], str]"
"""A policy of the operator's own: returns the name of one of the backends."""


@dataclass(slots=True)
class Candidate:
    """A backend as the worker keeps account of it."""

    name: str
    mark: int
    weight: float
    load: float | None = None
    connections: int = 0
    passed: float = 0.0
    """How far it has come under `least-load`: each choice is a step, the shorter the more it can take."""

    def seen(self) -> Backend:
        """What a policy of the operator's sees of it."""
        return Backend(self.name, self.weight, self.connections, self.load)


class Policy(Protocol):
    """One of Markway's own policies. `pool` is never empty."""

    def __call__(self, pool: Pool) -> Candidate:
        """Choose; the caller keeps the account of connections."""


@dataclass(slots=True)
class Pool:
    """The backends of one service that may have a connection of one address family."""

    candidates: list[Candidate]
    chance: Callable[[], float]
    """Draws evenly from 0 to 1, 1 excluded."""
    turn: int = 0
    shares: list[float] = field(init=False)
    """The weights added up: to draw by weight."""

    def __post_init__(self) -> None:
        self.shares = list(accumulate(candidate.weight for candidate in self.candidates))


def least_connections(pool: Pool) -> Candidate:
    """The backend that would have the fewest connections for its weight; among equals they take turns."""
    candidates = pool.candidates
    pool.turn = turn = (pool.turn + 1) % len(candidates)
    best = candidates[turn]
    least = (best.connections + 1) / best.weight
    for candidate in candidates[turn + 1 :] + candidates[:turn]:
        burden = (candidate.connections + 1) / candidate.weight
        if burden < least:
            best, least = candidate, burden
    return best


def least_load(pool: Pool) -> Candidate:
    """In proportion to what the backends have left: weight times the part that is not loaded.

    A reading is seconds old when the next comes, so the least loaded must not get everything until then. Each choice
    takes the backend a step further, and the one that is least far is next (stride scheduling: Waldspurger and Weihl,
    1995). A backend whose load is not known counts as loaded as the others are on average.
    """
    known = [candidate.load for candidate in pool.candidates if candidate.load is not None]
    usual = sum(known) / len(known) if known else 0.0
    best = min(pool.candidates, key=lambda candidate: candidate.passed)
    reached = best.passed
    load = usual if best.load is None else best.load
    best.passed += 1 / (best.weight * max(1 - load, _LEAST_HEADROOM))
    for candidate in pool.candidates:  # one that was away does not catch up on what it missed
        candidate.passed -= reached
    return best


def two_choices(pool: Pool) -> Candidate:
    """Of two backends drawn by weight, the one with fewer connections for its weight.

    Nearly as even as comparing all, at a cost that does not grow with their number (Mitzenmacher, "The Power of Two
    Choices in Randomized Load Balancing", 2001).
    """
    candidates = pool.candidates
    if len(candidates) == 1:
        return candidates[0]
    one = _drawn(pool, pool.chance())
    two = _drawn(pool, pool.chance())
    if one == two:
        two = (one + 1 + int(pool.chance() * (len(candidates) - 1))) % len(candidates)
    first, second = candidates[one], candidates[two]
    if (second.connections + 1) / second.weight < (first.connections + 1) / first.weight:
        return second
    return first


def _drawn(pool: Pool, point: float) -> int:
    return min(bisect(pool.shares, point * pool.shares[-1]), len(pool.shares) - 1)


POLICIES: dict[str, Policy] = {
    "least-connections": least_connections,
    "least-load": least_load,
    "two-choices": two_choices,
}
