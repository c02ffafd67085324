"""How long a question and its answer take, asked at a steady pace whatever becomes of those before."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.lab.transfers import Path

_NUMBER = 4  # bytes that begin a question
_PATIENCE = 10.0  # seconds for the last answers


class RoundTrips:
    """Questions of `size` bytes that the server echoes: datagrams, as of DNS, or in one TCP connection, as of ssh."""

    def __init__(self, path: Path, *, udp: bool = False, size: int = 48) -> None:
        self._size = size
        self._udp = udp
        self._client, self._server = path.connect(socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self._sent: list[float] = []
        self._took: list[float] = []
        self._all = threading.Event()
        if not udp:
            for end in (self._client, self._server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, count: int, every: float) -> list[float]:
        """Ask `count` times, one question each `every` seconds: the seconds that each took, infinite if unanswered."""
        self._took = [math.inf] * count
        threads = [threading.Thread(target=work, daemon=True) for work in (self._echo, self._listen)]
        for thread in threads:
            thread.start()
        try:
            begun = time.monotonic()
            for number in range(count):
                time.sleep(max(0.0, begun + number * every - time.monotonic()))
                self._sent.append(time.monotonic())
                self._client.send(number.to_bytes(_NUMBER, "big").ljust(self._size, b"."))
            self._all.wait(_PATIENCE)
        finally:
            self._end(threads)
        return self._took

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who reads there, of a datagram socket too
        for thread in threads:
            thread.join()
        for end in (self._client, self._server):
            end.close()

    def _echo(self) -> None:
        with suppress(OSError):
            while True:
                said, peer = self._server.recvfrom(4096)
                if not said:
                    return
                if self._udp:
                    self._server.sendto(said, peer)
                else:
                    self._server.sendall(said)

    def _listen(self) -> None:
        left = len(self._took)
        with suppress(OSError):
            while left and (said := self._client.recv(self._size, 0 if self._udp else socket.MSG_WAITALL)):
                number = int.from_bytes(said[:_NUMBER], "big")
                self._took[number] = time.monotonic() - self._sent[number]
                left -= 1
        if not left:
            self._all.set()


def ask_all(trips: Sequence[RoundTrips], count: int, every: float) -> list[list[float]]:
    """Ask on all of them at once; see `RoundTrips.ask`."""
    found: list[list[float]] = [[] for _ in trips]

    def work(place: int) -> None:
        found[place] = trips[place].ask(count, every)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(trips))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def percentile(took: Sequence[float], share: float) -> float:
    """The time that this share of them did not exceed; `share` is 0 to 1."""
    return sorted(took)[max(0, math.ceil(share * len(took)) - 1)]
