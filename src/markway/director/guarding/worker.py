"""The process that counts first packets, and slows or bans who makes too many.

One thread: a packet that waits is a client.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from markway.apply.bans import read, write
from markway.director.guarding.room import Room
from markway.director.guarding.state import guard_from
from markway.director.queueing.packet import TCP, ends
from markway.director.queueing.worker import Daemon, depend_on_daemon
from markway.kernel.netlink import Netlink
from markway.kernel.queue import DROP, PacketQueue

if TYPE_CHECKING:
    from pathlib import Path

    from markway.apply.bans import Kept
    from markway.config.guarding import Guard
    from markway.director.guarding.room import News

BEAT = 0.1
"""Seconds between two looks at what the daemon says."""

_REPORT = 0.5

_LOOK = 1.0
"""Seconds between two looks at whom the kernel has banned, at least; and `_SHARE` times what one takes."""

_SHARE = 20
_WRITE = 5.0
_MOST_NEWS = 200
"""News that one report holds; more in so short a time are only counted."""

_WAITING = 1024
"""First packets that may wait: a burst, or what comes while the sets are looked at. Longer, a flood makes all wait."""


class Counting:
    """All guards, and which of them a packet is for."""

    def __init__(self, file: Path) -> None:
        """Begin without any; `file` is where bans are written down."""
        self._file = file
        self._netlink = Netlink()
        self._written: dict[str, dict[str, Kept]] = {}
        self.rooms: dict[str, Room] = {}
        self._found: dict[tuple[int, int], list[tuple[Room, bytes | None]]] = {}
        self.counted = self.refused = self.unread = 0
        self.news: list[dict[str, Any]] = []
        self.missed = 0

    def follow(self, records: list[dict[str, Any]]) -> None:
        """Take over the guards that are in force now; of those that are as before, the account goes on."""
        kept, now, epoch = read(self._file), time.monotonic(), time.time()
        before, self.rooms, self._found = self.rooms, {}, {}
        for guard in map(guard_from, records):
            room = before.get(guard.name)
            if room is None or room.guard != guard:
                room = Room(guard, self._netlink, partial(self._note, guard))
                room.restore(kept.get(guard.name, {}), now, epoch)
            self.rooms[guard.name] = room

    def decide(self, family: int, mark: int, data: bytearray, at: int, end: int) -> int:
        """Whether a first packet goes on: with its mark, or not at all. Must not fail."""
        found = ends(family, data, at, end)
        if found is None:
            self.unread += 1
            return mark
        self.counted += 1
        now, refused = time.monotonic(), False
        try:
            for room, address in self._at(found.protocol, found.destination_port):
                if address is None or address == found.destination:
                    refused |= room.attempt(found.source, now)
        except OSError:
            self.unread += 1
        self.refused += refused
        return DROP if refused else mark

    def _at(self, protocol: int, port: int) -> list[tuple[Room, bytes | None]]:
        found = self._found.get((protocol, port))
        if found is None:
            found = self._found[protocol, port] = [
                (room, one.address.packed if one.address else None)
                for room in self.rooms.values()
                for one in room.guard.listeners
                if (one.protocol == "tcp") == (protocol == TCP)
                and any(ports.first <= port <= ports.last for ports in one.ports)
            ]
        return found

    def failed(self, name: str, address: str, times: int, at: float) -> None:
        """Count failures from a log, of a time since the epoch."""
        if room := self.rooms.get(name):
            now = time.monotonic()
            room.failed(bytes.fromhex(address), times, now - (time.time() - at), now)

    def _note(self, guard: Guard, news: News) -> None:
        if len(self.news) >= _MOST_NEWS:
            self.missed += 1
            return
        window = str(news.window) if news.window else ""
        self.news.append({"guard": guard.name, "source": str(news.source), "action": news.action,
                          "seconds": news.seconds, "window": window, "offences": news.offences})  # fmt: skip

    def look(self) -> None:
        """See whom the kernel has banned or slowed."""
        now = time.monotonic()
        for room in self.rooms.values():
            room.look(now)

    def write(self) -> None:
        """Write down who is banned or slowed, if that has changed."""
        now, epoch = time.monotonic(), time.time()
        record = {name: kept for name, room in self.rooms.items() if (kept := room.kept(now, epoch))}
        if _moved(self._written, record):
            self._written = record
            with suppress(OSError):  # the disk may be full
                write(self._file, record)


def _moved(before: dict[str, dict[str, Kept]], now: dict[str, dict[str, Kept]]) -> bool:
    """Whether others are held, or the same for longer or otherwise; a time that is read twice differs by a bit."""
    if before.keys() != now.keys() or any(before[name].keys() != held.keys() for name, held in now.items()):
        return True
    pairs = ((before[name][text], one) for name, held in now.items() for text, one in held.items())
    return any(abs(old.until - new.until) > 1 or old[1:] != new[1:] for old, new in pairs)


class Worker:
    """Everything that the process holds."""

    def __init__(self, daemon: Daemon, number: int, file: Path) -> None:
        self._daemon = daemon
        self._number = number
        self._counting = Counting(file)
        self._queue: PacketQueue | None = None
        self._beaten = self._looked = self._wrote = self._reported = 0.0
        self._pause = _LOOK
        self._begun = False
        self._deaf = ""
        """Why no connection can be seen; empty if they can, or nobody wants to."""

    def run(self) -> None:
        """Answer until the daemon is gone."""
        while self._keep_time(time.monotonic()):
            if self._queue is None:
                self._daemon.wait(BEAT)
                self._beaten = 0.0
            elif came := self._queue.receive(wait=True):
                self._queue.answer(came, self._counting.decide)

    def _keep_time(self, now: float) -> bool:
        """What is done ten times a second; False once the daemon is gone."""
        if now < self._beaten + BEAT:
            return True
        self._beaten = now
        messages = self._daemon.messages()
        for message in messages or ():
            self._take(message)
        if self._begun and now > self._looked + self._pause:
            self._counting.look()
            self._looked = time.monotonic()
            self._pause = max(_LOOK, _SHARE * (self._looked - now))
            if now > self._wrote + _WRITE or messages is None:
                self._wrote = now
                self._counting.write()
        if now > self._reported + _REPORT:
            self._reported = now
            self._report()
        return messages is not None

    def _take(self, message: dict[str, Any]) -> None:
        if "guards" in message:
            self._counting.follow(message["guards"])
            self._looked = 0.0
            self._open()
            self._begun = True
        for name, address, times, at in message.get("failures", ()):
            self._counting.failed(name, address, times, at)

    def _open(self) -> None:
        """Take the queue, if a guard wants to see connections. A kernel without leaves logs to count."""
        wanted = any(room.guard.listeners for room in self._counting.rooms.values())
        if wanted and self._queue is None:
            try:
                self._queue, self._deaf = PacketQueue(self._number, _WAITING), ""
            except OSError as error:
                self._deaf = f"connections are not counted: {error.strerror or error}"

    def _report(self) -> None:
        counting = self._counting
        report: dict[str, Any] = {
            "counted": counting.counted, "refused": counting.refused, "unread": counting.unread,
            "missed": counting.missed, "news": counting.news, "ready": self._begun,
            "tallies": {name: [room.attempts, room.bans] for name, room in counting.rooms.items()},
            "problems": {name: room.problem for name, room in counting.rooms.items() if room.problem},
        }  # fmt: skip
        if self._deaf:
            report["problems"] = dict.fromkeys(counting.rooms, self._deaf) | report["problems"]
        if self._daemon.tell(report):
            for room in counting.rooms.values():
                room.attempts = room.bans = 0
            counting.news, counting.counted, counting.refused, counting.unread, counting.missed = [], 0, 0, 0, 0


def main(control: int, number: int, file: Path) -> None:
    """Be the counter.

    Args:
        control: the descriptor of a socket whose other end is the daemon's.
        number: of the queue.
        file: where bans are written down.
    """
    depend_on_daemon()
    Worker(Daemon(socket.socket(fileno=control)), number, file).run()
