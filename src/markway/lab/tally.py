"""What came of many connections: values that print as one line of JSON."""

from __future__ import annotations

import errno
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EACCES: "prohibited",
    errno.EPERM: "prohibited",
}
_SHOWN = ("connections", "unstarted", "seconds", "answers", "connect_ms")


class AnswerError(Exception):
    """An exchange failed above the transport; `kind` is one word for its failures' heading."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(slots=True)
class Failures:
    """How many exchanges failed in one way, and what the first of them said."""

    count: int
    first: str


@dataclass(slots=True)
class Tally:
    """The outcome of `fetch_many`; times are seconds unless named `_ms`.

    `connections` were started; each is an answer, counted by its text, or a failure, counted by its
    kind: refused, reset, timeout, unreachable, prohibited, closed, status, or the errno's name.
    `unstarted` were asked for but not begun when the time was up.
    """

    connections: int = 0
    unstarted: int = 0
    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Failures] = field(default_factory=dict)
    connect_ms: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """The number of connections without an answer."""
        return sum(failures.count for failures in self.failures.values())

    @property
    def rate(self) -> float:
        """Connections per second."""
        return self.connections / self.seconds if self.seconds else 0.0

    def fail(self, error: Exception) -> None:
        """Count a failure under its kind."""
        first = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.failures.setdefault(failure_kind(error), Failures(0, first)).count += 1

    def set_latencies(self, seconds: list[float]) -> None:
        """Take the connect times' median and 99th percentile."""
        ordered = sorted(seconds)
        if ordered:
            self.connect_ms = {
                f"p{share}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 3)
                for share in (50, 99)
            }

    def to_json(self) -> str:
        """One line of JSON with every field, `failed` and `rate`."""
        shown = {name: getattr(self, name) for name in _SHOWN}
        failures = {kind: asdict(failures) for kind, failures in self.failures.items()}
        return json.dumps(shown | {"failures": failures, "failed": self.failed, "rate": round(self.rate, 1)})

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """Read what `to_json` wrote."""
        found: dict[str, Any] = json.loads(text)
        return cls(
            connections=found["connections"],
            unstarted=found["unstarted"],
            seconds=found["seconds"],
            answers=Counter(found["answers"]),
            failures={kind: Failures(**failures) for kind, failures in found["failures"].items()},
            connect_ms=found["connect_ms"],
        )


def failure_kind(error: Exception) -> str:
    """The one word under which a failure is counted."""
    if isinstance(error, AnswerError):
        return error.kind
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError) and error.errno is not None:
        return _KINDS.get(error.errno) or errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
