"""UDP: a datagram there and one back."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from markway.director.checks.link import LONGEST, WELL, Unwell, open_socket, port_of, said

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target


async def ask(check: Check, target: Target) -> Outcome:
    """Send `check.send`; an answer must come, with `check.expect` in it. Port unreachable is "connection refused"."""
    with connected(target, port_of(check, target)) as opened:
        answer = await exchanged(opened, check.send)
    if check.expect not in answer:
        raise Unwell(f"unexpected answer: {said(answer)}")
    return WELL


def connected(target: Target, port: int) -> socket.socket:
    """A UDP socket that hears only this backend, and the ICMP errors about it."""
    opened = open_socket(target, socket.SOCK_DGRAM)
    try:
        opened.connect((str(target.address), port))
    except BaseException:
        opened.close()
        raise
    return opened


async def exchanged(opened: socket.socket, data: bytes) -> bytes:
    """Send a datagram and wait for one."""
    opened.send(data)  # one datagram always fits an empty buffer
    return await asyncio.get_running_loop().sock_recv(opened, LONGEST)
