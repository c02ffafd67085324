"""`python -m bench.failover`: how long a dead backend goes on getting connections.

    client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c

A lab, a real `markway run`, and two clients that open connections at a steady pace whatever becomes of them. Again and
again a backend dies, at a random moment between two checks: its server is killed, so that its machine refuses, or its
cable is pulled, so that nothing answers at all. A client knows when it began each connection that then failed, or that
only came about when it asked again; the last of them since the death is what counts here, as that is when the director
gave the backend its last connection.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import select
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import cycle
from statistics import mean, median
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from markway.config.load import Source, load
from markway.kernel import netns
from markway.lab.build import directory
from markway.lab.exchange import open_tcp, parse_target, source_ports
from markway.lab.lab import Lab
from markway.lab.topology import SWITCH, namespace

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

VIP = "192.0.2.10:80"
NAMES = "abc"
AIMS = {False: 3.0, True: 1.0}
"""Seconds, without and with passive detection."""
PATIENCE = 4.0
"""Seconds that a client waits for a connection: longer than any backend goes on getting some."""
SETTLED = 30.0
AGAIN = 0.5
"""Seconds after which a connection came about because its client asked again (RFC 6298: it does after one)."""
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"


def configuration(*, passive: bool) -> str:
    """The file: everything that it does not say is as everywhere."""
    return f"""
