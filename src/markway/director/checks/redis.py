"""Redis: PING in its own protocol (RESP), after AUTH if there is a password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.director.checks.link import WELL, Link, Unwell, connect, port_of, said
from markway.director.checks.secret import password

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target


async def ask(check: Check, target: Target) -> Outcome:
    """The server must answer PONG. One that loads its data (-LOADING) or lost its master (-MASTERDOWN) does not."""
    secret = password(check.password_file)
    with await connect(target, port_of(check, target)) as link:
        if secret:
            await _command(link, b"+OK", "AUTH", secret)
        await _command(link, b"+PONG", "PING")
    return WELL


async def _command(link: Link, expected: bytes, *words: str) -> None:
    encoded = [word.encode() for word in words]
    parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    await link.send(b"*%d\r\n" % len(parts) + b"".join(parts))
    answer = await link.until(b"\r\n")
    if answer.rstrip() != expected:
        raise Unwell(f"Redis: {said(answer).removeprefix('-')}")
