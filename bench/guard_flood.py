"""`python -m bench.guard_flood`: a guard under a flood of first packets, each from a source that nobody has seen.

    client1, client2 --- director (port 22, guarded, and a real `markway run`)

Forged SYNs come by the clients' switch at a steady pace, all of them new connections to what is guarded. Told are how
many were sent and how many of them the counter looked at (the kernel's account of its queue; the others went on
uncounted), what its memory grew by beside its bound, and how long a hundred real connections a second of client1 took
meanwhile. In the midst of it client2 makes three attempts under its own address, and the third must be refused.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import statistics
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import Pipe, Process
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.cpu import pin
from bench.failover import port
from bench.generator import SLOT, SYN, Flow, ipv4, packets
from bench.sockets import program
from markway.compiler.guarding import QUEUE
from markway.config.guarding import Guard
from markway.config.load import Source, load
from markway.guard.windows import memory_bound
from markway.kernel import netns
from markway.kernel.receiver import HEADER, VECTOR
from markway.lab.build import directory
from markway.lab.daemon import Daemon
from markway.lab.lab import Lab
from markway.lab.topology import SWITCH, namespace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

DIRECTOR, ALLOWED, PORT = "198.51.100.1", "198.51.100.11", 22
FILE = f"""
[service.web]
listen = "192.0.2.10:80/tcp"
backend.a = {{ address = "192.168.1.11:8080" }}

[guard.ssh]
listen = "{PORT}/tcp"
allow = "{ALLOWED}"
"""
FIRST = ipv4("11.0.0.0")
AT_ONCE = 50
"""Packets to a system call: none of them is a burst that no line brings."""

GAP = 0.01
"""Seconds between two connections of the allowed client."""

_SOL_PACKET, _QDISC_BYPASS = 263, 20  # linux/socket.h, linux/if_packet.h
_LIBC = ctypes.CDLL(None, use_errno=True)
LENGTH = 54  # octets: Ethernet, IPv4, TCP

PAGE = 4096


@dataclass
class Flood:
    """One flood; memory in octets, times in microseconds."""

    wanted: int
    """Packets a second, each of another source."""
    seconds: float
    sent: int
    counted: int
    """Of these, and of the connections."""
    cost: float
    """The counter's CPU time for each, in microseconds."""
    memory: int
    bound: int
    connections: int
    median: float
    """Of the times of the allowed client's connections."""
    slowest: float
    """What 99 of 100 of them stayed below."""
    failed: int
    refused: bool
    """Whether the attempt that was one too many, of another client in the midst of it, was refused."""


class Pace(NamedTuple):
    """Packets a second, and for how many seconds."""

    rate: int
    seconds: float


