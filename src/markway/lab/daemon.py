"""A `markway run` on a lab's director, and what it says."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from markway.lab.topology import LabError

if TYPE_CHECKING:
    from pathlib import Path

    from markway.lab.lab import Lab

_PATIENCE = 20.0


class Daemon:
    """The process, and its events as they come: each as `Noted.record` of `markway.director.events` has it.

    Other lines that it prints are in `other`.
    """

    def __init__(self, lab: Lab, file: Path | str, *under: str) -> None:
        """Start it with a configuration file, by the command `under` if one is given; `wait` says when it has begun."""
        self.process = lab.director.spawn(*under, sys.executable, "-m", "markway", "run", "--log", "json", str(file))
        self.events: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def seen(self, kind: str, name: str = "") -> list[dict[str, Any]]:
        """Events of a kind, of one backend (`web/a`) or service or of all."""
        return [event for event in self.events if event["kind"] == kind and name in {"", called(event)}]

    def wait(self, kind: str, name: str = "", count: int = 1, seconds: float = _PATIENCE) -> dict[str, Any]:
        """The `count`-th event of a kind, as soon as it is there; LabError if it does not come or the daemon ends."""
        with self._news:
            self._news.wait_for(lambda: len(self.seen(kind, name)) >= count or self.ended, seconds)
        found = self.seen(kind, name)
        if len(found) < count:
            why = f"the daemon ended: {''.join(self.other)}" if self.ended else f"not in {seconds:g} s"
            raise LabError(f"no event {kind} {name} number {count}: {why}")
        return found[count - 1]

    @property
    def ended(self) -> bool:
        """Whether it has nothing more to say."""
        return not self._reader.is_alive() or self.process.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, also if it stands still; its exit status, negative for a signal."""
        with suppress(ProcessLookupError):
            self.send(number)
            self.send(signal.SIGCONT)
        status = self.process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        return status

    def _read(self) -> None:
        if self.process.stderr is None:
            return
        for line in self.process.stderr:
            with self._news:
                try:
                    self.events.append(json.loads(line))
                except ValueError:
                    self.other.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def called(event: dict[str, Any]) -> str:
    """Whom an event is about: `web/a`, `web` or nothing."""
    return f"{event['service']}/{event['backend']}" if event["backend"] else str(event["service"])
