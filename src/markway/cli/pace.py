"""How fast counters grow: figures of a status, and of a moment before. Pure but for what it remembers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

RECENT, LATELY = 3.0, 10.0
"""Seconds over which rates, and shares, are taken."""


class Counts(NamedTuple):
    """Of one backend, since it came into force; of a shape or class, `connections` are packets."""

    connections: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Rate:
    """As `Counts`, a second: None before there are two looks. `got` is its share of its service's connections."""

    connections: float | None = None
    bytes: float | None = None
    got: float | None = None


class Pace:
    """Remembers looks for as long as shares are taken over."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[str, Counts]]] = deque()

    def look(self, record: Mapping[str, Any], now: float) -> dict[str, Rate]:
        """The rates by `service/backend`, `shape:` and `shape:class`.

        From a status taken at `now` (seconds of any clock) and those before.
        """
        counts = {
            f"{service['name']}/{backend['name']}": Counts(backend["connections"], backend["bytes"])
            for service in record["services"]
            for backend in service["backends"]
        }
        shapes = {
            f"{shape['name']}:{one['name']}": Counts(one["packets"], one["sent"])
            for shape in record["shapes"]
            for one in ({**shape, "name": ""}, *shape["classes"])
        }
        counts |= shapes
        self._seen.append((now, counts))
        while len(self._seen) > 2 and now - self._seen[1][0] >= LATELY:  # noqa: PLR2004
            self._seen.popleft()
        rates: dict[str, Rate] = {}
        for service in record["services"]:
            names = [f"{service['name']}/{backend['name']}" for backend in service["backends"]]
            fresh = {name: counts[name].connections - self._before(name, LATELY)[1].connections for name in names}
            whole = sum(max(count, 0) for count in fresh.values())
            rates |= {name: self._rate(name, max(fresh[name], 0) / whole if whole else None) for name in names}
        return rates | {name: self._rate(name, None) for name in shapes}

    def _before(self, name: str, seconds: float) -> tuple[float, Counts]:
        """The last look at one that is `seconds` old, or the oldest there is; counters may have begun anew."""
        now, counts = self._seen[-1]
        found = now, counts[name]
        for at, earlier in reversed(self._seen):
            if name not in earlier or earlier[name].connections > counts[name].connections:
                break
            found = at, earlier[name]
            if now - at >= seconds:
                break
        return found

    def _rate(self, name: str, got: float | None) -> Rate:
        now, counts = self._seen[-1]
        at, before = self._before(name, RECENT)
        if at == now:
            return Rate(got=got)
        passed = now - at
        connections = (counts[name].connections - before.connections) / passed
        return Rate(connections, max(counts[name].bytes - before.bytes, 0) / passed, got)
