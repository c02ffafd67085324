"""What it costs to count attempts and to read logs: `python -m bench.guard_logs [--json]`.

Attempts: one guard with the four classic windows, and sources that come from everywhere, as spoofed ones do. Logs: the
same lines for Markway and for fail2ban's own library with its own filters, driven in one process as `fail2ban-regex`
does; both read bytes from memory, so no disk and no database counts. All figures are CPU time of one core; the best of
the rounds is taken, for whatever else runs here only takes away. Both have to find the same failures, or nothing is
compared: for an unknown user, whom fail2ban counts more than once, there are no lines.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from markway.config.guarding import Guard, LogFormat, LogSource, Window
from markway.guard.logs import Reader
from markway.guard.windows import Windows, memory_bound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AIM_ATTEMPTS = 300_000
AIM_LOGS = 3.0
FAIL2BAN = Path("/usr/lib/python3/dist-packages/fail2ban")
FILTERS = {LogFormat.SSHD: "sshd", LogFormat.NGINX: "nginx-http-auth", LogFormat.POSTFIX: "postfix[mode=auth]"}

THEIRS = """
import json, sys, time
from fail2ban.client.filterreader import FilterReader
from fail2ban.helpers import extractOptions
from fail2ban.server.filter import Filter
name, path, rounds = sys.argv[1:]
name, options = extractOptions(name)
reader = FilterReader(name, "bench", options, basedir="/etc/fail2ban")
reader.read()
reader.getOptions(None)
filter = Filter(None, useDns="no")
filter.checkFindTime = False
for command in reader.convert():
    kind, values = command[2], command[3:]
    if command[0] == "multi-set" and kind == "addfailregex":
        for value in values[0]:
            filter.addFailRegex(value)
    elif kind == "addfailregex":
        filter.addFailRegex(values[0])
    elif kind == "prefregex":
        filter.prefRegex = values[0]
    elif kind == "maxlines":
        filter.setMaxLines(values[0])
    elif kind == "datepattern":
        filter.setDatePattern(values[0])
lines = open(path, encoding="utf-8", errors="replace").read().splitlines()
best = 1e9
for _ in range(int(rounds)):
    begun, found = time.process_time(), 0
    for line in lines:
        found += len(filter.processLine(line))
    best = min(best, time.process_time() - begun)
