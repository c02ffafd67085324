"""`python -m bench.shape`: what shaping costs and brings.

* *growth*: seconds of `markway apply` for a file of 1,000 classes with a match or a `u32` filter each;
* *change*: milliseconds until one changed rate among them is in the kernel and written down;
* *packets*: the director's own CPU for a forwarded packet, less that of the same without shaping: packets are put on
  one device inside a system call, shaped at another, and dropped there. The packet is the last class's;
* *latency*: 95th percentile of DNS and ssh round trips while uploads fill a modem of 1100 kbit/s that queues 192 KiB.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench.cpu import pin, typical
from bench.generator import ACK, DROP, Flow, Generator, ipv4, packets
from bench.topology import CLIENT_MAC, Namespace, isolated_director, namespace, remove_leftovers
from markway.apply.store import Store
from markway.apply.transaction import compiled_for, present, put
from markway.config.load import Source, load
from markway.kernel.netlink import Netlink
from markway.lab.lab import Lab
from markway.lab.latency import loaded_round_trips
from markway.lab.round_trips import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markway.compiler import Compiled

VIEWS = ("growth", "change", "packets", "latency")
CLASSES = 1_000
MATCHES = (1, 100, 1_000)
FLOWS = 4_096
FREE = "40gbit"
"""What a class gets that shall hold nothing back."""
TARGET, PORT = "10.128.0.1", 30_000
SERVICE = '[service.web]\nlisten = "192.0.2.10:80/tcp"\nbackend.a = { address = "192.168.1.11:8080" }\n'
ROOT = """[shape.wan]
device = "{}"
rate = "100gbit"
leaf = "pfifo"
default = "rest"
[shape.wan.class.rest]
rate = "1mbit"
"""

KINDS: dict[str, Callable[[int], str]] = {
    "match, a port each": lambda n: f'match = {{ protocol = "tcp", destination-port = {n} }}\n',
    "match, any expression": lambda n: f'match.nft = "tcp dport {n} ip dscp 0"\n',
    "u32": lambda n: f'[[shape.wan.filter]]\nu32 = ["ip protocol 6 0xff", "ip dport {n} 0xffff"]\nclass = "c{n}"\n',
}
"""What follows the rate of a class that takes the packets to a port."""


def tree(kind: str, classes: int, *, device: str, first: int = PORT, rate: str = "50mbit") -> str:
    """A file with so many classes."""
    each = (f'[shape.wan.class.c{n}]\nrate = "{rate}"\n{KINDS[kind](n)}' for n in range(first, first + classes))
    return ROOT.format(device) + "".join(each)


class Running:
    """A process that holds files in force in a namespace, as `markway run` does."""

    def __init__(self, folder: Path, netlink: Netlink) -> None:
        folder.mkdir()
        self._store = Store(folder)
        self._netlink = netlink
        self._now = present(self._store, netlink)
        self._compiled: Compiled | None = None

    def apply(self, text: str) -> float:
        """Bring a file into force; the seconds from the checked file on."""
        source = Source("bench.toml", text.encode())
        config = load([source]).config
        begun = time.perf_counter()
        with self._store.locked(10, print):
            self._compiled = compiled = compiled_for(self._store, config, {}, [source], self._compiled)
            self._store.keep_registry(compiled.registry)
            digest = self._store.keep_config([source])
            self._now = put(self._store, self._netlink, self._now, compiled.program, config=digest, why="bench").now
        return time.perf_counter() - begun


def growth(rounds: int, folder: Path) -> Iterator[list[str]]:
    """From the text to the kernel, by the command."""
    for kind in KINDS:
        taken, worked = [], []
        for turn in range(rounds):
            with namespace("shape") as director:
                director.run("ip", "link", "add", "wan", "up", "type", "ifb")
                file = folder / "markway.toml"
                file.write_text(tree(kind, CLASSES, device="wan"), encoding="utf-8")
                state = f"MARKWAY_STATE_DIR={folder / f'growth-{kind}-{turn}'}"
                begun, before = time.perf_counter(), _worked()
                director.run("env", state, sys.executable, "-m", "markway", "apply", str(file))
                taken.append(time.perf_counter() - begun)
                worked.append(_worked() - before)
        yield [f"{CLASSES:,} classes, {kind}", f"{median(taken):.2f} s", f"{median(worked):.2f} s", "< 1 s"]


def _worked() -> float:
    """Seconds of CPU of all processes that were waited for."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def change(rounds: int, folder: Path) -> Iterator[list[str]]:
    """One rate among many, in a process that runs."""
    for classes in (10, CLASSES):
        with namespace("shape") as director, director.inside(), Netlink() as netlink:
            director.run("ip", "link", "add", "wan", "up", "type", "ifb")
            running = Running(folder / f"change-{classes}", netlink)
            texts = [tree("match, a port each", classes, device="wan")]
            texts.append(texts[0].replace('"50mbit"', '"60mbit"', 1))
            running.apply(texts[0])
            taken = [running.apply(texts[1 - turn % 2]) for turn in range(4 * rounds)]
        yield [f"one rate of {classes:,}", f"{1e3 * median(taken):.1f} ms", f"{1e3 * min(taken):.1f} ms", "< 20 ms"]


