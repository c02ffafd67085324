# ruff: noqa: A005
"""`python -m bench.queue`: what it costs to ask a worker about each connection.

* Connections: the same service on `round-robin` and on queued schedules, side by side: how many a second with 64 at
  once, and how long one takes (to the server's first byte) when it is alone.
* Verdicts: a flood of new connections into the queue, answered by the worker and by a C program of libnetfilter_queue,
  each by itself on a core of its own.

Figures are medians of the rounds; ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from bench.case import BACKEND_PORT, FIRST_CLIENT, FIRST_SERVICE, SERVICE_PORT, Case, case
from bench.contenders import Markway, wait_for_port
from bench.cpu import pin
from bench.generator import SYN, Generator, dotted, packets
from bench.sockets import program
from bench.topology import CLIENT_MAC, Namespace, Road, isolated_director, remove_leftovers, road, sh
from markway.apply.store import Store
from markway.compiler.asking import QUEUE
from markway.config.load import load_text

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEDULES = ("round-robin", "least-connections", "least-load", "queue")
SOURCES = 64
FLOOD = 16384
AIMS = {"rate": 0.9, "added": 50.0, "verdicts": 0.8}


@dataclass
class Scheduled(Markway):
    """Markway with a schedule, and its queue worker if that asks one."""

    schedule: str = "round-robin"

    @override
    def configuration(self, case: Case) -> str:
        return super().configuration(case).replace("mode =", f'schedule = "{self.schedule}"\nmode =')

    @contextmanager
    def running(self, director: Namespace, case: Case, *prefix: str, worker: bool = True) -> Iterator[Path]:
        """In force, with its worker at work; the folder of its state."""
        with TemporaryDirectory(prefix="mwb-") as folder:
            file, state = Path(folder, "markway.toml"), Path(folder, "state")
            file.write_text(self.configuration(case))
            self.apply(director, file, state)
            if worker and self.schedule != "round-robin":
                command = (*prefix, sys.executable, "-m", "bench.queue_worker", str(file))
                director.start(*command, env={"MARKWAY_STATE_DIR": str(state)})
                wait_for_queue(director)
            yield state
            director.stop()


def queue_line(director: Namespace) -> list[int]:
    """What the kernel says of our queue (nfnetlink_queue in proc): number, owner, waiting, ..., packets so far, 1."""
    lines = director.run("cat", "/proc/net/netfilter/nfnetlink_queue").splitlines()
    return next(([int(word) for word in line.split()] for line in lines if line.split()[0] == str(QUEUE)), [])


def wait_for_queue(director: Namespace) -> None:
    deadline = time.monotonic() + 20
    while not queue_line(director):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{director.name}: nobody serves the queue")
        time.sleep(0.01)


@dataclass
class Figures:
    """One figure per round: connections a second with many at once; microseconds for one alone, median and 99th."""

    rate: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    """The part of the connections that the worker was asked about."""


def connect(built: Road, binary: Path, at_once: int, seconds: float) -> tuple[float, float, float]:
    """Connections a second, and the median and 99th percentile of their times."""
    built.director.flush_connections()
    target = (dotted(FIRST_SERVICE), "1", str(SERVICE_PORT), dotted(FIRST_CLIENT), str(SOURCES))
    words = built.client.run("taskset", "-c", "0", str(binary), "connect", *target, str(at_once), str(seconds)).split()
    done, spent, median, slowest, failed = map(float, words)
    if failed or not done:
        raise RuntimeError(f"{built.director.name}: {failed:.0f} of {done + failed:.0f} connections failed")
    return done / spent, median, slowest


def measure_connections(rounds: int, seconds: float) -> dict[str, Figures]:
    """All schedules, in turn, round after round."""
    found = {schedule: Figures() for schedule in SCHEDULES}
    this, last = case(1, 4), str((os.cpu_count() or 1) - 1)
    with ExitStack() as stack:
        binary = stack.enter_context(program())
        roads = {}
        for schedule in SCHEDULES:
            built = stack.enter_context(road(schedule, this.services[0].address))
            built.servers.start("taskset", "-c", last, str(binary), "serve", str(BACKEND_PORT))
            with built.servers.inside():
                wait_for_port(BACKEND_PORT)
            stack.enter_context(Scheduled(schedule, schedule=schedule).running(built.director, this))
            roads[schedule] = built
        for number in range(rounds):
            for schedule, built in roads.items():
                say(f"connections: round {number + 1} of {rounds}, {schedule}")
                one = found[schedule]
                before = queue_line(built.director)
                rate, _, _ = connect(built, binary, 64, seconds)
                after = queue_line(built.director)
                _, median, slowest = connect(built, binary, 1, seconds)
                one.rate.append(rate)
                one.median.append(median)
                one.slowest.append(slowest)
                one.asked.append((after[-2] - before[-2]) / (rate * seconds) if after and before else 0.0)
    return found


def measure_verdicts(rounds: int) -> dict[str, list[float]]:
    """Verdicts a second, of the worker and of the C program, in turn."""
    found: dict[str, list[float]] = {"markway": [], "C": []}
    this, last = case(1, 4), str((os.cpu_count() or 1) - 1)
    with ExitStack() as stack:
        generator = Generator()
        stack.callback(generator.close)
        binary = Path(stack.enter_context(TemporaryDirectory(prefix="mwb-")), "verdicts")
        source = Path(__file__).with_name("verdicts.c")
        sh("gcc", "-O2", "-o", str(binary), str(source), "-lnetfilter_queue", "-lnfnetlink")
        scheduled = Scheduled("markway", schedule="least-connections")
        directors = {name: stack.enter_context(isolated_director(name)) for name in found}
        taskset = ("taskset", "-c", last)
        stack.enter_context(scheduled.running(directors["markway"], this, *taskset))
        state = stack.enter_context(scheduled.running(directors["C"], this, worker=False))
        directors["C"].start(*taskset, str(binary), str(QUEUE), *answers(scheduled, this, state))
        wait_for_queue(directors["C"])
        pin(0)
        generator.fill(packets(this.flows(FLOOD), SYN, CLIENT_MAC))
        for number in range(rounds + 1):
            for name, director in directors.items():
                say(f"verdicts: round {number} of {rounds}, {name}")
                rate = flood(generator, director)
                if number:  # the first warms up
                    found[name].append(rate)
    return found


def answers(scheduled: Scheduled, this: Case, state: Path) -> list[str]:
    """The mask and the marks of the backends, as the C program wants them."""
    registry = Store(state).registry()
    config = load_text(scheduled.configuration(this)).config
    marks = registry.backend_field(config.mask)
    numbers = [registry.numbers[f"{service.name}/{b.name}"] for service in config.services for b in service.backends]
    return [hex(marks.mask), *(hex(marks.place(number)) for number in numbers)]


def flood(generator: Generator, director: Namespace) -> float:
    """Put new connections on the director as fast as it takes them; how many were answered a second."""
    director.flush_connections()
    settled(director)
    before = queue_line(director)[-2]
    with director.inside():
        device = director.ifindex("clients")
        generator.rewind()
        begun = time.perf_counter()
        generator.send(FLOOD, device)
        while waiting():
            pass
        took = time.perf_counter() - begun
    return (queue_line(director)[-2] - before) / took


def waiting() -> int:
    """Packets of this namespace's queue that have no verdict yet."""
    return int(Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text().split()[2])


