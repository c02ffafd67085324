"""Drains of minutes: they end with the last connection, or at their deadline, in virtual time.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.kernel.daemon import Daemon, running
from tests.kernel.support import eventually, read, run, seen, unique_name

from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Holding

pytestmark = pytest.mark.virtual_time

VIP = "192.0.2.10:80"
FILE = """
[service.web]
listen = "192.0.2.10:80/tcp"
check = { tcp = true, every = "10s", jitter = 0, passive = false }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
"""
LOOK = 1.0
"""Seconds from one count of the connections that are left to the next."""
LATE = 0.02


@contextmanager
def watched() -> Iterator[tuple[Lab, Daemon]]:
    time.sleep(1)  # timers are exact from the kernel's first tick on, and asyncio asks only once
    with Lab.up(read(FILE), unique_name()) as lab, running(lab, FILE) as daemon:
        eventually(lambda: lab.fetch(VIP, 10).answers == {"a": 5, "b": 5})
        yield lab, daemon


def held(lab: Lab, count: int) -> Holding:
    """Connections that say something each minute; half of them to each backend."""
    return lab.clients[0].hold(VIP, count, "--every", "60", "--limit", "3600")


def test_it_ends_with_its_last_connection(pass_time):
    with watched() as (lab, daemon), held(lab, 4) as long, held(lab, 2) as short:
        run(lab, "drain", "web/a", "--deadline", "10m", "--no-wait")
        begun = daemon.wait("drain", "web/a")["at"]
        pass_time(120)
        assert lab.fetch(VIP, 10).answers == {"b": 10}
        assert seen(lab, "web")["backends"]["a"]["drain"]["left"] == 3
        assert short.close().open == 2
        pass_time(begun + 300 - time.time())
        assert seen(lab, "web")["backends"]["a"]["drain"]["left"] == 2
        assert not daemon.seen("drained")
        ended = time.time()
        assert long.close().open == 4
        drained = daemon.wait("drained", "web/a")
        assert drained["data"]["left"] == 0
        assert 0 <= drained["at"] - ended < LOOK + LATE
        assert seen(lab, "web")["backends"]["a"]["state"] == "drained"
        assert lab.fetch(VIP, 10).answers == {"b": 10}
        run(lab, "enable", "web/a")
        assert lab.fetch(VIP, 10).answers == {"a": 5, "b": 5}


@pytest.mark.parametrize(("minutes", "cut"), [(10, True), (2, False)], ids=["cut", "left"])
def test_it_ends_at_its_deadline(pass_time, minutes, cut):
    with watched() as (lab, daemon), held(lab, 4) as holding:
        run(lab, "drain", "web/a", "--deadline", f"{minutes}m", "--no-wait", *(["--cut"] if cut else []))
        begun = daemon.wait("drain", "web/a")["at"]
        pass_time(begun + 60 * minutes - LATE - time.time())
        assert not daemon.seen("drained")
        assert holding.report().answers == {"a": 2, "b": 2}
        drained = daemon.wait("drained", "web/a")
        assert 0 <= drained["at"] - begun - 60 * minutes < LATE
        assert drained["data"]["left"] == 2
        pass_time(60)
        assert len(daemon.seen("cut")) == cut
        assert seen(lab, "web")["backends"]["a"]["active"] == (0 if cut else 2)
        assert holding.report().answers == ({"b": 2} if cut else {"a": 2, "b": 2})


def test_its_deadline_outlives_the_daemon(pass_time):
    with watched() as (lab, daemon), held(lab, 4):
        run(lab, "drain", "web/a", "--deadline", "3m", "--no-wait")
        begun = daemon.wait("drain", "web/a")["at"]
        pass_time(60)
        daemon.end()
        pass_time(60)
        with running(lab, FILE) as another:
            drained = another.wait("drained", "web/a", seconds=180)
            assert 0 <= drained["at"] - begun - 180 < LATE
