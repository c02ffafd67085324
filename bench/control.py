"""The control plane: from a file to the kernel, and one weight changed among many services."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.contenders import Contender, Markway, Prototype, TooSlowError
from bench.prototype.ruleset import weight_change
from bench.topology import Namespace, namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.case import Case


@dataclass
class Loading:
    """Seconds from the text to the kernel, one figure per round, and who did not get there."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


@dataclass
class Changing:
    """Milliseconds for one weight, one figure per change: all of it, and the kernel's step alone."""

    whole: list[float] = field(default_factory=list)
    kernel: list[float] = field(default_factory=list)


def load(contenders: list[Contender], case: Case, rounds: int, within: float, tell: Callable[[str], None]) -> Loading:
    """Let each contender load the case into an empty namespace, in turn."""
    found = Loading()
    for turn in range(rounds):
        for contender in contenders:
            if contender.name in found.absent:
                continue
            tell(f"control {case.size}: round {turn + 1} of {rounds}, {contender.name}")
            with namespace("control") as director:
                try:
                    spent = _load_once(contender, director, case, within)
                except TooSlowError as slow:
                    found.absent[contender.name] = str(slow)
                else:
                    found.seconds.setdefault(contender.name, []).append(spent)
    return found


def _load_once(contender: Contender, director: Namespace, case: Case, within: float) -> float:
    if not isinstance(contender, Markway):
        begin = time.monotonic()
        contender.install(director, case, within)
        return time.monotonic() - begin
    with TemporaryDirectory(prefix="mwb-") as folder:  # the file is the operator's: written before the clock runs
        file = Path(folder, "markway.toml")
        file.write_text(contender.configuration(case))
        begin = time.monotonic()
        contender.apply(director, file, Path(folder, "state"), within)
        return time.monotonic() - begin


def change(contender: Contender, case: Case, rounds: int, tell: Callable[[str], None]) -> Changing:
    """Change one weight there and back among all services, inside a running process.

    The seam: a contender that can do it gives a function that takes the next case and returns the seconds
    (whole, kernel's step).
    """
    found = Changing()
    with namespace("control") as director:
        contender.install(director, case)
        step = _stepper(contender, director, case)
        step(case.heavier())  # fills caches
        step(case)
        for turn in range(rounds):
            tell(f"one weight in {case.size}: change {turn + 1} of {rounds}")
            whole, kernel = step(case.heavier() if turn % 2 == 0 else case)
            found.whole.append(whole * 1e3)
            found.kernel.append(kernel * 1e3)
    return found


def _stepper(contender: Contender, director: Namespace, case: Case) -> Callable[[Case], tuple[float, float]]:
    if not isinstance(contender, Prototype):
        raise NotImplementedError(f"{contender.name} has no function that changes one weight")  # Markway's goes here
    was = [case]

    def step(new: Case) -> tuple[float, float]:
        begin = time.monotonic()
        text = weight_change(was[0], new)
        written = time.monotonic()
        director.run("nft", "-f", "-", stdin=text)
        was[0] = new
        return time.monotonic() - begin, time.monotonic() - written

    return step


def middle(figures: list[float]) -> float:
    return statistics.median(figures)
