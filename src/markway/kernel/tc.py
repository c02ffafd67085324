"""Carries out steps of plumbing by tc(8), ip(8) and sysctl(8), and takes them back."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from markway.kernel import batch
from markway.kernel.held import u32_table
from markway.kernel.rtnetlink import Rtnetlink
from markway.program.steps import Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.program.plumbing import Origin
    from markway.program.steps import Step

_SETTINGS = Path("/proc/sys")
_REMOVED = re.compile(r"filter del dev (\S+) parent (\S+) protocol \S+ pref (\d+) handle ::([0-9a-f]+) u32")

_SOON_FREE = "in-use filter"
"""The kernel lets go of a hash table of u32 some time after the filter that led to it (u32_delete_key)."""

_PAUSE, _PATIENCE = 0.005, 2.0


class RefusedError(Exception):
    """The kernel refused a step; what was done before it is taken back.

    `origin` is the key of the file that asked for it. `left` says what could not be taken back, if anything.
    """

    def __init__(self, reason: str, origin: Origin, left: str = "") -> None:
        super().__init__(reason)
        self.reason, self.origin, self.left = reason, origin, left


def perform(steps: Sequence[Step]) -> list[Command]:
    """Carry out steps in their order.

    Returns:
        What takes them back, in the order in which it has to be done.

    Raises:
        RefusedError: the kernel refused one; all is as it was.
    """
    undo: list[Command] = []
    for (tool, _), group in groupby(steps, key=lambda step: (step.command.tool, step.command.lenient)):
        members = list(group)
        try:
            undo[:0] = _one_by_one(members) if tool == "sysctl" else _together(members)
        except RefusedError as error:
            raise RefusedError(error.reason, error.origin, take_back([*_undone(error), *undo])) from error
    return undo


class _HalfError(RefusedError):
    """A batch was refused at some line; `undo` takes those before it back."""

    def __init__(self, reason: str, origin: Origin, undo: list[Command]) -> None:
        super().__init__(reason, origin)
        self.undo = undo


def _undone(error: RefusedError) -> list[Command]:
    return error.undo if isinstance(error, _HalfError) else []


def _together(steps: list[Step]) -> list[Command]:
    try:
        _run(steps[0].command.tool, _lines(step.command for step in steps))
    except batch.BatchError as error:
        if steps[0].command.lenient:
            return []
        if error.line is None and len(steps) > 1:
            return _each(steps)  # the tool ended without a word on which line was wrong
        line = error.line or 0
        raise _HalfError(str(error), steps[line].origin, _reversed(steps[:line])) from error
    return _reversed(steps)


def _each(steps: list[Step]) -> list[Command]:
    """Carry out what a tool may have done a part of, one line at a time; what is there already is no fault."""
    take_back(_reversed(steps))
    undo: list[Command] = []
    for step in steps:
        try:
            undo[:0] = _together([step])
        except RefusedError as error:
            raise _HalfError(error.reason, error.origin, undo) from error
    return undo


def _one_by_one(steps: list[Step]) -> list[Command]:
    undo: list[Command] = []
    for step in steps:
        path, _, value = step.command.text.partition("=")
        try:
            before = (_SETTINGS / path).read_text().strip()
            _write(path, value)
            now = (_SETTINGS / path).read_text().strip()
        except OSError as error:
            raise _HalfError(f"{path} = {value}: {error.strerror}", step.origin, undo) from error
        undo.insert(0, Command("sysctl", f"{path}={before}"))
        if now != value:
            raise _HalfError(f"{path} = {value}: the kernel makes {now} of it", step.origin, undo)
    return undo


def _write(path: str, value: str) -> None:
    (_SETTINGS / path).write_text(value)


def take_back(undo: Iterable[Command]) -> str:
    """Carry out what `perform` returned, all that can be; what could not, in words."""
    said: list[str] = []
    for (tool, lenient), group in groupby(undo, key=lambda command: (command.tool, command.lenient)):
        commands = list(group)
        if tool == "sysctl":
            for command in commands:
                path, _, value = command.text.partition("=")
                with suppress(OSError):
                    _write(path, value)
            continue
        lines = _lines(commands)
        while lines:
            try:
                _run(tool, lines)
            except batch.BatchError as error:
                said += [] if lenient else [str(error)]
                lines = lines[(error.line or 0) + 1 :]
            else:
                break
    return "; ".join(said)


def _run(tool: str, lines: list[str]) -> None:
    """Carry lines out; wait for what the kernel does a moment after it said that it was done."""
    begin, patience = 0, _PATIENCE
    while True:
        try:
            batch.run(tool, lines[begin:])
        except batch.BatchError as error:
            if error.line is not None:
                begin, error.line = begin + error.line, begin + error.line
            if _SOON_FREE not in error.reason or patience <= 0:
                raise
            time.sleep(_PAUSE)
            patience -= _PAUSE
        else:
            return


def _reversed(steps: Sequence[Step]) -> list[Command]:
    return [command for step in reversed(steps) for command in step.undo]


def _lines(commands: Iterable[Command]) -> list[str]:
    """The lines of a batch. A u32 filter is removed only by the number of its hash table (u32_get)."""
    texts = [command.text for command in commands]
    if not any(_REMOVED.match(text) for text in texts):
        return texts
    with Rtnetlink() as netlink:
        return list(_resolved(texts, netlink))


def _resolved(texts: Iterable[str], netlink: Rtnetlink) -> Iterator[str]:
    tables: dict[tuple[str, str, int], int | None] = {}
    for text in texts:
        found = _REMOVED.match(text)
        if found is None:
            yield text
            continue
        place = found[1], found[2], int(found[3])
        if place not in tables:
            tables[place] = u32_table(netlink, *place)
        table = tables[place]
        yield text if table is None else text.replace("handle ::", f"handle {table:x}::")
