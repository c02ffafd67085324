"""`python -m bench`: measure, and write the tables."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console

from bench import control, isolated, report, sockets
from bench.case import case
from bench.contenders import Contender, Markway, everyone, missing, versions
from bench.cpu import pin
from bench.topology import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VIEWS = ("connections", "cpu", "growth", "control")
GROWTH_QUICKLY = ((1_000, 4),)
GROWTH = ((100, 4), (10_000, 4), (1, 2), (1, 128), (1, 1024))


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rounds and small cases, in two minutes")
    parser.add_argument("--only", default=",".join(VIEWS), help=f"some of {','.join(VIEWS)}")
    parser.add_argument("--contenders", default="", help="some of them, by name and comma")
    parser.add_argument("--write-docs", action="store_true", help=f"also write {report.DOCS.name}")
    return parser.parse_args(words)


def chosen(names: str) -> list[Contender]:
    wanted = set(filter(None, names.split(",")))
    if unknown := wanted - {contender.name for contender in everyone()}:
        sys.exit(f"no such contender: {', '.join(sorted(unknown))}")
    return [contender for contender in everyone() if not wanted or contender.name in wanted]


def run(options: argparse.Namespace, contenders: list[Contender], tell: Callable[[str], None]) -> report.Results:
    """Take every measurement that was asked for."""
    views = options.only.split(",")
    rounds = 2 if options.quick else options.rounds
    results = report.Results(versions(), rounds, time.strftime("%Y-%m-%d"))
    kernel = [contender for contender in contenders if not contender.proxy]
    many = 1_000 if options.quick else 10_000
    within = 10.0 if options.quick else 60.0
    if "connections" in views:
        base = case(1, 4)
        seconds = 1.0 if options.quick else 3.0
        results.connections[base.size] = sockets.compare(contenders, base, rounds, seconds, tell)
    if "growth" in views and not options.quick:
        grown = case(many, 4)
        fit = [contender for contender in kernel if not contender.name.startswith("nftlb")]
        results.connections[grown.size] = sockets.compare(fit, grown, rounds, 3.0, tell)
    home = os.sched_getaffinity(0)
    pin(max(home))
    sizes = [(1, 4)] if "cpu" in views else []
    sizes += (GROWTH_QUICKLY if options.quick else GROWTH) if "growth" in views else []
    for services, backends in sizes:
        this = case(services, backends)
        results.cpu[this.size] = isolated.compare(kernel, this, rounds, within / 3, tell)
    os.sched_setaffinity(0, home)
    if "control" in views:
        measure_control(results, kernel, many, within, tell)
    return results


def measure_control(
    results: report.Results, kernel: list[Contender], many: int, within: float, tell: Callable[[str], None]
) -> None:
    """Load many services, and change one weight among them."""
    grown = case(many, 4)
    loaders = [contender for contender in kernel if not contender.direct and not contender.name.endswith("-snat")]
    results.loading[grown.size] = control.load(loaders, grown, results.rounds, within, tell)
    for contender in loaders:
        if isinstance(contender, Markway):
            results.changing[grown.size] = control.change(contender, grown, 20, tell)


def main() -> None:
    options = arguments()
    console = Console(stderr=True)
    if os.geteuid():
        sys.exit("the benchmark builds network namespaces: run it as root")
    contenders = chosen(options.contenders)
    if absent := missing(contenders):
        names = " ".join(sorted(set(absent.values())))
        sys.exit(f"missing {', '.join(sorted(absent))}: apt install {names}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as ^C: everything made is removed on the way out
    remove_leftovers()
    begun = time.monotonic()
    with console.status("starting") as status:

        def tell(what: str) -> None:
            line = f"{time.monotonic() - begun:4.0f} s  {what}"
            (status.update if console.is_terminal else console.print)(line)

        results = run(options, contenders, tell)
    page = report.write(results, docs=options.write_docs)
    print(page.read_text())
    console.print(f"{time.monotonic() - begun:.0f} s; {page.relative_to(page.parent.parent.parent)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
