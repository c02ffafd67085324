"""Real connections: a client, a director and servers that greet it with one byte."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.case import BACKEND_PORT, FIRST_BACKEND, FIRST_CLIENT, FIRST_SERVICE, SERVICE_PORT, Case
from bench.contenders import Contender, TooSlowError, wait_for_port
from bench.generator import dotted
from bench.topology import Road, road, sh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = 64
AT_ONCE = 64


@dataclass
class Rates:
    """New connections per second and microseconds to the first byte, one figure per round."""

    rate: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)


@dataclass
class Connections:
    """Samples by contender, and who was absent and why."""

    samples: dict[str, Rates] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


@contextmanager
def program() -> Iterator[Path]:
    """Compile the client and server."""
    with TemporaryDirectory(prefix="mwb-") as folder:
        binary = Path(folder, "sockets")
        sh("gcc", "-O2", "-o", str(binary), str(Path(__file__).with_name("sockets.c")))
        yield binary


def measure(road_: Road, binary: Path, case: Case, *, direct: bool, seconds: float) -> tuple[float, float, float]:
    """Open connections for some seconds: the rate, the median and the 99th percentile."""
    first, count, port = (
        (FIRST_BACKEND, len(case.backends), BACKEND_PORT)
        if direct
        else (FIRST_SERVICE, len(case.services), SERVICE_PORT)
    )
    road_.director.flush_connections()
    target, source = (dotted(first), str(count), str(port)), (dotted(FIRST_CLIENT), str(SOURCES))
    words = road_.client.run(
        *("taskset", "-c", "0", str(binary), "connect", *target, *source, str(AT_ONCE), str(seconds))
    ).split()
    road_.director.flush_connections()
    done, spent, median, slowest, failed = map(float, words)
    if failed > done / 1000 or not done:
        raise RuntimeError(f"{road_.director.name}: {failed:.0f} of {done + failed:.0f} connections failed")
    return done / spent, median, slowest


def compare(
    contenders: list[Contender], case: Case, rounds: int, seconds: float, tell: Callable[[str], None]
) -> Connections:
    """Measure all in turn, round after round."""
    found = Connections()
    last_core = str((os.cpu_count() or 1) - 1)
    with ExitStack() as stack:
        binary = stack.enter_context(program())
        roads: dict[str, tuple[Contender, Road]] = {}
        for contender in contenders:
            tell(f"connections {case.size}: set up {contender.name}")
            built = stack.enter_context(road(contender.name, case.services[0].address))
            built.servers.start("taskset", "-c", last_core, str(binary), "serve", str(BACKEND_PORT))
            with built.servers.inside():
                wait_for_port(BACKEND_PORT)
            try:
                contender.install(built.director, case)
            except TooSlowError as slow:
                found.absent[contender.name] = str(slow)
                continue
            roads[contender.name] = contender, built
            found.samples[contender.name] = Rates()
        for turn in range(rounds):
            for name, (contender, built) in roads.items():
                tell(f"connections {case.size}: round {turn + 1} of {rounds}, {name}")
                rate, median, slowest = measure(built, binary, case, direct=contender.direct, seconds=seconds)
                sample = found.samples[name]
                sample.rate.append(rate)
                sample.median.append(median)
                sample.slowest.append(slowest)
    return found
