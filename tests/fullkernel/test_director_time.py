"""When the daemon acts, to the hundredth of a second: falls, rises, failover and slow start, in virtual time.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b

A check begins `every` seconds after the one before began, or `fast` seconds while the last answer contradicts the
state, and not before that one has ended; one without an answer ends after `timeout`. Time passes only while all wait,
so these sums are exact but for timers: each is late by up to a thousandth of its time (select_estimate_accuracy in
the kernel's fs/select.c) and asyncio's millisecond.
"""

from __future__ import annotations

import errno
import json
import resource
import socket
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.kernel.daemon import Daemon, running
from tests.kernel.support import marks, read, unique_name

from markway.kernel import netns
from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.virtual_time

VIP = "192.0.2.10"
WEB, STEADY, QUICK, SLOW = 80, 81, 82, 83
BACKENDS = """
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
"""
FILE = "".join(
    f'[service.{name}]\nlisten = "{VIP}:{port}/tcp"\ncheck = {{ tcp = true, jitter = 0, {check} }}\n{more}{BACKENDS}'
    for name, port, check, more in (
        ("web", WEB, 'every = "2s", fast = "500ms", timeout = "800ms", rise = 2, fall = 3, passive = false', ""),
        ("steady", STEADY, 'every = "1s", fall = 2, passive = false', ""),
        ("quick", QUICK, 'every = "1s", fall = 2', ""),
        ("slow", SLOW, 'every = "1s", fall = 2, passive = false', 'slow-start = "36s"\n'),
    )
)
LONGER = 1.001
"""What a timer's time comes to."""
LATE = 0.02
"""Seconds by which some timers in a row may be late."""
BETWEEN = 0.005
"""Seconds from one connection to the next."""


@dataclass(frozen=True)
class Farm:
    """The lab, and the daemon on its director."""

    lab: Lab
    daemon: Daemon

    def at(self, kind: str, name: str, count: int) -> float:
        """When the `count`-th event of this kind is noted, in seconds since the epoch."""
        return float(self.daemon.wait(kind, name, count, 60)["at"])

    def count(self, kind: str, name: str) -> int:
        return len(self.daemon.seen(kind, name))

    def settle(self) -> None:
        """Let time pass until all are up, after so many falls."""
        for name in ("web", "steady", "quick", "slow"):
            self.daemon.wait("up", f"{name}/b", 1, 60)
            self.daemon.wait("up", f"{name}/a", self.count("down", f"{name}/a") + 1, 60)

    def checked(self, name: str, every: float, at: float) -> float:
        """When the last check of an `a` that is well has begun, at a time."""
        first = self.at("up", f"{name}/a", self.count("up", f"{name}/a"))
        interval = every * LONGER
        return first + (at - first) // interval * interval


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (16_384, 16_384))
    time.sleep(1)  # timers are exact from the kernel's first tick on, and asyncio asks only once
    with Lab.up(read(FILE), unique_name()) as lab, running(lab, FILE) as daemon:
        made = Farm(lab, daemon)
        made.settle()
        yield made


class Way(NamedTuple):
    """How a backend dies, and comes back; `silent` if checks of the dead one get no answer at all."""

    die: Callable[[Lab, str], object]
    revive: Callable[[Lab, str], object]
    silent: bool


HOLE = "table ip hole { chain input { type filter hook input priority 0; policy drop; }; }"
WAYS = {
    "reset": Way(Lab.stop, Lab.start, silent=False),
    "silence": Way(
        lambda lab, name: lab.host(name).run("nft", "-f", "-", text=HOLE),
        lambda lab, name: lab.host(name).run("nft", "delete table ip hole"),
        silent=True,
    ),
}
DEATHS = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@contextmanager
def dead(farm: Farm, way: Way, at: float) -> Iterator[None]:
    """Let `a` die at a time; at the end of the block it lives again."""
    until(at)
    way.die(farm.lab, "a")
    try:
        yield
    finally:
        way.revive(farm.lab, "a")


def about(at: float) -> object:
    """Equal to a time, but for the lateness of timers."""
    return pytest.approx(at, rel=0, abs=LATE)


def until(at: float) -> None:
    """Let time pass until a time since the epoch."""
    time.sleep(max(0.0, at - time.time()))


@DEATHS
def test_fall_and_rise(farm, way):
    """fall = 3, rise = 2; a check of the silent one takes its timeout, which is longer than `fast`."""
    every, fast, takes = 2.0, 0.5, 0.8 if way.silent else 0.0
    for phase in (0.1, 0.7, 1.3, 1.9):
        farm.settle()
        ups, downs = farm.count("up", "web/a"), farm.count("down", "web/a")
        last = farm.checked("web", every, time.time() + every)
        with dead(farm, way, last + phase):
            down = farm.at("down", "web/a", downs + 1)
            assert down == about(last + every + 2 * max(fast, takes) + takes)
            last = down - takes + every
            until(last + phase)
        assert farm.at("up", "web/a", ups + 1) == about(last + every + fast)


