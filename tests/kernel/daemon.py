"""A `markway run` on a lab's director for a test, and the service that most of them watch over."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.kernel.support import eventually, write

from markway.lab.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

__all__ = ["EVEN", "VIP", "WEB", "Daemon", "all_up", "answers", "given", "running"]

WEB = """
[service.web]
listen = "192.0.2.10:80/tcp"
check = { tcp = true, every = "400ms", fast = "100ms", timeout = "300ms", rise = 2, fall = 2, jitter = 0 }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
backend.c = { address = "192.168.1.13:8080" }
"""
VIP = "192.0.2.10:80"
EVEN = {"a": 10, "b": 10, "c": 10}
"""Who answers thirty connections while all are up."""


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


@contextmanager
def all_up(lab: Lab, text: str = WEB) -> Iterator[Daemon]:
    """The same, from when a, b and c are up and get even shares."""
    with running(lab, text) as daemon:
        for name in "abc":
            daemon.wait("up", f"web/{name}")
        eventually(lambda: given(lab) == EVEN)
        yield daemon


def answers(lab: Lab, count: int = 30) -> dict[str, int]:
    """Who answers; none may fail."""
    tally = lab.fetch(VIP, count)
    assert not tally.failed
    return dict(tally.answers)


def given(lab: Lab, count: int = 30, **options: Any) -> dict[str, int]:
    """Who answers, while that may still change: a connection may meet the backend that just died."""
    return dict(lab.fetch(VIP, count, **options).answers)
