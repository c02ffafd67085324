"""Waiting until backends are empty, with what is left of their connections before one's eyes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from markway.cli.common import fail
from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from markway.cli.operator import Emptying, Operator

_LOOK = 0.25
"""Seconds between two looks."""

_BAR = 30


def wait(operator: Operator, names: Sequence[str], *, as_json: bool) -> list[Emptying]:
    """Wait until each backend is empty or its deadline has come; how they ended.

    On a terminal a line for each is drawn again and again; elsewhere it is printed when it changes.
    """
    from rich.console import Console

    names = list(dict.fromkeys(names))
    console = Console(highlight=False, stderr=as_json)
    if console.is_terminal and not as_json:
        from rich.live import Live

        first: dict[str, int] = {}
        with Live(console=console, auto_refresh=False) as live:

            def draw(found: Sequence[Emptying]) -> None:
                for one in found:
                    first[one.name] = max(first.get(one.name, 0), one.left or 0)
                live.update(_drawn(found, first), refresh=True)

            return _followed(operator, names, draw)
    return _followed(operator, names, (lambda _: None) if as_json else _Lines())


def _followed(operator: Operator, names: list[str], show: Callable[[Sequence[Emptying]], None]) -> list[Emptying]:
    ended: dict[str, Emptying] = {}
    while True:
        found = operator.emptying([name for name in names if name not in ended])
        ended |= {one.name: one for one in found if one.ended}
        now = {one.name: one for one in found} | ended
        show([now[name] for name in names if name in now])
        if gone := [name for name in names if name not in now]:
            fail(f"{gone[0]} is not drained any more: somebody has enabled, disabled or removed it")
        if len(ended) == len(names):
            return [ended[name] for name in names]
        time.sleep(_LOOK)


class _Lines:
    """A line whenever a backend's figure is another one."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def __call__(self, found: Sequence[Emptying]) -> None:
        for one in found:
            said = _said(one)
            if one.left is not None and self._said.get(one.name) != said:
                self._said[one.name] = said
                print(f"{one.name}  {said}")
                sys.stdout.flush()


def _said(one: Emptying) -> str:
    left = count(one.left or 0, "connection")
    if not one.ended:
        return f"{left} left"
    if not one.left:
        return "empty"
    return f"{left} cut at the deadline" if one.cut else f"{left} left at the deadline"


def _drawn(found: Sequence[Emptying], first: dict[str, int]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for one in found:
        filled = round(_BAR * (one.left or 0) / first[one.name]) if first.get(one.name) else 0
        bar = Text("━" * filled, "yellow").append("─" * (_BAR - filled), "bright_black")
        style = "green" if one.ended and not one.left else "red" if one.ended else ""
        over = "" if one.ended or one.deadline_in is None else f"deadline in {one.deadline_in:.0f} s"
        said = "counting" if one.left is None else _said(one)
        table.add_row(Text(one.name, "bold"), bar, Text(said, style), Text(over, "dim"))
    return table
