"""Asking a backend whether it is well: one module for each protocol.

Each has `async def ask(check, target) -> Outcome`, which raises Unwell or OSError where there is nothing more to say
than why, and knows nothing of time: how long it may take, and took, is measured here.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from errno import EMFILE, ENFILE, ENOMEM
from typing import TYPE_CHECKING

from markway.config.model import Check, CheckKind
from markway.director.checks import (
    agent,
    command,
    dns,
    http,
    mysql,
    ping,
    postgresql,
    redis,
    smtp,
    tcp,
    udp,
)
from markway.director.checks.link import Unwell, plain
from markway.director.model import Outcome, Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["ask"]

_WAYS: dict[CheckKind, Callable[[Check, Target], Awaitable[Outcome]]] = {
    CheckKind.TCP: tcp.ask,
    CheckKind.UDP: udp.ask,
    CheckKind.HTTP: http.ask,
    CheckKind.HTTPS: http.ask,
    CheckKind.DNS: dns.ask,
    CheckKind.PING: ping.ask,
    CheckKind.SMTP: smtp.ask,
    CheckKind.MYSQL: mysql.ask,
    CheckKind.POSTGRESQL: postgresql.ask,
    CheckKind.REDIS: redis.ask,
    CheckKind.COMMAND: command.ask,
    CheckKind.AGENT: agent.ask,
}


_OURS = {EMFILE, ENFILE, ENOMEM}


async def ask(check: Check, target: Target) -> Outcome:
    """Ask a backend once, for `check.timeout` seconds at most. Raises nothing but the caller's own cancellation."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    try:
        async with asyncio.timeout(check.timeout):
            outcome = await _WAYS[check.kind](check, target)
    except TimeoutError:  # the kernel's own ETIMEDOUT as well
        outcome = Outcome(well=False, took=0.0, reason=f"no answer in {check.timeout:g} s")
    except Unwell as why:
        outcome = Outcome(well=False, took=0.0, reason=str(why))
    except OSError as error:
        outcome = Outcome(well=False, took=0.0, reason=plain(error), ours=error.errno in _OURS)
    except Exception as error:  # noqa: BLE001 - what a stranger sends must not end the daemon
        outcome = Outcome(well=False, took=0.0, reason=f"not understood: {type(error).__name__}: {error}")
    return replace(outcome, took=clock() - begun)
