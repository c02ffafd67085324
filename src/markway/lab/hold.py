"""Open connections, keep them open, and ask on each again and again: whose breaks, whose changes its server?

A program: `Place.hold` and `python -m markway.lab.client --hold` start it. It ends when its stdin closes
or its time is up; for each line on stdin, and at its end, it prints a `Held` as one line of JSON, which
speaks of a whole round: every open connection was asked after the line came, and has answered.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from markway.lab.exchange import (
    QUESTION,
    Target,
    http_answer,
    http_length,
    http_request,
    open_tcp,
    open_udp,
    parse_target,
    source_addresses,
    source_ports,
)
from markway.lab.tally import AnswerError, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

_STDIN = 0
_BATCH = 256  # connections opened, or asked, at once: no server's buffer overflows


@dataclass(slots=True)
class Held:
    """How the held connections fare.

    `open` are alive of `count`; `answers` counts the open ones by their last answer; `moved` were
    answered by more than one server; `failures` counts the broken by kind, `first` is what the first of
    each kind said; `questions` is the number of questions answered in all.
    """

    count: int
    open: int = 0
    moved: int = 0
    questions: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Held:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class _Line:
    """One held connection."""

    __slots__ = ("answer", "moved", "received", "socket")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.received = b""
        self.answer: str | None = None
        self.moved = False


def hold(target: str, count: int, *, udp: bool, source: str | None, timeout: float, limit: float, every: float) -> int:
    """Hold `count` connections, ask on all every `every` seconds; report as the module says.

    A connection that does not open or answer within `timeout` seconds is broken. After `limit` seconds
    all is over. Returns the exit status: 0 if none broke.
    """
    end = time.monotonic() + limit
    holder = _Holder(parse_target(target), count, udp, timeout)
    holder.connect(source)
    asked, listening = True, True  # the first round is always reported: all are open
    while listening and time.monotonic() < end:
        holder.ask()
        if asked:
            _print(holder.report())
        asked, listening = _next_line(min(every, max(0.0, end - time.monotonic())))
    _print(holder.report())
    return 0 if len(holder.lines) == count else 1


class _Holder:
    """The open connections, by their sockets' numbers."""

    def __init__(self, target: Target, count: int, udp: bool, timeout: float) -> None:
        self.target = target
        self.udp = udp
        self.timeout = timeout
        self.question = QUESTION if udp else http_request(target, "/", keep=True)
        self.held = Held(count)
        self.tally = Tally()
        self.lines: dict[int, _Line] = {}

    def connect(self, source: str | None) -> None:
        sources, ports = source_addresses(source), source_ports()
        for _ in range(0, self.held.count, _BATCH):
            fresh: list[int] = []
            for _ in range(min(_BATCH, self.held.count - self.tally.connections)):
                self.tally.connections += 1
                try:
                    own = next(sources)
                    opened = open_udp(self.target, own, ports) if self.udp else open_tcp(self.target, own, ports)
                except OSError as error:
                    self.tally.fail(error)
                else:
                    self.lines[opened.fileno()] = _Line(opened)
                    fresh.append(opened.fileno())
            self._await(fresh, select.EPOLLOUT, self._connected)

    def ask(self) -> None:
        """One question on every connection, and its answer."""
        numbers = list(self.lines)
        for first in range(0, len(numbers), _BATCH):
            asked = []
            for number in numbers[first : first + _BATCH]:
                try:
                    self.lines[number].socket.send(self.question)
                except OSError as error:
                    self._break(number, error)
                else:
                    asked.append(number)
            self._await(asked, select.EPOLLIN, self._read)

    def report(self) -> Held:
        held = self.held
        held.open = len(self.lines)
        held.moved = sum(line.moved for line in self.lines.values())
        held.answers = dict(Counter(line.answer for line in self.lines.values() if line.answer is not None))
        held.failures = {kind: failures.count for kind, failures in self.tally.failures.items()}
        held.first = {kind: failures.first for kind, failures in self.tally.failures.items()}
        return held

    def _await(self, numbers: list[int], event: int, step: Callable[[_Line], bool]) -> None:
        """Let `step` handle each connection's event until it says that it is done, or the time is up."""
        waiting = set(numbers)
        deadline = time.monotonic() + self.timeout
        with select.epoll() as poll:
            for number in numbers:
                poll.register(number, event)
            # When the time is up, what has come meanwhile still counts.
            while waiting and (events := poll.poll(max(0.0, deadline - time.monotonic()))):
                for number, _ in events:
                    try:
                        done = step(self.lines[number])
                    except (OSError, AnswerError) as error:
                        waiting.discard(number)
                        self._break(number, error)
                    else:
                        if done:
                            waiting.discard(number)
                            poll.unregister(number)
        for number in waiting:
            self._break(number, TimeoutError(f"no answer after {self.timeout:g} s"))

    def _connected(self, line: _Line) -> bool:
        code = line.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        return True

    def _read(self, line: _Line) -> bool:
        received = line.socket.recv(65536)
        if self.udp:
            answer = received.decode(errors="replace").strip()
        else:
            line.received += received
            if received and http_length(line.received) is None:
                return False
            answer = http_answer(line.received)
        line.received = b""
        line.moved |= line.answer not in {None, answer}
        line.answer = answer
        self.held.questions += 1
        return True

    def _break(self, number: int, error: Exception) -> None:
        self.tally.fail(error)
        self.lines.pop(number).socket.close()


def _next_line(seconds: float) -> tuple[bool, bool]:
    """Wait for stdin: whether lines came, and whether more can come."""
    if not select.select([_STDIN], [], [], seconds)[0]:
        return False, True
    read = os.read(_STDIN, 4096)
    return bool(read), bool(read)


def _print(held: Held) -> None:
    sys.stdout.write(held.to_json() + "\n")
    sys.stdout.flush()
