"""The demo's act about guards: who tries too often is kept out, by the kernel alone once the daemon is dead."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from markway.lab.daemon import Daemon
from markway.lab.demo import facts

if TYPE_CHECKING:
    from pathlib import Path

    from markway.lab.demo.promises import Promises
    from markway.lab.demo.screen import Screen
    from markway.lab.lab import Lab

GUARD = """
[guard.web]
listen  = "service:web"
windows = "2 in 10s"
ban     = { until-quiet = "4s" }
"""
_QUIET = 4.0
_SOON = 0.9  # before a client asks again by itself, which is an attempt too
_PATIENCE = 20.0


def guarded(lab: Lab, file: Path, target: str, screen: Screen, promises: Promises) -> None:
    """Try it, in a lab where the file with GUARD is in force."""
    innocent, offender = lab.clients

    def tried() -> bool:
        return not offender.fetch(target, timeout=_SOON).failed

    daemon = Daemon(lab, file)
    try:
        daemon.wait("guard")
        answered = [tried() for _ in range(3)]
        daemon.wait("ban")
        screen.note(f"{offender.host.name} makes three connections, and the third gets no answer.")
        screen.command("markway bans", facts.markway(lab, "bans").splitlines())
    finally:
        daemon.end(signal.SIGKILL)
    still = tried()
    quiet = time.monotonic()
    served = not innocent.fetch(target, timeout=_PATIENCE).failed
    screen.note("The daemon is killed. The ban stays, and each attempt begins its time anew: the kernel sees to it.")
    freed = False
    while not freed and time.monotonic() < quiet + _PATIENCE:
        time.sleep(quiet + _QUIET + 0.5 - time.monotonic())
        freed, quiet = tried(), time.monotonic()
    screen.note(f"After {_QUIET:g} s without an attempt it is let in again, also without the daemon.")
    promises.guarded.judge(
        (*answered, still, served, freed) == (True, True, False, False, True, True),
        f"{_said(answered)}, {_said([still])} with the daemon dead, {_said([freed])} after {_QUIET:g} s of quiet; "
        f"{innocent.host.name} {_said([served])} meanwhile",
    )


def _said(answered: list[bool]) -> str:
    return ", ".join("answered" if one else "refused" for one in answered)
