"""A connection to a backend that is asked: non-blocking sockets, waited for one step at a time.

Streams of asyncio would do the same with a transport, a protocol, a reader and a writer for each of some thousand
connections a second; a socket and the loop take a third of that.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Self

from markway.director.model import Outcome

if TYPE_CHECKING:
    from types import TracebackType

    from markway.config.model import Check
    from markway.director.model import Target

WELL = Outcome(well=True, took=0.0)
LONGEST = 65_536
"""Bytes of an answer that are looked at."""

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python 3.12 has it
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_SAID = 120  # letters of what a backend said that are repeated


class Unwell(Exception):  # noqa: N818 - a finding, which becomes an Outcome
    """The backend is not well; the text says why in a few words."""


def plain(error: OSError) -> str:
    """Say what the system says of an error: `connection refused`."""
    text = error.strerror or str(error) or type(error).__name__
    if text[1:2].islower():
        text = text[0].lower() + text[1:]
    return f"{error.filename}: {text}" if error.filename else text


def said(answer: bytes) -> str:
    """An answer's first line, made fit to be printed."""
    text = answer.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_SAID])


def port_of(check: Check, target: Target) -> int:
    """The port to ask: the check's own, or the backend's; Unwell if there is none."""
    port = check.port or target.port
    if port is None:
        raise Unwell("there is no port to ask")
    return port


def open_socket(target: Target, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    """A non-blocking socket of the backend's family, bound to the address that it is to see. OSError as usual."""
    family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        if kind != socket.SOCK_STREAM:  # ICMP's word that nobody is there ends the wait
            if family == socket.AF_INET:
                opened.setsockopt(socket.SOL_IP, _IP_RECVERR, 1)
            else:
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        if target.source is not None:
            if kind == socket.SOCK_STREAM:  # a port need only be free towards this backend, as ip(7) says
                opened.setsockopt(socket.SOL_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            opened.bind((str(target.source), 0))
    except BaseException:
        opened.close()
        raise
    return opened


async def connect(target: Target, port: int) -> Link:
    """A TCP connection; OSError if there comes none."""
    opened = open_socket(target, socket.SOCK_STREAM)
    try:
        await _reach(opened, (str(target.address), port))
    except BaseException:
        opened.close()
        raise
    return Link(opened)


async def _reach(opened: socket.socket, peer: tuple[str, int]) -> None:
    code = opened.connect_ex(peer)
    if code == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        descriptor = opened.fileno()
        loop.add_writer(descriptor, _tell, ready)
        try:
            await ready
        finally:
            loop.remove_writer(descriptor)
        code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Link:
    """A connection whose answers are read by line and by length. Leave its `with` block to close it.

    It is closed in order, with a FIN, as a client that has got what it wanted does. A reset (HAProxy's way, unless
    its `linger` is asked for) would spare us a TIME_WAIT, but servers log and count it as an error.
    """

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.buffer = b""
        """What has come and was not taken yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self) -> bytes:
        """What comes next; empty at the end."""
        return await asyncio.get_running_loop().sock_recv(self.socket, LONGEST)

    async def more(self) -> bool:
        """Wait until more is in the buffer; False if there comes no more."""
        data = await self.receive()
        self.buffer += data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        """Take everything up to a mark, and the mark; Unwell if it is not in the first 64 KiB."""
        while (at := self.buffer.find(mark)) < 0:
            if len(self.buffer) >= LONGEST:
                raise Unwell("an answer without end")
            if not await self.more():
                raise Unwell("connection closed without an answer" if not self.buffer else "connection closed early")
        at += len(mark)
        taken, self.buffer = self.buffer[:at], self.buffer[at:]
        return taken

    async def exactly(self, count: int) -> bytes:
        """Take so many bytes; Unwell if the connection ends before."""
        if count > LONGEST:
            raise Unwell("an answer without end")
        while len(self.buffer) < count:
            if not await self.more():
                raise Unwell("connection closed without an answer" if not self.buffer else "connection closed early")
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    async def rest(self) -> bytes:
        """Take everything to the end, or its first 64 KiB."""
        while len(self.buffer) < LONGEST and await self.more():
            pass
        taken, self.buffer = self.buffer[:LONGEST], b""
        return taken
