"""`python -m bench.datapath`: the data path by counted instructions, which no machine and no load disturbs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.report import LIMIT, RESULTS, table
from fullkernel import debian, guest, packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Costs = dict[str, dict[str, dict[str, float]]]  # instructions by size, contender and kind of packet

DOCS = Path(__file__).parent.parent / "docs" / "datapath.md"
KINDS = {"new": "A new connection", "later": "A later packet"}
BACKENDS = 4
SERVICES = (1, 100, 10_000)
_FOUND = "counted.json"
LIMIT_OF_RUN = 1800.0  # seconds of this machine's time; four times what a run takes on a busy one

INTRODUCTION = """# The data path, by counted instructions

Written by `make bench-datapath ARGS=--write-docs`. Debian's unmodified cloud kernel runs in qemu, whose clock counts
the guest's instructions (`-icount`): one is a nanosecond. So the figures are the same on every machine that has these
packages, however busy it is, and a change of one percent in the program or in the kernel's work shows.
[Benchmarks](benchmarks.md) has time.

An instruction is not time: a cache miss and a division cost nothing extra here. Large tables look cheaper than they
are, and the work of a real card and its driver is missing.

Packets are put on the director's device inside one system call and dropped where they leave it; what the generator
itself takes is subtracted. A *new connection* is its first packet. A *later packet* is the same one again, which its
connection already knows. Each figure is the median of three turns of 2,048 connections, after one that is not counted;
all of them came out on the servers' side. Services x backends; ratios to `routing` are in brackets.

* `routing`: a router that tracks connections and changes nothing, the limit for all but `ipvs`.
* `markway`: `markway apply` of a file with these services, mode dnat.
* `ipvs`: round robin and NAT. It keeps a table of connections of its own, and tracks none for a firewall or a mark.
* `ipvs-tracked`: the same with `net.ipv4.vs.conntrack`, and every connection tracked as `routing` and Markway do.
* `iptables`: nothing but a DNAT rule for each backend, with `statistic` for its turn; the legacy variant, the faster.
"""


@dataclass
class Results:
    """What each run counted; every run is another boot, with other seeds for the kernel's hashes."""

    versions: str = ""
    when: str = field(default_factory=lambda: time.strftime("%Y-%m-%d"))
    runs: list[Costs] = field(default_factory=list)

    def cells(self) -> Iterator[tuple[str, str]]:
        """Every size and contender."""
        return ((size, name) for size, costs in self.runs[0].items() for name in costs)

    def figures(self, size: str, name: str, kind: str) -> list[float]:
        """One figure of each run."""
        return [costs[size][name][kind] for costs in self.runs]

    def cost(self, size: str, name: str, kind: str) -> float:
        """The runs' mean."""
        figures = self.figures(size, name, kind)
        return sum(figures) / len(figures)

    def largest_difference(self) -> tuple[float, str]:
        """How far two runs are apart at most, as a share of the lesser; and where."""
        return max(
            (_difference(self.figures(size, name, kind)), f"{name}, {size}, {title.lower()}")
            for size, name in self.cells()
            for kind, title in KINDS.items()
        )


def _difference(figures: Sequence[float]) -> float:
    return max(figures) / min(figures) - 1


def measure(services: Sequence[int], backends: int, runs: int, tell: Callable[[str], None]) -> Results:
    """Boot a guest for each run, and let it count.

    Raises:
        GuestError: a guest did not come to its end.
        PackageError: Debian's kernel, or a program, cannot be had.
    """
    packages.need("bench-datapath")
    kernel = debian.kernel(counted=True)
    argv = [
        sys.executable,
        "-m",
        "bench.counted",
        f"{guest.JOB}/results/counted.json",
        *map(str, (backends, *services)),
    ]
    results = Results()
    for number in range(1, runs + 1):
        tell(f"run {number} of {runs}")
        with TemporaryDirectory(prefix="mwb-") as folder:
            with redirect_stdout(sys.stderr):  # the guest tells how far it is
                env = guest.environment(kernel.name)
                status = guest.run(kernel, argv, env, Path(folder), limit=LIMIT_OF_RUN)
            if status:
                raise guest.GuestError(f"run {number} failed")
            found = json.loads(Path(folder, _FOUND).read_text(encoding="utf-8"))
        results.versions = found["versions"]
        results.runs.append(found["costs"])
    return results


def markdown(results: Results) -> str:
    """Write the page."""
    parts = [INTRODUCTION, f"{results.versions}; {results.when}.\n"]
    parts += [f"## {title}\n\n{_costs_table(results, kind)}\n" for kind, title in KINDS.items()]
    share, where = results.largest_difference()
    parts.append(f"## Each run\n\n{_runs_table(results)}\n")
    parts.append(f"The largest difference between runs is {share:.2%}: {where}.\n")
    return "\n".join(parts)


def _costs_table(results: Results, kind: str) -> str:
    sizes = results.runs[0]
    rows = []
    for name in next(iter(sizes.values())):
        costs = [(results.cost(size, name, kind), results.cost(size, LIMIT, kind)) for size in sizes]
        rows.append([name, *(f"{cost:,.0f} ({cost / limit:.2f})" for cost, limit in costs)])
    return table(["instructions", *sizes], rows)


def _runs_table(results: Results) -> str:
    numbers = range(1, len(results.runs) + 1)
    head = ["services x backends", "contender"]
    head += [word for kind in KINDS for word in (*(f"{kind}, run {number}" for number in numbers), "differ")]
    rows = []
    for size, name in results.cells():
        row = [size, name]
        for kind in KINDS:
            figures = results.figures(size, name, kind)
            row += [*(f"{figure:,.0f}" for figure in figures), f"{_difference(figures):.2%}"]
        rows.append(row)
    return table(head, rows)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.datapath", description=__doc__)
    parser.add_argument("--runs", type=int, default=2, help="boots, which are compared with each other")
    parser.add_argument("--quick", action="store_true", help=f"no more than {SERVICES[-2]} services")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the page")
    parser.add_argument("--write-docs", action="store_true", help=f"also write {DOCS.name}")
    return parser.parse_args(words)


def main() -> int:
    """Measure, print and write; 1 if it could not be measured."""
    options = arguments()
    begun = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - begun:4.0f} s  {what}", file=sys.stderr, flush=True)

    if os.geteuid():
        sys.exit("the guest's root owns this machine's files: run it as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the guest
    try:
        results = measure(SERVICES[:-1] if options.quick else SERVICES, BACKENDS, options.runs, tell)
    except (guest.GuestError, packages.PackageError) as error:
        sys.exit(str(error))
    page, data = markdown(results), json.dumps(asdict(results), indent=1) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "datapath.md").write_text(page, encoding="utf-8")
    (RESULTS / "datapath.json").write_text(data, encoding="utf-8")
    if options.write_docs:
        DOCS.write_text(page, encoding="utf-8")
    print(data if options.json else page, end="")
    tell("done")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
