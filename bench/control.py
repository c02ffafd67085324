"""The control plane: from a file to the kernel, and one weight changed among many services."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.contenders import Contender, Markway, TooSlowError
from bench.topology import Namespace, namespace
from markway.apply.transaction import messages, swift
from markway.compiler import compile_config
from markway.config.load import load_text
from markway.kernel import table
from markway.kernel.netlink import Netlink
from markway.marks import Registry
from markway.program.diff import diff

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


def change(markway: Markway, case: Case, rounds: int, tell: Callable[[str], None]) -> Changing:
    """Change one weight there and back among all services, inside one process."""
    found = Changing()
    with namespace("control") as director:
        markway.install(director, case)
        with director.inside(), Netlink() as netlink:
            running = Running(markway, case, netlink)
            running.set_weight(2)  # fills caches
            running.set_weight(1)
            for turn in range(rounds):
                tell(f"one weight in {case.size}: change {turn + 1} of {rounds}")
                whole, kernel = running.set_weight(2 - turn % 2)
                found.whole.append(whole * 1e3)
                found.kernel.append(kernel * 1e3)
    return found


class Running:
    """A process that holds a configuration in force, as `markway run` does."""

    def __init__(self, markway: Markway, case: Case, netlink: Netlink) -> None:
        self._netlink = netlink
        self._now = compile_config(load_text(markway.configuration(case)).config, Registry())
        if table.program_id(netlink) != self._now.program.id:
            raise RuntimeError("the kernel holds another program than this case's")

    def set_weight(self, weight: int) -> tuple[float, float]:
        """Give the first backend of the middle service a weight: compile, compare, write.

        Returns the seconds of all of it, and of the kernel's step.
        """
        begin = time.perf_counter()
        services = list(self._now.config.services)
        middle = len(services) // 2
        first, *others = services[middle].backends
        services[middle] = replace(services[middle], backends=(replace(first, weight=weight), *others))
        config = replace(self._now.config, services=tuple(services))
        compiled = compile_config(config, self._now.registry, self._now)
        changes = diff(self._now.program, compiled.program)
        if not swift(changes):
            raise RuntimeError("one weight is no change for netlink")
        batch = list(messages(changes, self._now.program.id))
        ready = time.perf_counter()
        self._netlink.transaction(batch)
        end = time.perf_counter()
        self._now = compiled
        return end - begin, end - ready
