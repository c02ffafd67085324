"""A `markway run` on a lab's director, and what it says."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.kernel.support import eventually, write

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from markway.lab.lab import Lab


class Daemon:
    """The process, and its events as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            try:
                self.events.append(json.loads(line))
            except ValueError:
                self.other.append(line)

    def seen(self, kind: str, name: str = "") -> list[dict[str, Any]]:
        """Events of a kind, of one backend or service or of all."""
        return [e for e in self.events if e["kind"] == kind and name in {"", _name(e)}]

    def wait(self, kind: str, name: str = "", count: int = 1, seconds: float = 20.0) -> dict[str, Any]:
        """The `count`-th event of a kind, as soon as it is there."""
        eventually(lambda: len(self.seen(kind, name)) >= count or self.process.poll() is not None, seconds)
        found = self.seen(kind, name)
        assert len(found) >= count, f"the daemon ended: {self.process.poll()}\n{''.join(self.other)}"
        return found[count - 1]

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; its exit status."""
        if self.process.poll() is None:
            self.send(number)
            self.send(signal.SIGCONT)
        status = self.process.wait(20)
        self._reader.join(20)
        return status


def _name(event: dict[str, Any]) -> str:
    return f"{event['service']}/{event['backend']}" if event["backend"] else str(event["service"])


@contextmanager
def running(lab: Lab, text: str, *, begun: str = "start") -> Iterator[Daemon]:
    """The daemon with a configuration file, from when it has begun until the block ends."""
    path = write(lab, text)
    daemon = Daemon(
        lab.director.spawn(sys.executable, "-m", "markway", "run", "--log", "json", path)
    )
    try:
        daemon.wait(begun)
        yield daemon
    finally:
        daemon.end()
    assert daemon.process.returncode in {0, -signal.SIGKILL}, "".join(daemon.other)
