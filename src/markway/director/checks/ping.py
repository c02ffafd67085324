"""ICMP and ICMPv6 echo (RFC 792, RFC 4443) on raw sockets, which need CAP_NET_RAW."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

from markway.director.checks.link import WELL, open_socket

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_ECHO4, _REPLY4 = 8, 0
_ECHO6, _REPLY6 = 128, 129
_IPV4 = 4


async def ask(check: Check, target: Target) -> Outcome:  # noqa: ARG001 - as all checks
    """Send one echo request; its reply must come."""
    await echo(target)
    return WELL


async def echo(target: Target) -> float:
    """How many seconds an echo took. Waits for ever; OSError for an ICMP error in its place."""
    version4 = target.address.version == _IPV4
    protocol = socket.IPPROTO_ICMP if version4 else socket.IPPROTO_ICMPV6
    token = os.urandom(16)  # tells our reply from those to others who ask this host
    asked = request(_ECHO4 if version4 else _ECHO6, token)
    expected = bytes([_REPLY4 if version4 else _REPLY6, 0])
    loop = asyncio.get_running_loop()
    with open_socket(target, socket.SOCK_RAW, protocol) as opened:
        # A raw socket hears every reply to this machine; a connected one hears only its peer's (raw(7)).
        opened.connect((str(target.address), 0))
        begun = loop.time()
        opened.send(asked)
        while True:
            answer = await loop.sock_recv(opened, 2048)
            if version4:
                answer = answer[(answer[0] & 0xF) * 4 :]  # its IP header comes along
            if answer[:2] == expected and answer[4:8] == asked[4:8] and answer[8:] == token:
                return loop.time() - begun


def request(kind: int, token: bytes) -> bytes:
    """An echo request; the kernel overwrites the checksum where it is ICMPv6's (RFC 3542, section 3.1)."""
    identifier = int.from_bytes(token[:2], "big")
    blank = _HEADER.pack(kind, 0, 0, identifier, 1) + token
    return _HEADER.pack(kind, 0, checksum(blank), identifier, 1) + token


def checksum(data: bytes) -> int:
    """The internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
