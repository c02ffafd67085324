"""Where in the files a key stands, for what turns out only later: in the compiler, or in the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.positions import scan
from markway.config.problems import Problem, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.load import Source
    from markway.config.problems import Path


def problem_at(sources: Sequence[Source], path: Path, message: str, suggestion: str | None = None) -> Problem:
    """What is wrong at a key, or at the nearest table around it, of the file that has most of the way to it."""
    if not sources:
        return Problem("the configuration", 1, 1, show(path), message, suggestion)
    scanned = [scan(source.data.decode(errors="replace").removeprefix("\ufeff")) for source in sources]
    known = [max((n for n in range(len(path) + 1) if path[:n] in each.offsets), default=0) for each in scanned]
    best = max(range(len(sources)), key=lambda index: known[index])
    line, column = scanned[best].find(path)
    return Problem(sources[best].name, line, column, show(path), message, suggestion)
