"""A `markway run` on a lab's director for a test."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.kernel.support import write

from markway.lab.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

__all__ = ["Daemon", "running"]


@contextmanager
def running(lab: Lab, text: str, *, begun: str = "start") -> Iterator[Daemon]:
    """The daemon with a configuration file, from when it has begun until the block ends."""
    daemon = Daemon(lab, write(lab, text))
    try:
        daemon.wait(begun)
        yield daemon
    finally:
        daemon.end()
    assert daemon.process.returncode in {0, -signal.SIGKILL}, "".join(daemon.other)