[service.web]
listen = "{VIP}/tcp"
check = {{ tcp = true, every = "1s", fall = 2, passive = {str(passive).lower()} }}
""" + "".join(f'backend.{n} = {{ address = "192.168.1.{11 + i}:8080" }}\n' for i, n in enumerate(NAMES))


@dataclass
class Death:
    """One death; seconds since then.

    `lost` are the connections that the backend got and nobody answered, `late` those that another backend answered when
    the client asked again.
    """

    backend: str
    last: float
    found: float
    lost: int
    late: int


@dataclass
class Figures:
    """All deaths of one kind; seconds."""

    kind: str
    passive: bool
    aim: float
    deaths: list[Death]

    @property
    def times(self) -> list[float]:
        """From each death to the last connection, in order."""
        return sorted(death.last for death in self.deaths)


class Said:
    """Lines of JSON from a process, each with what was in it, as they come."""

    def __init__(self, process: subprocess.Popen[str], stream: IO[str] | None) -> None:
        self.process = process
        self.records: list[dict[str, Any]] = []
        self._stream = stream
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream or ():
            with suppress(ValueError):
                self.records.append(json.loads(line))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind so far."""
        return [record for record in list(self.records) if record["kind"] == kind]

    def end(self, number: signal.Signals) -> None:
        """Stop the process and wait for it."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.process.wait(20)


def eventually(condition: Callable[[], object], what: str, seconds: float = SETTLED) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.005)


# A client: a process of its own.


class Client:
    """Opens connections at a steady pace, and tells of each that failed when it was begun."""

    def __init__(self, target: str, rate: float) -> None:
        self.target, self.rate = parse_target(target), rate
        self.ports = source_ports()
        self.poll = select.epoll()
        self.open: dict[int, tuple[socket.socket, float]] = {}

    def run(self) -> None:
        """Go on until killed."""
        begun, number = time.monotonic(), 0
        print(json.dumps({"kind": "begun"}), flush=True)
        while True:
            now = time.monotonic()
            while begun + number / self.rate <= now:
                self.begin()
                number += 1
            for descriptor, events in self.poll.poll(max(0.0, begun + number / self.rate - time.monotonic())):
                self.progress(descriptor, events)
            self.expire()

    def begin(self) -> None:
        """Begin a connection."""
        started = time.monotonic()
        try:
            opened = open_tcp(self.target, None, self.ports)
        except OSError:
            tell("failed", started)
            return
        self.open[opened.fileno()] = opened, started
        self.poll.register(opened, select.EPOLLOUT)

    def progress(self, descriptor: int, events: int) -> None:
        """Ask, or take the answer."""
        opened, started = self.open[descriptor]
        try:
            if events & select.EPOLLOUT and not events & (select.EPOLLERR | select.EPOLLHUP):
                if time.monotonic() > started + AGAIN:
                    tell("late", started)
                opened.send(REQUEST)
                self.poll.modify(descriptor, select.EPOLLIN)
                return
            if not opened.recv(4096):
                raise ConnectionResetError
        except OSError:
            tell("failed", started)
        self.open.pop(descriptor)
        opened.close()

    def expire(self) -> None:
        """What is oldest comes first."""
        before = time.monotonic() - PATIENCE
        for descriptor, (opened, started) in list(self.open.items())[:8]:
            if started < before:
                tell("failed", started)
                self.open.pop(descriptor)
                opened.close()


def tell(kind: str, started: float) -> None:
    """CLOCK_MONOTONIC is one clock for all processes."""
    print(json.dumps({"kind": kind, "started": started}), flush=True)


# The deaths.


class Trial:
    """A lab under load with its daemon."""

    def __init__(self, lab: Lab, daemon: Said, clients: Sequence[Said]) -> None:
        self.lab, self.daemon, self.clients = lab, daemon, clients

    def since(self, moment: float, kind: str) -> list[float]:
        """When the connections began that failed, or that were late, in seconds since then."""
        started = (record["started"] for client in self.clients for record in client.of(kind))
        return [at - moment for at in started if at >= moment]

    def changes(self, kind: str, name: str) -> int:
        """How often the daemon said so of a backend."""
        return len([record for record in self.daemon.of(kind) if record["backend"] == name])

    def die(self, name: str, kill: Callable[[Lab, str], None], revive: Callable[[Lab, str], None]) -> Death:
        """One death, from health to health."""
        downs, ups = self.changes("down", name), self.changes("up", name)
        time.sleep(random.uniform(0, 1.1))
        moment = time.monotonic()
        kill(self.lab, name)
        eventually(lambda: self.changes("down", name) > downs, f"{name} found dead")
        found = time.monotonic() - moment
        time.sleep(PATIENCE + 0.5)  # the last of the unanswered is told by then
        failed, late = self.since(moment, "failed"), self.since(moment, "late")
        revive(self.lab, name)
        eventually(lambda: self.changes("up", name) > ups, f"{name} found alive")
        end = time.monotonic()
        eventually(lambda: not self.since(end, "failed") and time.monotonic() > end + 0.3, "no failure while all live")
        return Death(name, max([0.0, *failed, *late]), found, len(failed), len(late))


def kill_server(lab: Lab, name: str) -> None:
    os.kill(int((directory(lab.name) / name / "nginx.pid").read_text()), signal.SIGKILL)


def start_server(lab: Lab, name: str) -> None:
    lab.start(name)


def pull_cable(lab: Lab, name: str) -> None:
    netns.ip(namespace(lab.name, SWITCH), [f"link set {port(lab, name)} down"])


def plug_cable(lab: Lab, name: str) -> None:
    netns.ip(namespace(lab.name, SWITCH), [f"link set {port(lab, name)} up"])


def port(lab: Lab, name: str) -> str:
    """The switch's end of a host's cable: numbered as the devices are."""
    devices = [host.name for host in lab.topology.hosts for _ in host.devices]
    return f"port{devices.index(name)}"


KINDS = {"server killed": (kill_server, start_server), "machine gone": (pull_cable, plug_cable)}


@contextmanager
def trial(rate: float, *, passive: bool) -> Iterator[Trial]:
    """A lab with all backends up and the load on."""
    text = configuration(passive=passive)
    with ExitStack() as stack:
        config = load([Source("bench.toml", text.encode())]).config
        lab = stack.enter_context(Lab.up(config, f"failover_{os.getpid()}"))
        path = directory(lab.name) / "markway.toml"
        path.write_text(text, encoding="utf-8")
        process = lab.director.spawn(sys.executable, "-m", "markway", "run", "--log", "json", str(path))
        daemon = Said(process, process.stderr)
        stack.callback(daemon.end, signal.SIGTERM)
        eventually(lambda: {r["backend"] for r in daemon.of("up")} == set(NAMES), "every backend up")
        clients: list[Said] = []
        for place in lab.clients:
            one = place.spawn(sys.executable, "-m", "bench.failover", "--client", VIP, "--rate", str(rate / 2))
            clients.append(Said(one, one.stdout))
            stack.callback(clients[-1].end, signal.SIGKILL)
        eventually(lambda: all(client.records for client in clients), "clients at work")
        yield Trial(lab, daemon, clients)


def measured(options: argparse.Namespace) -> list[Figures]:
    """All kinds, without passive detection and with it."""
    found = []
    for passive in (False, True):
        with trial(options.rate, passive=passive) as running:
            for kind, (kill, revive) in KINDS.items():
                figures = Figures(kind, passive, AIMS[passive], [])
                for _, name in zip(range(options.deaths), cycle(NAMES), strict=False):
                    death = running.die(name, kill, revive)
                    figures.deaths.append(death)
                    print(
                        f"{kind}, passive {passive}: {name} got its last connection after {death.last:.3f} s, "
                        f"was found dead after {death.found:.3f} s, {death.lost} lost, {death.late} late",
                        file=sys.stderr,
                    )
                found.append(figures)
    return found


def table(found: list[Figures], rate: float) -> Table:
    made = Table(title=f"From a backend's death to the last connection given to it, at {rate:,.0f} connections/s")
    for name in ("death", "passive", "deaths", "min", "median", "p95", "max", "aim", "lost", "late"):
        made.add_column(name, justify="left" if name in {"death", "passive"} else "right")
    for one in found:
        times = one.times
        p95 = times[math.ceil(0.95 * len(times)) - 1]
        seconds = [f"{value:.2f} s" for value in (times[0], median(times), p95, times[-1])]
        seconds.append(f"< {one.aim:g} s{'' if times[-1] < one.aim else ' missed'}")
        fates = [f"{mean(each):.0f}" for each in zip(*((death.lost, death.late) for death in one.deaths), strict=True)]
        made.add_row(one.kind, "yes" if one.passive else "no", str(len(times)), *seconds, *fates)
    return made


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--deaths", type=int, default=20, help="of each kind, without and with passive detection")
    parser.add_argument("--rate", type=float, default=600.0, help="new connections a second, of both clients")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Print the table; 1 if an aim is missed."""
    options = arguments()
    if options.client:
        Client(options.client, options.rate).run()
    if os.geteuid():
        sys.exit("the benchmark builds network namespaces: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as ^C: everything made is removed on the way out
    found = measured(options)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        Console(width=140).print(table(found, options.rate))
    return int(any(one.times[-1] >= one.aim for one in found))


if __name__ == "__main__":
    sys.exit(main())
