"""The log's entries: each a program as a change of the one before it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from markway.program.model import Fragment, Program
from markway.program.plumbing import part_of

if TYPE_CHECKING:
    from markway.program.plumbing import Part


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: how a program came to be, and which fragments it changed."""

    id: str
    at: float
    """Seconds since the epoch."""
    why: str
    changed: dict[str, Any]
    """Fragment records by owner; None for an owner that left."""
    config: str = ""
    """The configuration that the program is of, as `keep_config` names it; empty for none."""
    before: str = ""
    """The configuration before this one."""
    end: int = 0
    """Where its line ends in the file, in bytes."""


def program_at(entries: list[Entry], index: int) -> Program:
    """The program that was in force after this entry of the log."""
    records: dict[str, Any] = {}
    for entry in entries[: index + 1]:
        records |= entry.changed
    return Program({owner: Fragment.from_record(record) for owner, record in records.items() if record})


def beside(entries: list[Entry], index: int) -> list[Part]:
    """What the programs before and after this one want beside the table and it does not: a kill may have left it."""
    own = _plumbing(entries, index)
    found: list[Part] = []
    for other in (index - 1, index + 1):
        if 0 <= other < len(entries):
            for owner, records in _plumbing(entries, other).items():
                wanted = own.get(owner, [])
                found += [part_of(record) for record in records if record not in wanted] if records != wanted else []
    return found


def _plumbing(entries: list[Entry], index: int) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in entries[: index + 1]:
        for owner, record in entry.changed.items():
            found[owner] = record.get("plumbing", []) if record else []
    return found


def position(entries: list[Entry], program: str | None) -> int | None:
    """Where the program in force stands in the log; None if it is not there."""
    found = (index for index in range(len(entries) - 1, -1, -1) if entries[index].id == program)
    return next(found, None)


def compacted(entries: list[Entry]) -> str:
    """A long log as two lines: the program before the last one whole, and what made it the last.

    Both, for whoever is killed before the kernel has the last one.
    """
    records: dict[str, Any] = {}
    for entry in entries[:-1]:
        records |= entry.changed
    whole = {owner: record for owner, record in records.items() if record}
    before, last = (asdict(entry) for entry in entries[-2:])
    return "".join(
        json.dumps(_without_end({**one, "changed": changed})) + "\n"
        for one, changed in ((before, whole), (last, last["changed"]))
    )


def _without_end(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "end"}
