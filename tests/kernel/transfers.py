"""Bulk TCP transfers between hosts, and how fast they are: bytes that arrived, by the time of their arrival.

Every transfer has a thread that sends, blocked most of the time, and one that receives: in virtual time too.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

GOODPUT = 1448 / 1514
"""What a class counts is Ethernet, IPv4 and TCP with timestamps; what arrives is this much of it."""
_RESET = struct.pack("ii", 1, 0)
_CHUNK = bytes(16_384)


@dataclass(frozen=True, slots=True)
class Path:
    """Where a connection goes: from one namespace to an address of another. `mark` is set on the server's packets."""

    client: str
    server: str
    address: str
    port: int
    mark: int = 0


class Transfer:
    """A connection whose server (or, with `upload`, client) sends all it can until the `with` block ends.

    `buffer` bounds what the sender has under way, so that a slow class forgets it soon.
    """

    def __init__(self, path: Path, *, upload: bool = False, buffer: int = 32_768) -> None:
        self.arrived = 0
        self.at = 0.0
        """When the last of it arrived."""
        self.error = ""
        client, server = _connected(path, buffer)
        self._ends = (client, server)
        sender, receiver = (client, server) if upload else (server, client)
        self._threads = [
            threading.Thread(target=self._send, args=(sender,), daemon=True),
            threading.Thread(target=self._receive, args=(receiver,), daemon=True),
        ]

    def _send(self, opened: socket.socket) -> None:
        try:
            while True:
                opened.sendall(_CHUNK)
        except OSError as error:
            self.error = self.error or str(error)

    def _receive(self, opened: socket.socket) -> None:
        with suppress(OSError):
            while got := opened.recv(262_144):
                self.at = time.monotonic()
                self.arrived += len(got)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in self._ends:  # what is queued is of no use any more
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    @property
    def alive(self) -> bool:
        """Whether it still sends."""
        return not self.error


def rates(transfers: Iterable[Transfer], seconds: float, settle: float = 0.5) -> list[float]:
    """Bits per second of each, from one arrival `settle` seconds from now to the last of `seconds` later."""
    transfers = list(transfers)
    time.sleep(settle)
    before = [(each.arrived, each.at) for each in transfers]
    time.sleep(seconds)
    after = [(each.arrived, each.at) for each in transfers]
    return [
        8 * (arrived - first) / (at - began) if at > began else 0.0
        for (first, began), (arrived, at) in zip(before, after, strict=True)
    ]


def _connected(path: Path, buffer: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection."""
    family = socket.AF_INET6 if ":" in path.address else socket.AF_INET
    with ExitStack() as left:
        with netns.enter(path.server):
            listener = left.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((path.address, path.port))
            listener.listen(1)
        with netns.enter(path.client):
            client = socket.socket(family)
        for opened in (listener, client):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        if path.mark:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, path.mark)
        client.settimeout(20)
        listener.settimeout(20)
        client.connect((path.address, path.port))
        server, _ = listener.accept()
        client.settimeout(None)
        server.settimeout(None)
        if path.mark:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, path.mark)
    return client, server