class Attacker:
    """Sends first packets to what is guarded, each of a source that nobody has seen.

    By sendmmsg(2), at the switch's end of the director's cable.
    """

    def __init__(self, lab: Lab, count: int) -> None:
        """Write so many packets down."""
        mac = json.loads(lab.director.run("ip", "-j", "link", "show", "dev", "eth0").stdout)[0]["address"]
        target = ipv4(DIRECTOR)
        flows = (Flow(FIRST + at, 1024, target, PORT) for at in range(count))
        self._packets = ctypes.create_string_buffer(packets(flows, SYN, mac))
        self._count = count
        first = ctypes.addressof(self._packets)
        vectors = b"".join(VECTOR.pack(first + at * SLOT, LENGTH) for at in range(count))
        self._vectors = ctypes.create_string_buffer(vectors)
        first = ctypes.addressof(self._vectors)
        self._headers = ctypes.create_string_buffer(
            b"".join(HEADER.pack(0, 0, first + at * VECTOR.size, 1, 0, 0, 0, 0) for at in range(count))
        )
        with netns.enter(namespace(lab.name, SWITCH)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._socket.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
            self._socket.bind((port(lab, "director"), 0))

    def close(self) -> None:
        """Give the device back."""
        self._socket.close()

    def send(self, pace: Pace) -> int:
        """Send for a while; how many there were."""
        headers, opened = ctypes.addressof(self._headers), self._socket.fileno()
        begun, sent = time.monotonic(), 0
        while sent + AT_ONCE <= self._count and (now := time.monotonic()) < begun + pace.seconds:
            if now < begun + sent / pace.rate:
                time.sleep(begun + sent / pace.rate - now)
            done = _LIBC.sendmmsg(opened, ctypes.c_void_p(headers + sent * HEADER.size), AT_ONCE, 0)
            if done < 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            sent += done
        return sent


def flood(rate: int, seconds: float) -> Flood:
    """One flood on a fresh lab."""
    file = Source("flood.toml", FILE.encode())
    with ExitStack() as stack:
        binary = str(stack.enter_context(program()))
        lab = stack.enter_context(Lab.up(load([file]).config, f"flood{os.getpid()}"))
        for setting in ("nf_conntrack_checksum=0", "nf_conntrack_max=4000000"):  # forged packets have no checksum
            lab.director.run("sysctl", "-qw", f"net.netfilter.{setting}")
        lab.director.spawn(binary, "serve", str(PORT))
        written = directory(lab.name) / "flood.toml"
        written.write_text(FILE)
        daemon = Daemon(lab, written)
        stack.callback(daemon.end)
        daemon.wait("guard")
        attacker = Attacker(lab, int(rate * seconds))
        stack.callback(attacker.close)
        counter = _counter(daemon.process.pid)
        found = _watched(lab, counter, attacker, Pace(rate, seconds))
        if _counter(daemon.process.pid) != counter:
            raise RuntimeError("the counter was stopped and began again")
        return found


def _watched(lab: Lab, counter: int, attacker: Attacker, pace: Pace) -> Flood:
    hear, tell = Pipe(duplex=False)
    allowed = Process(target=_connect, args=(lab, pace.seconds, tell))
    allowed.start()
    memory, counted, spent = _resident(counter), _counted(lab), _spent(counter)
    offender = threading.Timer(pace.seconds / 2, lambda: refused.append(_offend(lab)))
    refused: list[bool] = []
    offender.start()
    begun = time.monotonic()
    sent = attacker.send(pace)
    took = time.monotonic() - begun
    offender.join()
    times, failed = hear.recv()
    allowed.join()
    hundredths = statistics.quantiles(times, n=100)
    counted = _counted(lab) - counted
    return Flood(
        pace.rate, took, sent, counted, (_spent(counter) - spent) / counted * 1e6, _resident(counter) - memory,
        memory_bound(Guard("ssh")), len(times) + failed, hundredths[49], hundredths[98], failed, refused == [True],
    )  # fmt: skip


def _connect(lab: Lab, seconds: float, tell: Connection) -> None:
    """Connections of the allowed client, one after the other: how many microseconds each took, and how many failed."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    times: list[float] = []
    failed, end = 0, time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        with netns.enter(lab.clients[0].namespace):
            opened = socket.socket()
        with opened:
            opened.settimeout(5)
            try:
                opened.connect((DIRECTOR, PORT))
                opened.recv(1)
                times.append((time.monotonic() - begun) * 1e6)
            except OSError:
                failed += 1
        time.sleep(GAP)
    tell.send((times, failed))


def _offend(lab: Lab) -> bool:
    """Three attempts of the other client; whether the third, and only that, gets no answer."""
    answered = []
    for _ in range(3):
        with netns.enter(lab.clients[1].namespace):
            opened = socket.socket()
        with opened:
            opened.settimeout(0.9)  # before it is sent again
            try:
                opened.connect((DIRECTOR, PORT))
                answered.append(True)
            except TimeoutError:
                answered.append(False)
    return answered == [True, True, False]


def _counter(parent: int) -> int:
    """The daemon's process that counts."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    [found] = [int(one) for one in children if b"guarding" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return found


def _resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE


def _spent(process: int) -> float:
    """Seconds of CPU that a process has used: proc_pid_stat(5)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _counted(lab: Lab) -> int:
    """How many packets the queue has shown so far: its last number (nfnetlink_queue.c, seq_show)."""
    lines = lab.director.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout.splitlines()
    return next(int(words[7]) for words in map(str.split, lines) if int(words[0]) == QUEUE)


def show(floods: Sequence[Flood]) -> None:
    """As a table."""
    names = "wanted/s,sent/s,counted,CPU each,memory,of at most,allowed: median,99 %,failed,third attempt"
    table = Table(*names.split(","))
    for one in floods:
        table.add_row(
            f"{one.wanted:,}",
            f"{one.sent / one.seconds:,.0f}",
            f"{one.counted / (one.sent + one.connections):.1%}",
            f"{one.cost:.1f} µs",
            f"{one.memory >> 20} MiB",
            f"{one.bound >> 20} MiB",
            f"{one.median:.0f} µs",
            f"{one.slowest:.0f} µs",
            str(one.failed),
            "refused" if one.refused else "LET IN",
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def main() -> int:
    """Flood at each rate."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard_flood", description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="1000,20000,50000,100000", help="packets a second, separated by commas")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each flood")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    pin(0)
    found = []
    for rate in map(int, chosen.rates.split(",")):
        print(f"guard_flood: {rate:,} sources a second", file=sys.stderr)
        found.append(flood(rate, chosen.seconds))
    if chosen.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        show(found)
    return 0 if all(one.memory < one.bound for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
