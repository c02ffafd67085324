"""Make many real connections and count who answered.

`python -m markway.lab.client 192.0.2.10:80 --count 1000` prints one line of JSON (see `Tally`).
Run it in a client of a lab: `markway lab exec client1 -- python -m markway.lab.client ...`.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from markway.lab.exchange import (
    QUESTION,
    Target,
    http_answer,
    http_request,
    open_tcp,
    open_udp,
    parse_target,
    source_addresses,
    source_ports,
)
from markway.lab.tally import AnswerError, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
_DEFAULTS = {"count": 100, "concurrency": 64, "timeout": 5.0, "limit": 60.0, "every": 1.0}


def fetch_many(
    target: str,
    count: int,
    *,
    udp: bool = False,
    concurrency: int = 64,
    source: str | None = None,
    rate: float | None = None,
    timeout: float = 5.0,
    limit: float = 60.0,
    path: str = "/",
    progress: Callable[[Tally], None] | None = None,
    every: float = 0.1,
    until: int | None = None,
) -> Tally:
    """Make `count` connections to ADDRESS:PORT, one question on each, and count the answers.

    TCP: connect, GET with `Connection: close`, read to the end. UDP: a datagram, each from a new port.
    At most `concurrency` at once and `rate` new ones a second; each has `timeout` seconds, all together
    have `limit`. `source` is an address, or a network whose addresses are used by turns. Sockets are
    opened in the calling thread's network namespace. `progress` is called with the tally so far, each
    `every` seconds. When the file descriptor `until` becomes readable, or closes, no more are started.
    ValueError when target or source cannot be read.
    """
    load = _Load(parse_target(target), udp, source, timeout, path)
    if progress:
        load.report, load.every = progress, every
    if until is not None:
        load.end_with(until)
    return load.run(count, max(1, concurrency), rate, limit)


class _Exchange:
    """One connection and one question."""

    __slots__ = ("connected", "received", "socket", "started")

    def __init__(self, opened: socket.socket, started: float) -> None:
        self.socket = opened
        self.started = started
        self.connected = False
        self.received = b""


class _Load:
    """The running exchanges of one `fetch_many`, by their sockets' numbers."""

    def __init__(self, target: Target, udp: bool, source: str | None, timeout: float, path: str) -> None:
        self.target = target
        self.udp = udp
        self.sources = source_addresses(source)
        self.ports = source_ports()
        self.timeout = timeout
        self.request = http_request(target, path, keep=False)
        self.tally = Tally()
        self.latencies: list[float] = []
        self.open: dict[int, _Exchange] = {}
        self.ages: deque[tuple[float, int, _Exchange]] = deque()  # oldest first: all have one timeout
        self.poll = select.epoll()
        self.report: Callable[[Tally], None] | None = None
        self.every = 0.0
        self.until: int | None = None
        self.ended = False  # by `until`

    def end_with(self, descriptor: int) -> None:
        """Start no more once there is something to read there."""
        self.until = descriptor
        self.poll.register(descriptor, select.EPOLLIN)

    def run(self, count: int, concurrency: int, rate: float | None, limit: float) -> Tally:
        begun = time.monotonic()
        now = begun
        due_report = begun + self.every
        tally = self.tally
        while (self.open or tally.connections < count) and now < begun + limit:
            if self.ended:
                count = tally.connections
            if self.report and now >= due_report:
                tally.seconds = round(now - begun, 6)
                self.report(tally)
                due_report = now + self.every
            due = count if rate is None else min(count, 1 + int((now - begun) * rate))
            while tally.connections < due and len(self.open) < concurrency:
                self._begin()
            waiting = tally.connections < count and len(self.open) < concurrency
            # Woken by the next start, the oldest exchange's timeout or the end, at the latest.
            ends = [begun + limit]
            if waiting and rate is not None:
                ends.append(begun + tally.connections / rate)
            if self.ages:
                ends.append(self.ages[0][0] + self.timeout)
            if self.report:
                ends.append(due_report)
            self._wait(max(0.0, min(ends) - now))
            now = time.monotonic()
            self._expire(now - self.timeout)
        self._expire(now + 1)  # the time is up for all that are left
        self.poll.close()
        tally.unstarted = count - tally.connections
        tally.seconds = round(now - begun, 6)
        tally.set_latencies(self.latencies)
        return tally

    def _begin(self) -> None:
        self.tally.connections += 1
        started = time.monotonic()
        try:
            if self.udp:
                opened = open_udp(self.target, next(self.sources), self.ports)
            else:
                opened = open_tcp(self.target, next(self.sources), self.ports)
        except OSError as error:
            self.tally.fail(error)
            return
        number = opened.fileno()
        exchange = _Exchange(opened, started)
        self.open[number] = exchange
        self.ages.append((started, number, exchange))
        self.poll.register(number, _EVENTS)

    def _wait(self, seconds: float) -> None:
        for number, events in self.poll.poll(seconds):
            if number == self.until:
                self.poll.unregister(number)
                self.ended = True
                continue
            exchange = self.open[number]
            try:
                answer = self._progress(exchange, events)
            except (OSError, AnswerError) as error:
                self._end(number)
                self.tally.fail(error)
            else:
                if answer is not None:
                    self._end(number)
                    self.tally.answers[answer] += 1

    def _progress(self, exchange: _Exchange, events: int) -> str | None:
        """Take an exchange as far as it goes now; its answer when it is complete."""
        opened = exchange.socket
        if not exchange.connected:
            if events & (select.EPOLLERR | select.EPOLLHUP):
                code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                raise OSError(code, os.strerror(code))
            exchange.connected = True
            if not self.udp:
                self.latencies.append(time.monotonic() - exchange.started)
            opened.send(QUESTION if self.udp else self.request)
        if not events & (select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP):
            return None
        try:
            while True:
                received = opened.recv(65536)
                if self.udp:
                    self.latencies.append(time.monotonic() - exchange.started)
                    return received.decode(errors="replace").strip()
                if not received:
                    return http_answer(exchange.received)
                exchange.received += received
        except BlockingIOError:
            return None

    def _expire(self, before: float) -> None:
        """Fail what began before that time, and forget what has ended."""
        while self.ages and (self.ages[0][0] < before or self.ages[0][2] is not self.open.get(self.ages[0][1])):
            _, number, exchange = self.ages.popleft()
            if self.open.get(number) is exchange:
                stage = "no answer" if exchange.connected else "not connected"
                self._end(number)
                self.tally.fail(TimeoutError(f"{stage} after {self.timeout:g} s"))

    def _end(self, number: int) -> None:
        self.open.pop(number).socket.close()  # epoll forgets it with its last descriptor


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 if all were answered, 1 if not, 2 if misused."""
    options = _parser().parse_args(argv)
    try:
        return _hold(options) if options.hold else _fetch(options)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _hold(options: argparse.Namespace) -> int:
    from markway.lab.hold import hold  # noqa: PLC0415 - only then

    return hold(
        options.target,
        options.count,
        udp=options.udp,
        source=options.source,
        timeout=options.timeout,
        limit=options.limit,
        every=options.every,
    )


def _fetch(options: argparse.Namespace) -> int:
    tally = fetch_many(
        options.target,
        options.count,
        udp=options.udp,
        concurrency=options.concurrency,
        source=options.source,
        rate=options.rate,
        timeout=options.timeout,
        limit=options.limit,
        path=options.path,
        progress=None if options.progress is None else _print,
        every=options.progress or 0.0,
        until=sys.stdin.fileno() if options.until_eof else None,
    )
    _print(tally)
    return 1 if tally.failed or tally.unstarted else 0


def _print(tally: Tally) -> None:
    sys.stdout.write(tally.to_json() + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m markway.lab.client", description="Make many real connections and count who answered."
    )
    parser.set_defaults(**_DEFAULTS)
    parser.add_argument("target", help="192.0.2.10:80 or [2001:db8::10]:80")
    parser.add_argument("-n", "--count", type=int, help="connections to make (%(default)s)")
    parser.add_argument("-c", "--concurrency", type=int, help="at most so many at once (%(default)s)")
    parser.add_argument("--rate", type=float, help="at most so many new connections per second (no limit)")
    parser.add_argument("--udp", action="store_true", help="datagrams, each from a new port, instead of HTTP")
    parser.add_argument("--source", help="connect from this address, or by turns from those of this network")
    parser.add_argument("--path", default="/", help="what to GET (%(default)s)")
    parser.add_argument("--timeout", type=float, help="seconds for one connection (%(default)s)")
    parser.add_argument("--progress", type=float, metavar="SECONDS", help="print the tally so far, so often")
    parser.add_argument("--until-eof", action="store_true", help="start no more once stdin, a pipe, closes")
    parser.add_argument("--limit", type=float, help="seconds for all together (%(default)s)")
    parser.add_argument(
        "--hold",
        action="store_true",
        help="keep the connections open and ask on each again and again, until stdin closes; "
        "a line on stdin makes it print a report",
    )
    parser.add_argument("--every", type=float, help="with --hold: seconds between questions (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
