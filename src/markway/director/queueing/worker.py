"""The process that answers first packets.

One thread, no waiting but for the kernel: a packet that waits is a client that waits. What takes long (counting all
connections) is done in steps between batches.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import random
import select
import signal
import socket
import struct
import sys
import time
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING, Any

from markway.director.queueing.decide import Decisions
from markway.director.queueing.own import LOADING, install
from markway.director.queueing.stats import BOUNDS
from markway.kernel.conntrack_events import Census, Endings
from markway.kernel.queue import PacketQueue

if TYPE_CHECKING:
    from collections.abc import Callable

BEAT = 0.1
"""Seconds between signs of life."""

_REPORT = 1.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_PART = 20
"""Connections are counted again after this many times the time that it took, within these bounds, in seconds."""

_LARGEST = 1 << 20
_NOTE = struct.Struct("=I")
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

    def wait(self, seconds: float) -> None:
        """Return when it has something to say, or the time is up."""
        select.select([self._socket], [], [], seconds)

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

    def __init__(self, daemon: Daemon, number: int, calling: Callable[[int], None]) -> None:
        self._daemon = daemon
        self._number = number
        self._decisions = Decisions(random.random, time.monotonic, calling)
        self._queue: PacketQueue | None = None
        self._endings: Endings | None = None
        self._census: Census | None = None
        self._latency = [0] * (len(BOUNDS) + 1)
        self._verdicts = 0
        self._lost = 0
        self._beaten = self._reported = self._begun = 0.0
        self._counted = _LONG_AGO
        self._pause = _SHORTEST_PAUSE

    def run(self) -> None:
        """Answer until the daemon is gone."""
        while self._keep_time(time.monotonic()):
            if self._queue:
                self._answer(self._queue)
            elif not self._census:
                self._daemon.wait(BEAT)
                self._beaten = _LONG_AGO
            if self._census:
                self._count(self._census)

    def _answer(self, queue: PacketQueue) -> None:
        """Answer what waits. Connections that have ended are looked at behind that, and wake nobody."""
        came = queue.receive(wait=not self._census)
        if not came:
            return
        begun = time.perf_counter()
        answered = queue.answer(came, self._decisions.decide)
        took = time.perf_counter() - begun
        self._latency[bisect_left(BOUNDS, took)] += answered
        self._verdicts += answered
        self._drain(1)

    def _drain(self, batches: int) -> None:
        if self._endings is None:
            return
        for _ in range(batches):
            told = self._endings.serve(self._decisions.ended)
            if told < 0:
                self._lost += 1
                self._counted = _LONG_AGO  # count anew
            if told <= 0:
                return

    def _count(self, census: Census) -> None:
        counts = census.step()
        if counts is not None:
            took = time.monotonic() - self._begun
            self._pause = min(max(took * _PART, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            self._decisions.recounted(counts)
            self._end_census()
            if self._queue is None:
                self._queue = PacketQueue(self._number)

    def _end_census(self) -> None:
        if self._census:
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

    def _keep_time(self, now: float) -> bool:
        """What is done ten times a second; False once the daemon is gone."""
        if now < self._beaten + BEAT:
            return True
        self._beaten = now
        self._drain(_DRAINED)
        if not self._listen():
            return False
        if self._endings and not self._census and now > self._counted + self._pause:
            self._counted = self._begun = now
            self._census = Census(self._decisions.field)
        if self._queue is None:
            self._daemon.tell({"busy": LOADING})
        elif now < self._reported + _REPORT:
            self._daemon.tell({})
        elif self._daemon.tell(self._report()):
            self._reported = now
            self._forget()
        return True

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


def depend_on_daemon() -> None:
    """Leave the terminal's signal to the daemon, and end with it, also if this process hangs when it dies: prctl(2)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(control: int, note: int, number: int, policies: str) -> None:
    """Be the worker.

    Args:
        control: the descriptor of a socket whose other end is the daemon's.
        note: the descriptor of four octets that the daemon reads when this process has ended: the tag of the service
            whose policy was being called.
        number: of the queue.
        policies: the folder of the operator's modules.
    """
    sys.path.append(policies)
    depend_on_daemon()
    install()
    calling = partial(_NOTE.pack_into, mmap.mmap(note, _NOTE.size), 0)
    Worker(Daemon(socket.socket(fileno=control)), number, calling).run()
