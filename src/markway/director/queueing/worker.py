"""The process that answers first packets.

One thread, no waiting but for the kernel: a packet that waits is a client that waits. What takes long (counting all
connections) is done in steps between batches.
"""

from __future__ import annotations

import ctypes
import json
import random
import select
import signal
import socket
import sys
import time
from bisect import bisect_left
from typing import Any

from markway.director.queueing.decide import Decisions
from markway.director.queueing.own import LOADING, install
from markway.director.queueing.stats import BOUNDS
from markway.kernel.conntrack_events import Census, Endings
from markway.kernel.queue import PacketQueue

BEAT = 0.1
"""Seconds between signs of life."""

_REPORT = 1.0
_COUNTED = 10.0
_LARGEST = 1 << 20
_DRAINED = 64
_LONG_AGO = float("-inf")
_PR_SET_PDEATHSIG = 1


class Daemon:
    """The daemon's end: lines of JSON both ways. Nothing here waits for it."""

    def __init__(self, opened: socket.socket) -> None:
        opened.setblocking(False)
        self._socket = opened
        self._received = b""
        self._unsent = b""

    def fileno(self) -> int:
        """The descriptor, to be polled."""
        return self._socket.fileno()

    def messages(self) -> list[dict[str, Any]] | None:
        """What it has said by now; None if it is gone."""
        try:
            while received := self._socket.recv(_LARGEST):
                self._received += received
        except BlockingIOError:
            *lines, self._received = self._received.split(b"\n")
            return [json.loads(line) for line in lines]
        except OSError:
            pass
        return None

    def tell(self, message: dict[str, Any]) -> bool:
        """Say something, unless it does not listen: then False."""
        if not self._unsent:
            self._unsent = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        elif not self._flushed():
            return False
        else:
            return self.tell(message)
        self._flushed()
        return True

    def _flushed(self) -> bool:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        return not self._unsent


class Worker:
    """Everything that the process holds."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        self._daemon = daemon
        self._number = number
        self._decisions = Decisions(random.random, time.monotonic)
        self._poll = select.epoll()
        self._poll.register(daemon.fileno(), select.EPOLLIN)
        self._queue: PacketQueue | None = None
        self._endings: Endings | None = None
        self._census: Census | None = None
        self._latency = [0] * (len(BOUNDS) + 1)
        self._verdicts = 0
        self._lost = 0
        self._beaten = self._reported = 0.0
        self._counted = _LONG_AGO

    def run(self) -> None:
        """Answer until the daemon is gone."""
        while True:
            now = time.monotonic()
            self._keep_time(now)
            for number, _ in self._poll.poll(max(self._beaten + BEAT - now, 0.0)):
                if self._queue and number == self._queue.fileno():
                    self._answer(self._queue)
                elif self._census and number == self._census.fileno():
                    self._count(self._census)
                elif number == self._daemon.fileno() and not self._listen():
                    return

    def _answer(self, queue: PacketQueue) -> None:
        """Answer what waits. Connections that have ended are looked at before, and wake nobody."""
        begun = time.perf_counter()
        self._drain(1)
        answered = queue.serve(self._decisions.decide)
        took = time.perf_counter() - begun
        self._latency[bisect_left(BOUNDS, took)] += answered
        self._verdicts += answered

    def _drain(self, batches: int) -> None:
        if self._endings:
            for _ in range(batches):
                if self._endings.serve(self._decisions.ended):
                    continue
                self._lost += 1
                self._counted = _LONG_AGO  # count anew
                return

    def _count(self, census: Census) -> None:
        counts = census.step()
        if counts is not None:
            self._decisions.recounted(counts)
            self._end_census()
            if self._queue is None:
                self._queue = PacketQueue(self._number)
                self._poll.register(self._queue.fileno(), select.EPOLLIN)

    def _end_census(self) -> None:
        if self._census:
            self._poll.unregister(self._census.fileno())
            self._census.close()
            self._census = None

    def _listen(self) -> bool:
        messages = self._daemon.messages()
        for message in messages or ():
            self._daemon.tell({"busy": LOADING})
            field = self._decisions.field
            self._decisions.update(message)
            if self._decisions.field != field:
                self._open(self._decisions.field)
            self._counted = _LONG_AGO
        return messages is not None

    def _open(self, field: int) -> None:
        """Keep account of other marks. Answering begins once services are known and connections counted."""
        self._end_census()
        if self._endings:
            self._endings.close()
        self._endings = Endings(field)

    def _keep_time(self, now: float) -> None:
        if now < self._beaten + BEAT:
            return
        self._beaten = now
        self._drain(_DRAINED)
        if self._endings and not self._census and now > self._counted + _COUNTED:
            self._counted = now
            self._census = Census(self._decisions.field)
            self._poll.register(self._census.fileno(), select.EPOLLIN)
        if self._queue is None:
            self._daemon.tell({"busy": LOADING})
        elif now < self._reported + _REPORT:
            self._daemon.tell({})
        elif self._daemon.tell(self._report()):
            self._reported = now
            self._forget()

    def _report(self) -> dict[str, Any]:
        """What happened since the last report, and the connections that are open now."""
        services = {
            asked.name: {"decided": asked.decided, "undecided": asked.undecided, "said": asked.said}
            for asked in self._decisions.services.values()
            if asked.decided or asked.undecided
        }
        return {
            "verdicts": self._verdicts,
            "unknown": self._decisions.unknown,
            "lost": self._lost,
            "latency": self._latency,
            "services": services,
            "connections": self._decisions.connections,
        }

    def _forget(self) -> None:
        self._verdicts = self._lost = self._decisions.unknown = 0
        self._latency = [0] * len(self._latency)
        for asked in self._decisions.services.values():
            asked.decided = 0
            asked.undecided.clear()


def main(control: int, number: int, policies: str) -> None:
    """Be the worker.

    Args:
        control: the descriptor of a socket whose other end is the daemon's.
        number: of the queue.
        policies: the folder of the operator's modules.
    """
    sys.path.append(policies)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon's to decide
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also if this one hangs when the daemon dies
    install()
    Worker(Daemon(socket.socket(fileno=control)), number).run()
