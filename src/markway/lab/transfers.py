"""Bulk transfers between hosts, and how fast they are: bytes that arrived, by the time of their arrival.

Every transfer has a thread that sends, blocked most of the time, and one that receives: so it goes in virtual time too.
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

    from markway.lab.lab import Lab

GOODPUT = 1448 / 1514
"""How much arrives of what a device counts: TCP with timestamps (RFC 7323) over IPv4 in full Ethernet frames."""

_RESET = struct.pack("ii", 1, 0)  # struct linger: close without a farewell
_CHUNK = bytes(16_384)
_PATIENCE = 30.0  # for a connection through a full queue


@dataclass(frozen=True, slots=True)
class Path:
    """A connection to be: between which namespaces, to which address and port, and from which address.

    `mark` is what the server's socket puts on its packets (SO_MARK in socket(7)).
    """

    client: str
    server: str
    address: str
    port: int
    source: str = ""
    mark: int = 0

    def connect(
        self, kind: socket.SocketKind = socket.SOCK_STREAM, buffer: int = 0
    ) -> tuple[socket.socket, socket.socket]:
        """The client's and the server's socket, connected; `buffer` bounds what each has under way. OSError."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with ExitStack() as unless_connected:
            with netns.enter(self.server):
                listener = unless_connected.enter_context(socket.socket(family, kind))
            with netns.enter(self.client):
                client = unless_connected.enter_context(socket.socket(family, kind))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.address, self.port))
            if self.source:
                client.bind((self.source, 0))
            for opened in (listener, client):
                opened.settimeout(_PATIENCE)
                if buffer:
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            if self.mark:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            server = self._met(listener, client)
            if self.mark:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            for opened in (client, server):
                opened.settimeout(None)
            unless_connected.pop_all()
        if server is not listener:
            listener.close()
        return client, server

    def _met(self, listener: socket.socket, client: socket.socket) -> socket.socket:
        if listener.type == socket.SOCK_STREAM:
            listener.listen(1)
        client.connect((self.address, self.port))
        return listener.accept()[0] if listener.type == socket.SOCK_STREAM else listener


class Transfer:
    """A TCP connection whose server (or, with `upload`, client) sends all it can until the `with` block ends.

    `buffer` bounds what the sender has under way, so that a slow class is soon done with it.
    """

    def __init__(self, path: Path, *, upload: bool = False, buffer: int = 32_768) -> None:
        self.arrived = 0
        self.at = 0.0
        """When the last of it arrived."""
        self.error = ""
        """Why it sends no more."""
        self._ends = path.connect(buffer=buffer)
        sender, receiver = self._ends if upload else reversed(self._ends)
        self._threads = [
            threading.Thread(target=self._send, args=(sender,), daemon=True),
            threading.Thread(target=self._receive, args=(receiver,), daemon=True),
        ]

    def _send(self, opened: socket.socket) -> None:
        try:
            while True:
                opened.sendall(_CHUNK)
        except OSError as error:
            self.error = str(error)

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


def single_packets(lab: Lab) -> None:
    """Let the hosts of a lab send single packets, as TCP does through slow links to hosts far away.

    To a host microseconds away it sends 64 kB at a time (tcp_tso_autosize in net/ipv4/tcp_output.c). At 200 kbit/s that
    is 2.6 seconds, during which others wait and no rate can be told.
    """
    for host in lab.topology.hosts:
        lines = [f"link set {device.name} gso_max_segs 1" for device in host.devices]
        netns.ip(lab.host(host.name).namespace, lines)


def rates(transfers: Iterable[Transfer], seconds: float, settle: float = 0.5) -> list[float]:
    """Bits per second of each: from an arrival about `settle` seconds from now to the last of `seconds` later."""
    transfers = list(transfers)
    time.sleep(settle)
    before = [(each.arrived, each.at) for each in transfers]
    time.sleep(seconds)
    after = [(each.arrived, each.at) for each in transfers]
    return [
        8 * (arrived - first) / (at - began) if at > began else 0.0
        for (first, began), (arrived, at) in zip(before, after, strict=True)
    ]
