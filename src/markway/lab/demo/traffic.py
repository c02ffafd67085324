"""Real connections from every client over every family at once, counted while they run."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from markway.lab.tally import Tally
from markway.lab.topology import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from markway.lab.lab import Lab, Place

_CONCURRENCY = 24  # per client and family: some hundred connections at a time keep two cores busy
_TIMEOUT = 3.0  # seconds for one connection
_LIMIT = 20.0  # seconds for all of a client, whatever happens
_EVERY = 0.1  # seconds between two reports


@dataclass(slots=True)
class Counts:
    """What came of the connections so far; `answers` is by IP version and backend."""

    connections: int = 0
    failed: int = 0
    seconds: float = 0.0
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)  # kind of failure to what the first of them said

    def add(self, other: Counts) -> None:
        """Take others into account."""
        self.connections += other.connections
        self.failed += other.failed
        self.answers += other.answers
        self.why = other.why | self.why

    def family(self, version: int) -> dict[str, int]:
        """The answers in one family by backend."""
        return {name: count for (family, name), count in self.answers.items() if family == version}

    def of(self, backend: str) -> int:
        """The answers of one backend."""
        return sum(count for (_, name), count in self.answers.items() if name == backend)

    @property
    def answered(self) -> int:
        """All answers."""
        return self.answers.total()

    @property
    def rate(self) -> float:
        """Connections per second."""
        return self.connections / self.seconds if self.seconds else 0.0


class Traffic:
    """Running clients, one process for each client host and family; leave the `with` block to end them."""

    def __init__(
        self, lab: Lab, targets: Mapping[int, str], count: int, *, rate: float | None = None, limit: float = _LIMIT
    ) -> None:
        """`targets` is by IP version; `count` and `rate` are for all together; `limit` is in seconds."""
        self._news = threading.Condition()
        ways = [(place, version) for place in lab.clients for version in targets]
        each = -(-count // len(ways))
        pace = None if rate is None else rate / len(ways)
        self._streams = [
            _Stream(place, version, targets[version], each, rate=pace, limit=limit, news=self._news)
            for place, version in ways
        ]
        self.count = each * len(ways)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream.process.kill()
        for stream in self._streams:
            stream.process.wait()
            stream.thread.join()

    def stop(self) -> None:
        """Start no more; those begun are finished."""
        for stream in self._streams:
            if stream.process.stdin:
                stream.process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Wait for news; whether any client still runs. LabError when one gave up."""
        with self._news:
            if self.running:
                self._news.wait(seconds)
        for stream in self._streams:
            if stream.ended and not stream.tally.seconds:
                raise LabError(f"a client did not run: {stream.said or 'no message'}")
        return self.running

    @property
    def running(self) -> bool:
        """Whether any client still runs."""
        return not all(stream.ended for stream in self._streams)

    def counts(self) -> Counts:
        """What came of the connections so far."""
        counts = Counts()
        for stream in self._streams:
            tally = stream.tally
            counts.connections += tally.connections
            counts.failed += tally.failed
            counts.seconds = max(counts.seconds, tally.seconds)
            counts.answers.update({(stream.version, name): count for name, count in tally.answers.items()})
            counts.why |= {kind: failures.first for kind, failures in tally.failures.items()}
        return counts


class _Stream:
    """One client process and the last that it said."""

    def __init__(
        self,
        place: Place,
        version: int,
        target: str,
        count: int,
        *,
        rate: float | None,
        limit: float,
        news: threading.Condition,
    ) -> None:
        self.version = version
        self.tally = Tally()
        self.ended = False
        self.said = ""
        self._news = news
        options = {
            "--count": count,
            "--concurrency": _CONCURRENCY,
            "--timeout": _TIMEOUT,
            "--limit": limit,
            "--progress": _EVERY,
        }
        argv = [text for name, value in options.items() for text in (name, str(value))]
        argv += [] if rate is None else ["--rate", str(rate)]
        self.process = place.spawn(sys.executable, "-m", "markway.lab.client", target, "--until-eof", *argv)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        assert self.process.stdout  # noqa: S101  (`spawn` made pipes)
        assert self.process.stderr  # noqa: S101
        with self.process.stdout, self.process.stderr:
            for line in self.process.stdout:
                tally = Tally.from_json(line)
                with self._news:
                    self.tally = tally
                    self._news.notify()
            self.said = self.process.stderr.read().strip()
        with self._news:
            self.ended = True
            self._news.notify()
