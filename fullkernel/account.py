"""What ran where: the records of several runs (see tests/conftest.py) read together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_NAMES = {"machine": "the machine's kernel", "uml": "user-mode Linux", "debian": "Debian's kernel in qemu"}


def left_over(record: Path) -> list[str]:
    """The tests that a run had to leave to another kernel."""
    return sorted(json.loads(record.read_text())["left"])


def report(records: Iterable[Path]) -> int:
    """Print what ran where; 1 if a test failed, or ran nowhere."""
    runs = [json.loads(path.read_text()) for path in records]
    outcomes: dict[str, dict[str, str]] = {}
    reasons: dict[str, list[str]] = {}
    for run in runs:
        for test, outcome in run["ran"].items():
            outcomes.setdefault(test, {})[run["kernel"]] = outcome
        for test, reason in run["left"].items():
            outcomes.setdefault(test, {})
            reasons.setdefault(test, []).append(f"{_NAMES[run['kernel']]}: {reason}")
    for line in _lines(runs, outcomes):
        print(line)
    nowhere = [test for test, where in outcomes.items() if not set(where.values()) - {"skipped"}]
    for test in sorted(nowhere):
        print(f"  ran nowhere: {test} ({'; '.join(reasons.get(test, ['skipped']))})")
    failed = [test for test, where in outcomes.items() if "failed" in where.values()]
    return 1 if nowhere or failed else 0


def _lines(runs: list[dict[str, Any]], outcomes: dict[str, dict[str, str]]) -> Iterable[str]:
    """The account in words."""
    for run in runs:
        counts = {what: list(run["ran"].values()).count(what) for what in ("passed", "failed", "skipped")}
        said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        left = f"; {len(run['left'])} left to another kernel" if run["left"] else ""
        where = f"{_NAMES[run['kernel']]} ({run['release']}{', virtual time' if run['virtual_time'] else ''})"
        yield f"{said or 'nothing'} in {where} in {run['seconds']:.0f} s{left}"
    places: dict[tuple[str, ...], int] = {}
    for by_kernel in outcomes.values():
        ran = tuple(sorted(kernel for kernel, outcome in by_kernel.items() if outcome != "skipped"))
        places[ran] = places.get(ran, 0) + 1
    parts = [
        f"{number} {'only in' if len(kernels) == 1 else 'in'} {' and '.join(_NAMES[k] for k in kernels) or 'none'}"
        for kernels, number in sorted(places.items(), key=lambda item: -item[1])
    ]
    yield f"{len(outcomes)} tests: {'; '.join(parts)}"
