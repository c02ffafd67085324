"""SMTP (RFC 5321): the greeting, EHLO and QUIT."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from markway.director.checks.link import WELL, Link, Unwell, connect, port_of, said

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target

_IPV6 = 6


async def ask(check: Check, target: Target) -> Outcome:
    """The server must greet with 220 and answer EHLO with 250. It is left with QUIT, so that it logs no lost client."""
    with await connect(target, port_of(check, target)) as link:
        await _reply(link, b"220")
        await link.send(f"EHLO {_own_name(link)}\r\n".encode())
        await _reply(link, b"250")
        with suppress(OSError, Unwell):  # it is well, whatever its farewell
            await link.send(b"QUIT\r\n")
            await _reply(link, b"221")
    return WELL


def _own_name(link: Link) -> str:
    """Our address, as one who has no name gives it (RFC 5321, 4.1.3)."""
    address = ip_address(link.socket.getsockname()[0].partition("%")[0])
    return f"[IPv6:{address}]" if address.version == _IPV6 else f"[{address}]"


async def _reply(link: Link, code: bytes) -> None:
    """Read a reply of any number of lines (RFC 5321, 4.2.1); Unwell if its code is another."""
    while True:
        line = await link.until(b"\n")
        if not line[:3].isdigit():
            raise Unwell(f"not SMTP: {said(line)}")
        if line[:3] != code:
            raise Unwell(f"SMTP {said(line)}")
        if line[3:4] != b"-":
            return
