"""New connections at a steady pace, whatever becomes of them."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from markway.lab.tally import Tally

if TYPE_CHECKING:
    import subprocess

    from markway.lab.lab import Lab


class Steady:
    """A client in a process of its own. `tally` is at most a twentieth of a second old."""

    def __init__(self, lab: Lab, client: int, target: str, *options: str, rate: float) -> None:
        pace = ["--count", "1000000", "--limit", "3600", "--rate", str(rate), "--progress", "0.05", "--until-eof"]
        program = [sys.executable, "-m", "markway.lab.client", target, *pace, *options]
        self._process: subprocess.Popen[str] = lab.clients[client].spawn(*program)
        self.tally = Tally()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.tally = Tally.from_json(line)

    @property
    def open(self) -> int:
        """How many connections wait for what becomes of them."""
        tally = self.tally
        return tally.connections - tally.answers.total() - tally.failed

    def end(self) -> Tally:
        """Begin no more; how all of them fared."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(30)
        return self.tally
