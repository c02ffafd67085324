"""The bans and slowings that are written down, for a kernel that has forgotten them: `bans.json` in the state folder.

Who counts attempts writes it; commands only where nobody counts.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from markway.guard.windows import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FILE = "bans.json"


class Kept(NamedTuple):
    """A ban or a slowing: until when, in seconds since the epoch, and how many offences of the source so far."""

    until: float
    offences: int
    action: Action = Action.BAN


def read(file: Path) -> dict[str, dict[str, Kept]]:
    """Bans and slowings by guard and source; none if the file is not there, or broken."""
    try:
        found = json.loads(file.read_bytes())
        return {name: {text: _kept(*one) for text, one in held.items()} for name, held in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _kept(until: float, offences: int, action: str = Action.BAN) -> Kept:
    """As it was written down; who wrote no action knew of bans only."""
    return Kept(until, offences, Action(action))


def write(file: Path, held: Mapping[str, Mapping[str, Kept]]) -> None:
    """Replace the file whole. It is not flushed to the disk: bans are not worth a pause.

    Raises:
        OSError: it could not be written; the one before is still there.
    """
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(held))
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def amend(file: Path, guard: str, added: Mapping[str, float], removed: Iterable[str]) -> None:
    """Write down bans of a guard, each with its end in seconds since the epoch, and strike others out.

    Raises:
        OSError: it could not be written.
    """
    held = read(file)
    mine = held.get(guard, {}) | {source: Kept(until, 1) for source, until in added.items()}
    write(file, {**held, guard: {source: kept for source, kept in mine.items() if source not in {*removed}}})
