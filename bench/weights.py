"""`python -m bench.weights`: how long a changed weight takes from the daemon's decision to the kernel.

Services with a check and a load, as one, a thousand and ten thousand of them, in a namespace of its own. Each change is
the daemon's: compiled, compared, logged, written, verified (`markway.director.enforcer`), in one process with what it
keeps in memory. The kernel's step is the netlink transaction alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from markway.apply.store import Store
from markway.config.load import load_text
from markway.director.enforcer import Enforcer
from markway.kernel import netns
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.kernel.netlink import Message

SIZES = (1, 1_000, 10_000)
CHANGES = 200
BACKENDS = 4


def configuration(services: int) -> str:
    """So many services with a check, four backends each."""
    texts = []
    for number in range(services):
        texts.append(
            f'[service.s{number}]\nlisten = "10.1.{number >> 8}.{number & 255}:80"\ncheck = {{ tcp = true }}\n'
        )
        texts += (
            f'backend.{name} = {{ address = "10.{2 + at}.{number >> 8}.{number & 255}:80" }}\n'
            for at, name in enumerate("abcd")
        )
    return "".join(texts)


class _Timed(Netlink):
    """Knows how long its last transaction took."""

    spent = 0.0

    def transaction(self, messages: Sequence[Message]) -> None:
        begun = time.perf_counter()
        super().transaction(messages)
        self.spent = time.perf_counter() - begun


def measure(services: int, changes: int) -> dict[str, float]:
    """Milliseconds of a change: median and 99th percentile of all of it, median of the kernel's step."""
    with TemporaryDirectory() as folder:
        enforcer = Enforcer(Store(Path(folder), lazy=True))
        enforcer._netlink.close()  # noqa: SLF001 - the same, with a watch
        netlink = enforcer._netlink = _Timed()  # noqa: SLF001
        enforcer.take_over()
        enforcer.apply(load_text(configuration(services)), {}, "bench")
        gc.collect()
        gc.freeze()
        whole, kernel = [], []
        for turn in range(changes + 1):
            weights = dict.fromkeys("abcd", 100) | {"a": (0, 30, 60, 100)[turn // services % 4]}
            begun = time.perf_counter()
            enforcer.reweigh({f"s{turn % services}": weights})
            whole.append((time.perf_counter() - begun) * 1e3)
            kernel.append(netlink.spent * 1e3)
        enforcer.close()
        gc.unfreeze()
    return {
        "services": services,
        "whole_ms": median(whole[1:]),
        "whole_p99_ms": quantiles(whole[1:], n=100)[98],
        "kernel_ms": median(kernel[1:]),
    }


def main() -> int:
    """Measure each size in a namespace of its own."""
    parser = argparse.ArgumentParser(prog="python -m bench.weights", description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for services in SIZES:
        print(f"weights: {services:,} services", file=sys.stderr)
        space = f"mwbench-weights-{os.getpid()}"
        netns.create([space])
        try:
            with netns.enter(space):
                rows.append(measure(services, options.changes))
        finally:
            netns.delete([space])
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print("services   one weight, ms   99th percentile   the kernel's step")
    for row in rows:
        figures = (row["whole_ms"], row["whole_p99_ms"], row["kernel_ms"])
        print(f"{row['services']:>8,}   {figures[0]:>14.2f}   {figures[1]:>15.2f}   {figures[2]:>17.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
