"""The queue worker and its policies fail in every way, under load: no connection does.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c
                                 |
                  queue worker: killed, stopped, hanging, lied to

A first packet that waits for a worker at its end is sent again by its client a second later (RFC 6298), at most once.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.queue_daemon import QueueDaemon
from tests.kernel.support import eventually, in_force, write
from tests.kernel.test_queue import service, undecided

from markway.kernel import netns
from markway.kernel.queue import LENGTH
from markway.lab.build import directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab
    from markway.lab.tally import Tally

POLICIES = """
import itertools, os, re, time

def raises(connection, backends): raise ValueError("no idea")
def sleeps(connection, backends): time.sleep(60)
def loops(connection, backends):
    while True: pass
def nothing(connection, backends): return None
def stranger(connection, backends): return "z"
def crashes(connection, backends): os.abort()
def hangs(connection, backends): return sum(itertools.repeat(0))   # in C: no signal is looked at
def last(connection, backends): return backends[-1].name
def by_port(connection, backends):
    assert connection.service == "by_port" and connection.protocol == "tcp"
    assert connection.destination == "192.0.2.10" and connection.source.startswith("198.51.100.")
    return min(backends, key=lambda backend: backend.name).name if connection.source_port // 2 % 2 else backends[1].name
"""

NAMES = ("raises", "sleeps", "loops", "nothing", "stranger", "crashes", "hangs", "last", "by_port")
OWN = {name: 3000 + number for number, name in enumerate(NAMES)}
CONFIG = service("least", 80, 'schedule = "least-connections"') + "".join(
    service(name, port, f'schedule = "queue"\npolicy = "trials:{name}"') for name, port in OWN.items()
)
MANY = 3000


@pytest.fixture(scope="module")
def farm() -> Iterator[Lab]:
    with in_force(CONFIG) as lab:
        (directory(lab.name) / "policies").mkdir()
        (directory(lab.name) / "policies" / "trials.py").write_text(POLICIES, encoding="utf-8")
        yield lab


@pytest.fixture
def daemon(farm) -> Iterator[QueueDaemon]:
    with QueueDaemon(farm, write(farm, CONFIG), str(directory(farm.name) / "policies")) as started:
        eventually(lambda: started.tell()["running"])
        yield started


def report(what: str, tally: Tally, **more: object) -> None:
    found = {"connections": tally.connections, "failed": tally.failed, **tally.connect_ms, **more}
    print(f"\n{what}: " + ", ".join(f"{key} {value}" for key, value in found.items()))  # noqa: T201


def under_load(lab: Lab, daemon: QueueDaemon, number: signal.Signals, times: int) -> tuple[Tally, dict[str, Any]]:
    """Thousands of connections, and a signal to the worker that is there, again and again in equal parts of them."""
    hit: list[int] = []

    def strike(tally: Tally) -> None:
        if len(hit) < times and tally.connections > MANY * (len(hit) + 1) / (times + 2):
            pid = daemon.tell()["pid"]
            if pid and pid not in hit:
                os.kill(pid, number)
                hit.append(pid)

    tally = lab.fetch("192.0.2.10:80", MANY, progress=strike, every=0.005, timeout=10.0, rate=1000, concurrency=1000)
    assert len(hit) == times
    eventually(lambda: daemon.tell()["running"] and daemon.tell()["pid"] not in hit)
    return tally, daemon.tell()


@pytest.mark.real_time
def test_a_worker_killed_under_load_costs_no_connection(farm, daemon):
    before = undecided(farm)
    tally, stats = under_load(farm, daemon, signal.SIGKILL, 3)
    report("killed three times", tally, by_slots=undecided(farm) - before, restarts=stats["restarts"])
    assert not tally.failures
    assert stats["restarts"] == 3
    assert set(tally.answers) == {"a", "b", "c"}


@pytest.mark.real_time
def test_a_worker_stopped_under_load_costs_no_connection(farm, daemon):
    before = undecided(farm)
    tally, stats = under_load(farm, daemon, signal.SIGSTOP, 1)
    report("stopped", tally, by_slots=undecided(farm) - before, hung=stats["hung"])
    assert not tally.failures
    assert stats["hung"] == 1
    assert tally.connect_ms["p99"] < 2500  # one first packet sent again, not two


def test_a_stopped_worker_lets_those_beyond_the_queue_s_length_pass_at_once(farm, daemon):
    os.kill(daemon.tell()["pid"], signal.SIGSTOP)
    before = undecided(farm)
    with netns.enter(farm.clients[0].namespace):
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2 * LENGTH)]
    for sender in senders:
        sender.sendto(b"?", ("192.0.2.10", 80))
    eventually(lambda: undecided(farm) - before >= LENGTH)
    for sender in senders:
        sender.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", "raised"),
        ("sleeps", "late"),
        ("loops", "late"),
        ("nothing", "nonsense"),
        ("stranger", "nonsense"),
    ],
)
@pytest.mark.real_time
def test_a_policy_that_fails_leaves_all_to_the_slot_table(farm, daemon, name, reason):
    before = undecided(farm)
    tally = farm.fetch(f"192.0.2.10:{OWN[name]}", 900, timeout=10.0)
    eventually(lambda: counted(daemon, name) == 900)
    kinds = daemon.tell()["services"][name]["undecided"]
    report(f"policy {name}", tally, undecided=kinds)
    assert not tally.failures
    assert tally.answers == {"a": 300, "b": 300, "c": 300}
    assert undecided(farm) - before == 900
    assert kinds[reason] >= 5
    assert set(kinds) <= {reason, "suspended"}
    assert daemon.tell()["services"][name]["decided"] == 0


def counted(daemon: QueueDaemon, name: str) -> int:
    return sum(daemon.tell()["services"].get(name, {}).get("undecided", {}).values())


@pytest.mark.parametrize("name", ["hangs", "crashes"])
@pytest.mark.real_time
def test_a_policy_that_takes_the_worker_with_it_costs_no_connection(farm, daemon, name):
    before = undecided(farm)
    tally = farm.fetch(f"192.0.2.10:{OWN[name]}", 600, timeout=30.0)
    stats = daemon.tell()
    report(f"policy {name}", tally, restarts=stats["restarts"], hung=stats["hung"])
    assert not tally.failures
    assert set(tally.answers) == {"a", "b", "c"}
    assert undecided(farm) - before >= 600
    assert (stats["hung"] if name == "hangs" else stats["restarts"]) >= 1


def test_other_services_are_decided_for_beside_one_whose_policy_fails(farm, daemon):
    assert not farm.fetch(f"192.0.2.10:{OWN['raises']}", 50).failures
    assert not farm.fetch("192.0.2.10:80", 50).failures
    eventually(lambda: daemon.tell()["services"].get("least", {}).get("decided") == 50)


def test_a_policy_of_the_operator_s_own_decides(farm, daemon):
    assert farm.fetch(f"192.0.2.10:{OWN['last']}", 50).answers == {"c": 50}
    tally = farm.fetch(f"192.0.2.10:{OWN['by_port']}", 200)
    assert set(tally.answers) == {"a", "b"}
    eventually(lambda: daemon.tell()["services"].get("by_port", {}).get("decided") == 200)


def test_the_worker_goes_with_its_daemon_and_the_next_one_takes_over(farm, daemon):
    worker = daemon.tell()["pid"]
    daemon.process.kill()
    eventually(lambda: not alive(worker))
    assert farm.fetch("192.0.2.10:80", 30).answers.total() == 30
    with QueueDaemon(farm, write(farm, CONFIG)) as following:
        eventually(lambda: following.tell()["running"])


def test_a_hanging_worker_goes_with_its_daemon_too(farm, daemon):
    worker = daemon.tell()["pid"]
    os.kill(worker, signal.SIGSTOP)
    daemon.process.kill()
    eventually(lambda: not alive(worker))
    assert not farm.fetch("192.0.2.10:80", 30).failures


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
