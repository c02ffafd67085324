"""Targets, sources and the few bytes of HTTP that the lab's clients speak."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import count, repeat
from random import randrange
from typing import TYPE_CHECKING

from markway.lab.tally import AnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = b"markway\n"
"""What is sent in a datagram."""

_FIRST_PORT, _LAST_PORT = 1024, 65535
_PORTS = _LAST_PORT - _FIRST_PORT + 1
_numbers = count(randrange(_PORTS))  # noqa: S311 - it spreads clients and keeps no secret
_MOST_SOURCES = 1 << 16


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to."""

    host: str
    port: int
    family: socket.AddressFamily

    def __str__(self) -> str:
        """As written: 192.0.2.1:80 or [2001:db8::1]:80."""
        return f"[{self.host}]:{self.port}" if self.family == socket.AF_INET6 else f"{self.host}:{self.port}"


def parse_target(text: str) -> Target:
    """Read ADDRESS:PORT or [ADDRESS]:PORT; ValueError says what is wrong. No names: a lab has no DNS."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) <= _LAST_PORT:
        raise ValueError(f'"{text}": a target is written 192.0.2.1:80 or [2001:db8::1]:80')
    bare = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    return Target(str(ip_address(bare)), int(port), family)


def source_addresses(text: str | None) -> Iterator[str | None]:
    """Endless source addresses: one, or those of a network by turns; None lets the kernel choose."""
    if text is None:
        return repeat(None)
    network = ip_network(text)
    usable = min(network.num_addresses - 1, _MOST_SOURCES)
    if not usable:
        return repeat(str(network.network_address))
    return (str(network[1 + number % usable]) for number in count())


def source_ports() -> Iterator[int]:
    """Endless local ports, in a process none twice in 64,000: each is a new flow for everyone on its way.

    Left to the kernel, two labs whose addresses are alike would make each other's TCP clients go back to ports that
    they have just used: the namespaces share where the search begins (table_perturb in net/ipv4/inet_hashtables.c).
    """
    return (_FIRST_PORT + number % _PORTS for number in _numbers)


def open_tcp(target: Target, source: str | None, ports: Iterator[int]) -> socket.socket:
    """A non-blocking socket on its way from the next free local port; OSError when it cannot even start."""
    opened = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _bind_next(opened, source or "", ports)
        with suppress(BlockingIOError):  # connecting; epoll tells when it is done
            opened.connect((target.host, target.port))
    except BaseException:
        opened.close()
        raise
    return opened


def open_udp(target: Target, source: str | None, ports: Iterator[int]) -> socket.socket:
    """A non-blocking socket on the next free local port, connected so that ICMP errors reach us."""
    opened = socket.socket(target.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _bind_next(opened, source or "", ports)
        opened.connect((target.host, target.port))
    except BaseException:
        opened.close()
        raise
    return opened


def http_request(target: Target, path: str, *, keep: bool) -> bytes:
    """A GET; with `keep` the connection stays open after the answer."""
    connection = "keep-alive" if keep else "close"
    return f"GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: {connection}\r\n\r\n".encode()


def http_length(received: bytes) -> int | None:
    """The length in bytes of the first whole answer in `received`; None if more must come."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    _, found, rest = received[:end].lower().partition(b"content-length:")
    length = int(rest.partition(b"\r\n")[0]) if found else 0
    whole = end + 4 + length
    return whole if len(received) >= whole else None


def http_answer(received: bytes) -> str:
    """The body of an answer of status 200, stripped; AnswerError for any other or half an answer."""
    if not received:
        raise AnswerError("closed", "the connection was closed without an answer")
    head, end, body = received.partition(b"\r\n\r\n")
    if not end or http_length(received) is None:
        raise AnswerError("closed", "the connection was closed within the answer")
    status = head.partition(b"\r\n")[0].decode(errors="replace")
    if " 200" not in status:
        raise AnswerError("status", status)
    return body.decode(errors="replace").strip()


def _bind_next(opened: socket.socket, source: str, ports: Iterator[int]) -> None:
    for _ in range(_LAST_PORT):
        try:
            opened.bind((source, next(ports)))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise OSError(errno.EADDRINUSE, "every local port is in use")
