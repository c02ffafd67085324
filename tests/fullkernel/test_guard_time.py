"""The classic ladder, rung by rung, and ten minutes of quiet: with real connections, in virtual time."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
from tests.kernel.daemon import running
from tests.kernel.support import read, unique_name

from markway.kernel import netns
from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.virtual_time

FILE = """
[service.web]
listen = "192.0.2.10:80/tcp"
backend.a = { address = "192.168.1.11:8080" }
[guard.web]
listen = "service:web"
"""


def attempt(lab: Lab) -> bool:
    """Whether a new connection is let in."""
    with netns.enter(lab.clients[0].namespace):
        opened = socket.socket()
    with opened:
        opened.settimeout(0.5)  # before the handshake is tried again, which is one more attempt
        try:
            opened.connect(("192.0.2.10", 80))
        except TimeoutError:
            return False
        return True


@pytest.mark.parametrize(
    ("window", "most", "apart"),
    [("2 in 20s", 2, 9.0), ("14 in 200s", 14, 10.5), ("79 in 2000s", 79, 14.5), ("399 in 20000s", 399, 25.5)],
)
def test_each_rung_refuses_the_one_attempt_too_many(
    window: str, most: int, apart: float, pass_time: Callable[[float], None]
) -> None:
    time.sleep(1)  # timers are exact from the kernel's first tick on
    with Lab.up(read(FILE), unique_name()) as lab, running(lab, FILE) as daemon:
        daemon.wait("guard")
        for number in range(most):
            assert attempt(lab), number
            pass_time(apart)
        assert not daemon.seen("ban")
        assert not attempt(lab)
        assert daemon.wait("ban")["data"]["window"] == window
        for quiet in (300, 598):
            pass_time(quiet)
            assert not attempt(lab), quiet
        if most == 2:
            pass_time(601)
            assert attempt(lab)