print(json.dumps([len(lines) / best, found]))
"""


@dataclass
class Log:
    """Lines per second on one core; None where the two do not find the same."""

    name: str
    lines: int
    failures: int
    markway: float
    fail2ban: float | None

    @property
    def times(self) -> float | None:
        """How many times as fast."""
        return self.markway / self.fail2ban if self.fail2ban else None


@dataclass
class Attempts:
    """Attempts per second on one core, and the most bytes that were taken."""

    name: str
    rate: float
    memory: int
    bound: int


def best(rounds: int, work: Callable[[], int]) -> float:
    """Seconds of CPU that one of what is done costs, at best."""
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        done = work()
        found.append((time.process_time() - begun) / done)
    return min(found)


def sshd(chance: random.Random, number: int) -> str:
    """One line of a server that is attacked: half of them failures, and what sshd says besides."""
    start = f"Feb {1 + number // 86400 % 28:2} {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} host"
    address, port = address_of(chance), chance.randrange(1024, 65536)
    user = chance.choice(["root", "postgres", "www-data", "ubuntu"])
    said = [
        f"Failed password for {user} from {address} port {port} ssh2",
        f"Failed password for {user} from {address} port {port} ssh2",
        f"Received disconnect from {address} port {port}:11: Bye Bye [preauth]",
        f"Connection closed by {address} port {port}",
    ]
    if number % 10 == 0:
        return f"{start} CRON[{number}]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"
    return f"{start} sshd[{number}]: {said[number % 4]}"


def nginx(chance: random.Random, number: int) -> str:
    """One line of an error log: half of them failures."""
    start = f"2026/02/{1 + number // 86400 % 28:02} {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
    end = f'client: {address_of(chance)}, server: example.org, request: "GET /admin/ HTTP/1.1", host: "example.org"'
    if number % 2:
        return f'{start} [error] 7#7: *{number} user "admin": password mismatch, {end}'
    return f'{start} [error] 7#7: *{number} open() "/srv/favicon.ico" failed (2: No such file or directory), {end}'


def postfix(chance: random.Random, number: int) -> str:
    """One line of a mail server: a third of them failures."""
    start = f"Feb {1 + number // 86400 % 28:2} {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} host"
    peer = f"unknown[{address_of(chance)}]"
    said = [
        f"connect from {peer}",
        f"warning: {peer}: SASL LOGIN authentication failed: UGFzc3dvcmQ6",
        f"disconnect from {peer} ehlo=1 auth=0/1 quit=1 commands=2/3",
    ]
    return f"{start} postfix/smtpd[{number}]: {said[number % 3]}"


def address_of(chance: random.Random) -> str:
    return ".".join(str(chance.randrange(1, 255)) for _ in range(4))


LINES = {LogFormat.SSHD: sshd, LogFormat.NGINX: nginx, LogFormat.POSTFIX: postfix}


def logs(lines: int, rounds: int) -> Iterator[Log]:
    """Have both read the same."""
    for name, line in LINES.items():
        chance = random.Random(str(name))
        text = [line(chance, number) + "\n" for number in range(lines)]
        ours, failures = our_rate([each.encode() for each in text], name, rounds)
        with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
            file.writelines(text)
            file.flush()
            theirs, found = their_rate(FILTERS[name], file.name, rounds)
        ours = max(ours, our_rate([each.encode() for each in text], name, rounds)[0])  # what disturbs one disturbs both
        if found != failures:
            print(f"{name}: Markway finds {failures:,} failures, fail2ban {found:,}", file=sys.stderr)
        yield Log(name, lines, failures, ours, theirs if found == failures else None)


def our_rate(lines: list[bytes], name: LogFormat, rounds: int) -> tuple[float, int]:
    found = 0

    def read() -> int:
        nonlocal found
        log = Reader(LogSource(name), UTC, time.time())
        found = sum(log.line(line) is not None for line in lines)
        return len(lines)

    return 1 / best(rounds, read), found


def their_rate(name: str, path: str, rounds: int) -> tuple[float, int]:
    said = subprocess.run(
        ["/usr/bin/python3", "-c", THEIRS, name, path, str(rounds)], check=True, capture_output=True, text=True
    ).stdout
    rate, found = json.loads(said)
    return float(rate), int(found)


def attempts(number: int, rounds: int) -> Iterator[Attempts]:
    """Count what comes from everywhere, from a few, and from those who are banned."""
    guard = Guard("ssh")
    patient = Guard("ssh", windows=tuple(Window(each.count, each.seconds / 1e6) for each in guard.windows))
    spoofed = [each.to_bytes(4, "big") for each in range(number)]
    wide = [(each << 64).to_bytes(16, "big") for each in range(number)]
    few = spoofed[:1000] * (number // 1000)
    for name, whose, keys in (
        ("spoofed IPv4, each once", guard, spoofed),
        ("spoofed IPv6, each once", guard, wide),
        ("a thousand sources", patient, few),
        ("a thousand banned sources", guard, few),
    ):
        rate = 1 / best(rounds, lambda whose=whose, keys=keys: counted(whose, keys))  # type: ignore[misc]
        tracemalloc.start()
        counted(whose, keys[: number // 4])
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        yield Attempts(name, rate, memory, memory_bound(whose))


def counted(guard: Guard, keys: list[bytes]) -> int:
    attempt, now = Windows(guard).attempt, 0.0
    for key in keys:
        now += 1e-5
        attempt(key, now)
    return len(keys)


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    made = Table(*columns, title=title)
    for column in made.columns[1:]:
        column.justify = "right"
    for row in rows:
        made.add_row(*row)
    return made


def verdict(figure: float, aim: float) -> str:
    return "pass" if figure >= aim else f"short by {1 - figure / aim:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guard_logs", description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not FAIL2BAN.is_dir() or not shutil.which("fail2ban-regex"):
        sys.exit("missing fail2ban: apt install fail2ban")
    read = list(logs(options.lines, options.rounds))
    counts = list(attempts(options.attempts, options.rounds))
    if options.json:
        print(
            json.dumps({"logs": [asdict(log) for log in read], "attempts": [asdict(one) for one in counts]}, indent=1)
        )
        return
    console = Console(width=120)
    console.print(table(
        f"Reading logs: lines per second on one core (aim: {AIM_LOGS:g} times fail2ban)",
        ("log", "lines", "failures", "Markway", "fail2ban", "times", ""),
        [
            (
                log.name, f"{log.lines:,}", f"{log.failures:,}", f"{log.markway:,.0f}", f"{log.fail2ban or 0:,.0f}",
                f"{log.times or 0:.1f}", verdict(log.times or 0, AIM_LOGS),
            )
            for log in read
        ],
    ))  # fmt: skip
    console.print(table(
        f"Counting attempts in four windows: per second on one core (aim: {AIM_ATTEMPTS:,})",
        ("sources", "attempts/s", "memory", "its bound", ""),
        [
            (
                one.name, f"{one.rate:,.0f}", f"{one.memory / 1e6:.1f} MB", f"{one.bound / 1e6:.0f} MB",
                verdict(one.rate, AIM_ATTEMPTS),
            )
            for one in counts
        ],
    ))  # fmt: skip


if __name__ == "__main__":
    main()