class Stream:
    """Connections to some services, one to each every BETWEEN seconds, held open."""

    def __init__(self, lab: Lab) -> None:
        self._space = lab.clients[0].namespace
        self._opened: list[tuple[float, int, socket.socket]] = []
        self.lost: dict[int, list[float]] = {}
        """When connections began that were not taken at once, by port."""

    def run(self, wanted: Callable[[], list[int]]) -> None:
        """From now on, to the ports that are `wanted`, until none is."""
        due = time.time()
        with netns.enter(self._space):
            while ports := wanted():
                fresh = [(time.time(), port, self._begun(port)) for port in ports]
                self._opened += fresh
                due += BETWEEN
                until(due)
                for began, port, opened in fresh:
                    if not _connected(opened):
                        self.lost.setdefault(port, []).append(began)

    @staticmethod
    def _begun(port: int) -> socket.socket:
        opened = socket.socket()
        opened.setblocking(False)
        opened.connect_ex((VIP, port))
        return opened

    def close(self) -> None:
        for _, _, opened in self._opened:
            opened.close()


def _connected(opened: socket.socket) -> bool:
    try:
        opened.getpeername()
    except OSError as error:
        assert error.errno == errno.ENOTCONN  # noqa: PT017 - not yet, or refused
        return False
    return True


class Death(NamedTuple):
    """When, on the test's clock, `a` died, was found down, and was lost a connection to first and last."""

    at: float
    down: float
    first: float
    last: float


def deaths(farm: Farm, way: Way, at: float) -> dict[str, Death]:
    """Let `a` die at this time under load: what came of it for two services that ask each second."""
    ports = {"steady": STEADY, "quick": QUICK}
    down: dict[str, float] = {}
    begun = len(farm.daemon.events)

    def wanted() -> list[int]:
        fallen = (e for e in farm.daemon.events[begun:] if (e["kind"], e["backend"]) == ("down", "a"))
        down.update({event["service"]: event["at"] for event in fallen})
        return [port for name, port in ports.items() if time.time() < down.get(name, at + 10.0) + 0.2]

    stream = Stream(farm.lab)
    with dead(farm, way, at):
        until(at + BETWEEN / 2)
        stream.run(wanted)
        stream.close()
    lost = stream.lost
    return {name: Death(at, down[name], lost[port][0], lost[port][-1]) for name, port in ports.items()}


def found_down(due: float, death: Death, *, passive: bool, silent: bool) -> tuple[float, float]:
    """When a death is found out at the earliest and the latest, if the next check is `due`; every 1 s, fall 2.

    A reset is a sign at once: either of the two checks comes then, if it would have come later. Of silence the kernel
    tells when some connections are unanswered, ten times a second: then a check without an answer counts twice.
    """
    fast, timeout = 0.25, 0.5
    if silent and passive:
        return death.at + timeout, min(due, death.at + 0.15) + timeout
    if silent:
        return due + 2 * timeout, due + 2 * timeout
    second = due + fast if not passive else death.first if due < death.first else death.first + fast
    return second, second


@DEATHS
def test_twenty_deaths(farm, way, capsys):
    """For how long a dead backend is given connections, with a check each second and fall 2."""
    given: dict[str, list[float]] = {"steady": [], "quick": []}
    for number in range(20):
        farm.settle()
        at = farm.checked("steady", 1.0, time.time() + 1.0) + 0.04 + number / 20
        due = {name: farm.checked(name, 1.0, at) + 1.0 for name in given}
        for name, death in deaths(farm, way, at).items():
            coming = [due[name]] if due[name] - at > LATE else [due[name], due[name] + 1.0]  # too near to tell
            found = [found_down(one, death, passive=name == "quick", silent=way.silent) for one in coming]
            assert any(first - LATE < death.down < last + LATE for first, last in found)
            # It got every second one until then; the kernel has the new weights a moment later.
            assert -BETWEEN / 2 < death.down - death.last < 3 * BETWEEN
            given[name].append(death.last - at)
    steady, quick = ([f"{round(20 * each) / 20:.2f}" for each in sorted(given[name])] for name in given)
    with capsys.disabled():
        sys.stdout.write(f"\nsteady: {' '.join(steady)} s\nquick: {quick[0]} to {quick[-1]} s")
    assert max(given["steady"]) < 3.0
    assert max(given["quick"]) < 1.0


def slots(farm: Farm, service: str) -> Counter[str]:
    """How many slots the kernel has for each backend."""
    names = {mark: name for name, mark in marks(farm.lab, service).items()}
    listed = json.loads(farm.lab.nft("-j", "list", "map", "inet", "markway", "slots"))["nftables"]
    elements = next(item["map"]["elem"] for item in listed if "map" in item)
    return Counter(names[mark] for _, mark in elements if mark in names)


def test_slow_start(farm):
    """A tenth of the weight at once, and 18 equal steps to all of it in 36 seconds, each at its time."""
    farm.settle()
    rises = farm.count("up", "slow/a")
    with dead(farm, WAYS["reset"], time.time()):
        farm.at("down", "slow/a", farm.count("up", "slow/a"))
        assert slots(farm, "slow").keys() == {"b"}
    up = farm.at("up", "slow/a", rises + 1)
    for number in range(19):
        begun = up + number * 2.0
        expected = 0.1 + 0.05 * number
        for at in (begun + LATE, begun + (2.0 - LATE if number < 18 else 20.0)):
            until(at)
            found = slots(farm, "slow")
            assert found["a"] == pytest.approx(found.total() * expected / (1 + expected), abs=1)
    assert found["a"] == found["b"]
