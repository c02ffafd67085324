"""TCP: a connection, and what is said on it if the check says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.director.checks.link import LONGEST, WELL, Link, Unwell, connect, port_of, said

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target


async def ask(check: Check, target: Target) -> Outcome:
    """Connect; send `check.send`; `check.expect` must be in the first 64 KiB of the answer, however it is cut up."""
    with await connect(target, port_of(check, target)) as link:
        if check.send:
            await link.send(check.send)
        if check.expect:
            await _expect(link, check.expect)
    return WELL


async def _expect(link: Link, expected: bytes) -> None:
    while expected not in link.buffer:
        if len(link.buffer) >= LONGEST or not await link.more():
            raise Unwell(f"unexpected answer: {said(link.buffer)}" if link.buffer else "connection closed, no answer")