def cost(rounds: int, folder: Path) -> Iterator[list[str]]:
    """The director's CPU for one packet, beside routing alone."""
    nothing = "a shape without a match"
    cases = {"routing alone": "", nothing: ROOT.format("servers").replace("1mbit", FREE)}
    for kind in KINDS:
        for count in MATCHES:
            text = tree(kind, count, device="servers", first=PORT - count + 1)
            last = f'class.c{PORT}]\nrate = "'
            cases[f"{kind}, {count:,}"] = text.replace(f"{last}50mbit", f"{last}{FREE}")
    with ExitStack() as stack:
        generator = Generator()
        stack.callback(generator.close)
        directors: dict[str, Namespace] = {}
        for number, (name, text) in enumerate(cases.items()):
            directors[name] = director = stack.enter_context(isolated_director(f"shape{number}"))
            if text:
                director.run("tc", "qdisc", "del", "dev", "servers", "root")
                with director.inside(), Netlink() as netlink:
                    Running(folder / f"cost-{number}", netlink).apply(text)
        pin(max(os.sched_getaffinity(0)))
        flows = [Flow(ipv4("10.64.0.1") + number, 4000, ipv4(TARGET), PORT) for number in range(FLOWS)]
        found: dict[str, list[float]] = {name: [] for name in cases}
        generator.fill(packets(flows, ACK, CLIENT_MAC))
        for _ in range(4 * rounds):
            for name, director in directors.items():
                with director.inside():
                    device = director.ifindex("clients")
                    both = []
                    for verdict in ({}, {"verdict": DROP}):
                        generator.rewind()
                        both.append(generator.send(FLOWS, device, **verdict) / FLOWS)
                    found[name].append(both[0] - both[1])
    for name, taken in found.items():
        yield [name, f"{1e6 * typical(taken):.2f} µs", f"{typical(taken) / typical(found[nothing]):.2f}"]


SHARED = {
    "nothing": "",
    'preset = "home"': 'preset = "home"\n',
    "one queue of fq_codel": 'leaf = { kind = "fq_codel", strict = true }\n',
    "cake": 'discipline = { kind = "cake", strict = true }\n',
}


def latency(rounds: int, folder: Path) -> Iterator[list[str]]:
    """Round trips through a full modem, and with 1024 kbit/s shared in front of it."""
    before: dict[str, float] = {}
    for number, (name, shape) in enumerate(SHARED.items()):
        config = load([Source("bench.toml", SERVICE.encode())]).config
        with Lab.up(config, f"b{os.getpid()}") as lab:
            file = folder / f"latency-{number}.toml"
            file.write_text(f'{SERVICE}[shape.wan]\ndevice = "eth0"\nrate = "1024kbit"\n{shape}', encoding="utf-8")
            if shape and lab.markway("apply", str(file)).returncode:
                yield [name, "not in this kernel", "", ""]
                continue
            taken = loaded_round_trips(lab, 100 * rounds, 0.05)
        found = {what: percentile(each, 0.95) for what, each in taken.items()}
        before = before or found
        ratio = min(before[what] / found[what] for what in found)
        yield [name, *(f"{1e3 * each:.1f} ms" for each in found.values()), f"{ratio:.0f} times lower" if shape else ""]


HEADS = {
    "growth": (growth, ("applied by the command", "median", "CPU", "aim")),
    "change": (change, ("changed", "median", "least", "aim")),
    "packets": (cost, ("classified by", "a packet", "of none")),
    "latency": (latency, ("shared by", "DNS p95", "ssh p95", "aim: 10 times lower")),
}


def main() -> int:
    """Measure what was asked for, and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.shape", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(VIEWS), help=f"some of {','.join(VIEWS)}")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("needs root, to build network namespaces: try sudo", file=sys.stderr)
        return 1
    remove_leftovers()
    console = Console()
    home = os.sched_getaffinity(0)
    for view in options.only.split(","):
        measure, head = HEADS[view]
        table = Table(*head, title=view)
        with TemporaryDirectory(prefix="mwb-") as folder:
            for row in measure(options.rounds, Path(folder)):
                table.add_row(*row)
        os.sched_setaffinity(0, home)
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
