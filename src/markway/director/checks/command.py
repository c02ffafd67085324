"""An operator's own program: its exit status says whether the backend is well."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from markway.director.checks.link import WELL, Unwell, said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.model import Check
    from markway.director.model import Outcome, Target

_KEPT = 4096  # bytes at the end of the output
_OURS = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"}  # systemd's, for the daemon


async def ask(check: Check, target: Target) -> Outcome:
    """Run the program; exit status 0 is well, and else the last line of its output says why."""
    status, output = await run(check.command, target, check.port or target.port)
    if status == 0:
        return WELL
    lines = output.strip().splitlines()
    if lines:
        raise Unwell(said(lines[-1]))
    raise Unwell(f"exit status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}")


async def run(argv: Sequence[str], target: Target, port: int | None) -> tuple[int, bytes]:
    """Run a program about a backend; its exit status (-N if signal N ended it) and the last 4 KiB of its output.

    It finds the backend in its environment. It leads a process group of its own, which is killed when the caller is
    cancelled: what it started does not outlive the check. OSError if it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=_environment(target, port),
        cwd="/",
        start_new_session=True,
    )
    output = b""
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while data := await process.stdout.read(_KEPT):
            output = (output + data)[-_KEPT:]
        return await process.wait(), output
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise


def _environment(target: Target, port: int | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return kept | {
        "MARKWAY_SERVICE": target.service,
        "MARKWAY_BACKEND": target.backend,
        "MARKWAY_ADDRESS": str(target.address),
        "MARKWAY_PORT": str(port or ""),
    }
