"""Load feedback, step by step, in virtual time: the daemon does what the pure controller says, and forgets in time.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c, which serve their load as JSON
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.kernel.daemon import Daemon, running
from tests.kernel.support import marks, read, unique_name

from markway.apply.store import Store
from markway.balance.feedback import Seen, step
from markway.cli.ask import Daemon as Asking
from markway.lab.build import STATE_DIRECTORY, directory
from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.config.model import Load

pytestmark = pytest.mark.virtual_time

NAMES = "abc"
EVERY, STALE = 5.0, 15.0
FILE = """
[service.web]
listen = "192.0.2.10:80/tcp"
load = { http = "/load.json", field = "load.now", port = 8081, every = "5s", stale = "15s", floor = 10 }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
backend.c = { address = "192.168.1.13:8080" }
"""
NGINX = """
error_log /dev/null;
pid {folder}/json.pid;
events {{}}
http {{ access_log off; server {{ listen 8081; root {folder}; }} }}
"""
LATE = 0.02


class Farm:
    """The lab, its daemon, and the pure controller that is given the same readings at the same times."""

    def __init__(self, lab: Lab, daemon: Daemon, load: Load) -> None:
        self.lab, self.daemon, self.load = lab, daemon, load
        self.begun: float = daemon.wait("start")["at"]
        self.states: dict[str, Seen] = {}
        self.turns = 0
        self.shares = dict.fromkeys(NAMES, 1 / 3)
        self._ask = Asking(Store(STATE_DIRECTORY / lab.director.namespace))
        self._marks = {mark: name for name, mark in marks(lab, "web").items()}

    def factor(self, name: str) -> float:
        return self.states[name].factor

    def turn(self, loads: Mapping[str, float | None]) -> None:
        """Let the daemon read these loads in its turn, and hold what it made of them against the controller."""
        for name in NAMES:
            tell(self.lab, name, loads[name])
        time.sleep(self.begun + self.turns * EVERY + 2 * LATE - time.time())
        self.states = step(self.load, self.states, loads, self.turns * EVERY, dict.fromkeys(NAMES, 1))
        self.turns += 1
        [service] = self._ask.get("status")["services"]
        told = {backend["name"]: (backend["reading"], backend["factor"]) for backend in service["backends"]}
        assert {name: reading for name, (reading, _) in told.items()} == loads
        expected = {name: self.factor(name) for name in NAMES}
        assert {name: factor for name, (_, factor) in told.items()} == pytest.approx(expected, abs=1e-3)
        assert min(expected.values()) >= self.load.floor
        self.shares = self._slots()
        whole = sum(expected.values())
        assert self.shares == pytest.approx({n: expected[n] / whole for n in NAMES}, abs=0.01)

    def _slots(self) -> dict[str, float]:
        """What part of the kernel's slots each backend has."""
        listed = json.loads(self.lab.nft("-j", "list", "map", "inet", "markway", "slots"))["nftables"]
        elements = next(item["map"]["elem"] for item in listed if "map" in item)
        found = Counter(self._marks[mark] for _, mark in elements)
        return {name: found[name] / found.total() for name in NAMES}


def tell(lab: Lab, name: str, load: float | None) -> None:
    """What a backend says from now on; None is nothing that is a load."""
    folder = directory(lab.name) / name
    (folder / "next.json").write_text(json.dumps({"load": {"now": load}}))
    (folder / "next.json").rename(folder / "load.json")


@contextmanager
def watched() -> Iterator[Farm]:
    time.sleep(1)  # timers are exact from the kernel's first tick on, and asyncio asks only once
    config = read(FILE)
    load = config.services[0].load
    assert load
    with Lab.up(config, unique_name()) as lab:
        for name in NAMES:
            folder = directory(lab.name) / name
            (folder / "json.conf").write_text(NGINX.format(folder=folder))
            lab.host(name).run("nginx", "-c", str(folder / "json.conf"), "-p", str(folder))
            tell(lab, name, 50.0)
        with running(lab, FILE) as daemon:
            farm = Farm(lab, daemon, load)
            farm.turn(dict.fromkeys(NAMES, 50.0))
            yield farm


def work(farm: Farm, other: float = 0.0) -> dict[str, float | None]:
    """Loads that follow the shares of new connections; `a` has other work besides."""
    return {name: 150 * farm.shares[name] + (other if name == "a" else 0) for name in NAMES}


def test_weights_follow_loads_as_the_controller_says_and_return():
    with watched() as farm:
        for _ in range(12):  # a minute
            farm.turn(work(farm))
        assert not farm.daemon.seen("load")
        for _ in range(24):
            farm.turn(work(farm, 200.0))
        assert farm.factor("a") < 0.3
        assert min(farm.factor("b"), farm.factor("c")) > 0.95
        for _ in range(120):
            farm.turn(work(farm))
        assert min(farm.factor(name) for name in NAMES) > 0.75
        changes = farm.daemon.seen("load", "web/a")
        assert [event["data"]["factor"] for event in changes][-1] == pytest.approx(farm.factor("a"), abs=1e-3)
        assert len(changes) < 40


def test_a_source_that_falls_silent_is_forgotten_when_its_reading_is_stale():
    with watched() as farm:
        for _ in range(24):
            farm.turn(work(farm, 200.0))
        loaded = farm.factor("a")
        assert loaded < 0.5
        last = farm.begun + (farm.turns - 1) * EVERY
        silence = {"a": None, "b": 50.0, "c": 50.0}
        for _ in range(2):  # 5 and 10 seconds
            farm.turn(silence)
            assert farm.factor("a") < 0.5
        farm.turn(silence)
        event = farm.daemon.seen("load", "web/a")[-1]
        assert event["data"] == {"load": None, "factor": 1.0}
        assert abs(event["at"] - last - STALE) < LATE
        assert farm.shares == pytest.approx(dict.fromkeys(NAMES, 1 / 3), abs=0.01)
        for _ in range(6):
            farm.turn(work(farm, 200.0))
        assert farm.factor("a") < 0.9


def test_when_all_fall_silent_the_configured_weights_hold():
    with watched() as farm:
        for _ in range(24):
            farm.turn(work(farm, 200.0))
        for _ in range(3):
            farm.turn(dict.fromkeys(NAMES))
        assert farm.shares == pytest.approx(dict.fromkeys(NAMES, 1 / 3), abs=0.01)
