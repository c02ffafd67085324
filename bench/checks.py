"""What checking many backends costs: `python -m bench.checks [--json]`.

2,000 backends are checked every 2 s as the daemon does it: a task for each, which asks, draws the next state and
sleeps. They are addresses of one nginx in a namespace across a cable. The figure is the CPU time of the checking
process, user and system (where the kernel's work for the packets it sends is, too), as a share of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cpu import pin
from bench.topology import Namespace, namespace, remove_leftovers, sh
from markway.config.model import Check, CheckKind
from markway.director.checks import ask
from markway.director.health import Health, next_check
from markway.director.model import Target

FIRST = IPv4Address("10.128.0.1")
NGINX = """
daemon off; master_process off; worker_rlimit_nofile 8192; pid {directory}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    server {{ listen 80 backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""


@dataclass
class Figures:
    """Of one kind of check; CPU as a share of one core, times in milliseconds."""

    kind: str
    backends: int
    every: float
    checks_per_second: float
    cpu: float
    user: float
    system: float
    microseconds_per_check: float
    took_p50: float
    took_p99: float
    late_p99: float
    unwell: int


class Watch:
    """All backends, watched by one loop."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.took: list[float] = []
        self.late: list[float] = []
        self.reasons: Counter[str] = Counter()

    async def backend(self, target: Target) -> None:
        """Ask one backend for ever."""
        clock = asyncio.get_running_loop().time
        health = Health()
        begun = clock()
        while True:
            due = next_check(self.check, health, begun, random.random())
            await asyncio.sleep(max(0.0, due - clock()))
            begun = clock()
            outcome = await ask(self.check, target)
            health = health.after(well=outcome.well, check=self.check, now=clock())
            self.took.append(outcome.took)
            self.late.append(max(0.0, begun - due))
            if not outcome.well:
                self.reasons[outcome.reason] += 1

    async def measure(self, backends: int, seconds: float) -> Figures:
        """Let it settle for an interval, and measure."""
        targets = [Target("web", str(number), FIRST + number, 80) for number in range(backends)]
        tasks = [asyncio.create_task(self.backend(target)) for target in targets]
        await asyncio.sleep(2 * self.check.every)
        self.took.clear()
        self.late.clear()
        self.reasons.clear()
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        await asyncio.sleep(seconds)
        after, lasted = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - begun
        for task in tasks:
            task.cancel()
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        for reason, count in self.reasons.most_common(3):
            print(f"{count} times: {reason}", file=sys.stderr)
        done = len(self.took)
        return Figures(
            self.check.kind, backends, self.check.every, round(done / lasted, 1), round((user + system) / lasted, 4),
            round(user / lasted, 4), round(system / lasted, 4), round((user + system) / done * 1e6, 1),
            quantile(self.took, 0.5), quantile(self.took, 0.99), quantile(self.late, 0.99), self.reasons.total(),
        )  # fmt: skip


def quantile(times: list[float], part: float) -> float:
    """Milliseconds."""
    return round(sorted(times)[int(len(times) * part)] * 1e3, 2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.checks", description=__doc__)
    parser.add_argument("--backends", type=int, default=2000)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each kind is measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(options: argparse.Namespace) -> list[Figures]:
    """Build the network and measure each kind in a process of its own."""
    with namespace("servers") as servers, namespace("checker") as checker, tempfile.TemporaryDirectory() as directory:
        sh("ip", "link", "add", "cable", "netns", checker.name, "type", "veth", "peer", "cable", "netns", servers.name)
        checker.run("ip", "address", "add", "10.127.0.1/30", "dev", "cable")
        servers.run("ip", "address", "add", "10.127.0.2/30", "dev", "cable")
        for space in (checker, servers):
            space.run("ip", "link", "set", "cable", "up")
        checker.run("ip", "route", "add", "10.128.0.0/16", "via", "10.127.0.2")
        servers.run("ip", "route", "add", "local", "10.128.0.0/16", "dev", "lo")
        settings = Path(directory, "nginx.conf")
        settings.write_text(NGINX.format(directory=directory), encoding="utf-8")
        servers.start("taskset", "-c", "0", "nginx", "-c", str(settings))
        return [measured(checker, kind, options) for kind in (CheckKind.TCP, CheckKind.HTTP)]


def measured(checker: Namespace, kind: CheckKind, options: argparse.Namespace) -> Figures:
    given = {"--backends": options.backends, "--every": options.every, "--seconds": options.seconds, "--inside": kind}
    words = [str(word) for pair in given.items() for word in pair]
    said = checker.run(sys.executable, "-m", "bench.checks", *words, timeout=options.seconds + 60)
    return Figures(**json.loads(said))


def table(found: list[Figures]) -> Table:
    made = Table(title="Checking many backends: one process, as a share of one core")
    for name in ("check", "backends", "every", "checks/s", "CPU", "user", "system", "µs/check"):
        made.add_column(name, justify="left" if name == "check" else "right")
    for name in ("took p50", "p99", "late p99", "unwell"):
        made.add_column(name, justify="right")
    for one in found:
        made.add_row(
            one.kind, f"{one.backends:,}", f"{one.every:g} s", f"{one.checks_per_second:,.0f}", f"{one.cpu:.1%}",
            f"{one.user:.1%}", f"{one.system:.1%}", f"{one.microseconds_per_check:.0f}", f"{one.took_p50:.2f} ms",
            f"{one.took_p99:.2f} ms", f"{one.late_p99:.1f} ms", str(one.unwell),
        )  # fmt: skip
    return made


def main() -> None:
    options = arguments()
    if options.inside:
        pin(max(os.sched_getaffinity(0)))
        check = Check(CheckKind(options.inside), every=options.every, timeout=options.every / 2, target="/")
        figures = asyncio.run(Watch(check).measure(options.backends, options.seconds))
        print(json.dumps(asdict(figures)))
        return
    if os.geteuid():
        sys.exit("the benchmark builds network namespaces: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as ^C: everything made is removed on the way out
    remove_leftovers()
    found = run(options)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        Console(width=140).print(table(found))


if __name__ == "__main__":
    main()
