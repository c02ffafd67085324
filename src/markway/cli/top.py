"""`markway top`: services, backends, shapes and classes as they are now, again and again."""

from __future__ import annotations

import gc
import os
import re
import select
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import fail, need_root, seconds, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from markway.cli.frame import Choice, Seen
    from markway.cli.pace import Pace

_STDIN = 0
_LOOK = 0.2
"""Seconds after which a screen of another size is noticed."""

_WIDE = 160
"""Columns where there is no terminal."""

_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b" ": "page down", b"\x1b[H": "first", b"g": "first",
    b"\x1b[F": "last", b"G": "last", b"s": "sort", b"\t": "turn", b"q": "quit", b"Q": "quit", b"\x03": "quit",
}  # fmt: skip
_ANY_KEY = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Keys: q quits, Tab turns to the shapes and back, s sorts by something else, arrows, PgUp and PgDn "
        "scroll. Figures a second are of the last 3 seconds, GOT is the share of the service's connections in the last "
        "10. A class's bar ends at its ceil; what is beyond its rate, │, is borrowed. Without the daemon, states, "
        "loads and checks are as they were last."
    )(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame, after one interval, and end.")] = False,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="How often to look.")] = "1s",
) -> None:
    """Show live what backends and classes do: state, shares, connections, bytes and bits a second, checks, loads."""
    from rich.console import Console

    from markway.cli.frame import Choice, frame, panes
    from markway.cli.pace import Pace

    pause = max(seconds(every), 0.1)
    need_root("top")
    gc.enable()
    console, pace = Console(highlight=False), Pace()
    if once:
        with told():
            _look(pace)
            time.sleep(pause)
            seen = _look(pace)
        width = console.width if console.is_terminal else _WIDE
        for pane in panes(seen.record):
            for line in frame(seen, Choice(pane=pane), width, None):
                console.print(line, no_wrap=True, soft_wrap=True)
        return
    if not console.is_terminal:
        fail("top needs a terminal; --once prints one frame anywhere", 2)
    with told():
        seen = _look(pace)
    _live(console, pace, seen, pause)


def _look(pace: Pace) -> Seen:
    from datetime import UTC, datetime

    from markway.cli.frame import Seen
    from markway.cli.status import taken

    record = taken()
    rates = pace.look(record, time.monotonic())
    at = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
    return Seen(record, rates, _events() if record["daemon"] else (), at)


def _events() -> list[dict[str, Any]]:
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.cli.ask import Daemon, NoDaemonError, RefusedError

    try:
        found: list[dict[str, Any]] = Daemon(Store(state_folder())).get("events?follow=false&last=5")
    except (NoDaemonError, RefusedError):
        return []
    return found


def _live(console: Console, pace: Pace, seen: Seen, pause: float) -> None:
    from rich.console import Group
    from rich.live import Live

    from markway.cli.frame import Choice, frame

    choice = Choice()
    due = time.monotonic() + pause
    with _cbreak(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            size = console.size
            live.update(Group(*frame(seen, choice, size.width, size.height)), refresh=True)
            while time.monotonic() < due and console.size == size:
                keys = _pressed(min(_LOOK, max(0.0, due - time.monotonic())))
                if "quit" in keys:
                    return
                moved = [_press(key, choice, size.height) for key in keys]
                if any(moved):
                    break
            if time.monotonic() >= due:
                seen = _look_again(pace, seen)
                due = time.monotonic() + pause


def _look_again(pace: Pace, before: Seen) -> Seen:
    """Another look; or the same as before with the reason why there is no other."""
    from dataclasses import replace

    from markway.apply.folder import StoreError
    from markway.kernel.netlink import NetlinkError

    try:
        return _look(pace)
    except (StoreError, NetlinkError) as error:
        return replace(before, problem=str(error))


def _press(key: str, choice: Choice, height: int) -> bool:
    """Do what a key is for; whether there is anything new to see."""
    page = max(1, height - 8)
    moves = {"up": -1, "down": 1, "page up": -page, "page down": page, "first": -choice.first, "last": sys.maxsize}
    if key in moves:
        choice.first = max(0, choice.first + moves[key])
    elif key == "sort":
        choice.sort_otherwise()
    elif key == "turn":
        choice.turn()
    return key in moves or key in {"sort", "turn"}


def _pressed(wait: float) -> list[str]:
    """The keys that mean anything, as soon as one is pressed; none after so many seconds."""
    if not os.isatty(_STDIN):
        time.sleep(wait)
        return []
    if not select.select([_STDIN], [], [], wait)[0]:
        return []
    typed = os.read(_STDIN, 256)
    if not typed:
        return ["quit"]  # the terminal is gone
    return [_KEYS[key] for key in _ANY_KEY.findall(typed) if key in _KEYS]


@contextmanager
def _cbreak() -> Iterator[None]:
    """Keys come one by one and are not shown; as it was, afterwards."""
    if not os.isatty(_STDIN):
        yield
        return
    before = termios.tcgetattr(_STDIN)
    tty.setcbreak(_STDIN)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