def settled(director: Namespace) -> None:
    """Return once nobody in the namespace has news of the connection table to read."""
    while any(int(line.split()[4]) for line in director.run("cat", "/proc/net/netlink").splitlines()[1:]):
        time.sleep(0.01)


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr)


def summary(connections: dict[str, Figures], verdicts: dict[str, list[float]]) -> dict[str, Any]:
    """What is compared, as JSON can hold it."""
    found: dict[str, Any] = {"when": time.strftime("%Y-%m-%d"), "kernel": os.uname().release, "load": os.getloadavg()}
    base = connections.get("round-robin")
    found["connections"] = {
        name: {
            "rate": round(statistics.median(one.rate)),
            "rate_ratio": round(by_round(one.rate, base.rate), 3),
            "p50_us": statistics.median(one.median),
            "p99_us": statistics.median(one.slowest),
            "added_p50_us": statistics.median(a - b for a, b in zip(one.median, base.median, strict=True)),
            "added_p99_us": statistics.median(a - b for a, b in zip(one.slowest, base.slowest, strict=True)),
            "asked": round(statistics.median(one.asked), 3),
        }
        for name, one in connections.items()
        if base
    }
    if verdicts:
        found["verdicts"] = {name: round(statistics.median(rates)) for name, rates in verdicts.items()}
        found["verdicts_ratio"] = round(by_round(verdicts["markway"], verdicts["C"]), 3)
    return found


def by_round(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def show(found: dict[str, Any]) -> None:
    if found["connections"]:
        print("schedule            conn/s  ratio   p50 us    added   p99 us    added  asked")
    for name, one in found["connections"].items():
        print(
            f"{name:18} {one['rate']:7,}  {one['rate_ratio']:5.3f}  {one['p50_us']:7.0f}  {one['added_p50_us']:+7.0f}"
            f"  {one['p99_us']:7.0f}  {one['added_p99_us']:+7.0f}  {one['asked']:5.2f}"
        )
        if name != "round-robin":
            print(f"{'':18} {verdict(one['rate_ratio'] >= AIMS['rate'])} rate >= {AIMS['rate']}, ", end="")
            print(f"{verdict(one['added_p50_us'] <= AIMS['added'])} p50 <= +{AIMS['added']:.0f} us")
    if "verdicts" in found:
        rates = ", ".join(f"{name} {rate:,}" for name, rate in found["verdicts"].items())
        met = verdict(found["verdicts_ratio"] >= AIMS["verdicts"])
        print(f"verdicts a second: {rates}; ratio {found['verdicts_ratio']:.3f} ({met} >= {AIMS['verdicts']})")


def verdict(met: bool) -> str:
    return "pass" if met else "FAIL"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="connections,verdicts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("the benchmark builds network namespaces: run it as root")
    remove_leftovers()
    connections = measure_connections(options.rounds, options.seconds) if "connections" in options.only else {}
    verdicts = measure_verdicts(options.rounds) if "verdicts" in options.only else {}
    found = summary(connections, verdicts)
    print(json.dumps(found, indent=2)) if options.json else show(found)


if __name__ == "__main__":
    main()
