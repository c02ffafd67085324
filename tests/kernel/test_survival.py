"""The daemon is killed, or stands still, under thousands of connections: none of them fails.

client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c

How the queue worker survives is another matter: test_queue.
"""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.kernel.daemon import running
from tests.kernel.steady import Steady
from tests.kernel.support import eventually, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

WEB = """
[service.web]
listen = ["192.0.2.10:80/tcp", "192.0.2.10:53/udp"]
check = { tcp = true, port = 8080, every = "400ms", fast = "100ms", timeout = "300ms", rise = 2, fall = 2, jitter = 0 }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
backend.c = { address = "192.168.1.13:8080" }
"""
RATE = 500
"""New connections a second, of each client."""
CLIENTS = ((0, "192.0.2.10:80"), (1, "192.0.2.10:80"), (1, "192.0.2.10:53", "--udp"))
TWO_SECONDS = 2 * RATE * len(CLIENTS)


class Load:
    """Three clients at once."""

    def __init__(self, clients: list[Steady]) -> None:
        self.clients = clients

    @property
    def connections(self) -> int:
        return sum(client.tally.connections for client in self.clients)

    def more(self, count: int) -> None:
        """Return when so many more have been made."""
        before = self.connections
        eventually(lambda: self.connections >= before + count, 60)


@contextmanager
def loaded(lab: Lab, what: str) -> Iterator[Load]:
    """The load, while the block lasts; none of it may fail."""
    with ExitStack() as stack:
        clients = [Steady(lab, *client, rate=RATE) for client in CLIENTS]
        for client in clients:
            stack.callback(client.end)
        load = Load(clients)
        load.more(TWO_SECONDS // 4)
        yield load
        ended = [client.end() for client in clients]
    made, failed = sum(tally.connections for tally in ended), sum(tally.failed for tally in ended)
    sys.stdout.write(f"\n{what}: {made:,} connections, {failed} failed\n")
    assert failed == 0, [tally.failures for tally in ended]
    assert sum(tally.answers.total() for tally in ended) == made


@pytest.mark.alone
def test_killed_and_started_again_thrice_under_load(lab):
    net = lab(WEB)
    with loaded_after(net, "killed and started again three times") as load:
        for _ in range(3):
            with running(net, WEB) as daemon:
                assert "took over" in daemon.seen("start")[0]["text"]
                load.more(1000)
                daemon.end(signal.SIGKILL)
            load.more(1000)
            assert not daemon.seen("down")
            assert not daemon.seen("mended")


@contextmanager
def loaded_after(lab: Lab, what: str) -> Iterator[Load]:
    """The load, on what a first daemon has left when it was killed."""
    with running(lab, WEB) as daemon:
        for name in "abc":
            daemon.wait("up", f"web/{name}")
        with loaded(lab, what) as load:
            daemon.end(signal.SIGKILL)
            load.more(1000)
            yield load


@pytest.mark.alone
def test_standing_still_for_two_seconds_under_load(lab):
    """It believes nobody dead for the answers that came while it stood still, and then goes on."""
    net = lab(WEB)
    with running(net, WEB) as daemon:
        for name in "abc":
            daemon.wait("up", f"web/{name}")
        with loaded(net, "stopped for two seconds") as load:
            before = status(net)["program"]
            daemon.send(signal.SIGSTOP)
            try:
                load.more(TWO_SECONDS)
            finally:
                daemon.send(signal.SIGCONT)
            load.more(TWO_SECONDS)
            assert not daemon.seen("down")
            assert status(net)["program"] == before
        net.stop("b")
        daemon.wait("down", "web/b")
