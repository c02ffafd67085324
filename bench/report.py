"""The tables: ratios to the limit, the spread beside them, and whether each aim is met."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench import aims

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.control import Changing, Loading
    from bench.cpu import Sample
    from bench.isolated import Comparison
    from bench.sockets import Connections

T = TypeVar("T")

RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
LIMIT = "routing"
SHORT = 10  # packets of a short connection: hands shaken, a request, an answer, good-bye

INTRODUCTION = """# Benchmarks

Written by `make bench` (`python -m bench --write-docs`). Everything is measured in one run, in turn, round after
round; figures are medians of the rounds, with the least and the greatest in brackets, and ratios are to `routing`:
a router that tracks connections and changes nothing, the limit for anything that balances in the kernel after it.

* *Real connections*: a client opens connections through the director, waits for the server's first byte and closes.
  Client and servers take most of the time, so contenders lie close together.
* *The director's own CPU*: packets are put on the director's device inside one system call and dropped where they
  leave it, so nothing but the director's work is in the figure: no client, server, card or driver. A *new
  connection* is its first packet; a *later packet* is the mean of both directions; the last column is the ratio
  for a whole short connection of 10 packets, from the two. This is the harshest view: a real card and its driver
  add the same to every row.
* `markway` is mode dnat, `markway-snat` mode snat. The iptables contenders are the classic script with a MARK and a
  DNAT rule for each backend. IPVS is not in this kernel, so it is not here; [the data path](datapath.md) has it, by
  counted instructions.
"""


@dataclass
class Results:
    """All that one run found, by the size of the case."""

    versions: str
    rounds: int
    when: str
    connections: dict[str, Connections] = field(default_factory=dict)
    cpu: dict[str, Comparison] = field(default_factory=dict)
    loading: dict[str, Loading] = field(default_factory=dict)
    changing: dict[str, Changing] = field(default_factory=dict)


def spread(figures: Sequence[float], digits: int) -> str:
    """Write median (least - greatest)."""
    low, high = min(figures), max(figures)
    return f"{statistics.median(figures):,.{digits}f} ({low:,.{digits}f} - {high:,.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def connections_table(size: str, found: Connections) -> str:
    limit = found.samples.get(LIMIT)
    rows = []
    for name, sample in found.samples.items():
        ratios = [a / b for a, b in zip(sample.rate, limit.rate, strict=True)] if limit else []
        rows.append(
            [
                name,
                spread(sample.rate, 0),
                spread(ratios, 3) if ratios else "-",
                f"{statistics.median(sample.median) / 1e3:.2f}",
                f"{statistics.median(sample.slowest) / 1e3:.2f}",
            ]
        )
    rows += [[name, why, "-", "-", "-"] for name, why in found.absent.items()]
    head = ["contender", "connections/s", "ratio", "p50 ms", "p99 ms"]
    return f"### Services x backends: {size}\n\n{table(head, rows)}\n"


def cpu_table(size: str, found: Comparison) -> str:
    limit = found.samples.get(LIMIT)
    rows = []
    for name, sample in found.samples.items():
        figures = [(spread(sample.new, 2), 1, 0), (spread(sample.later, 2), 0, 1), ("", 1, SHORT - 1)]
        row = [name]
        for text, new, later in figures:
            row += [text] if text else []
            row.append(f"{_cost(sample, new, later) / _cost(limit, new, later):.2f}" if limit else "-")
        rows.append(row)
    rows += [[name, why, "-", "-", "-", "-"] for name, why in found.absent.items()]
    head = ["contender", "µs per new connection", "ratio", "µs per later packet", "ratio", f"{SHORT} packets"]
    generator = spread([figure for sample in found.samples.values() for figure in sample.generator], 2)
    return (
        f"### Services x backends: {size}\n\n{table(head, rows)}\n\n"
        f"The generator's own {generator} µs a packet are subtracted.\n"
    )


def _cost(sample: Sample, new: int, later: int) -> float:
    """Return what so many new connections and later packets take."""
    return statistics.median(sample.new) * new + statistics.median(sample.later) * later


def loading_table(size: str, found: Loading) -> str:
    rows = [[name, spread(seconds, 2)] for name, seconds in found.seconds.items()]
    rows += [[name, why] for name, why in found.absent.items()]
    return f"### From a file to the kernel: {size}\n\n{table(['contender', 'seconds'], rows)}\n"


def changing_table(size: str, found: Changing) -> str:
    rows = [["end to end", spread(found.whole, 2)], ["the kernel's step", spread(found.kernel, 3)]]
    return f"### One weight changed among {size}\n\n{table(['step', 'ms'], rows)}\n"


def markdown(results: Results) -> str:
    """Write the whole report."""
    parts = [INTRODUCTION, f"{results.versions}; {results.rounds} rounds; {results.when}.\n"]
    parts += ["## The aims\n", aims_table(results)]
    parts += section("Real connections", results.connections, connections_table)
    parts += section("The director's own CPU", results.cpu, cpu_table)
    parts += section("The control plane", results.loading, loading_table)
    parts += [changing_table(size, one) for size, one in results.changing.items()]
    return "\n".join(parts)


def section(title: str, found: dict[str, T], write: Callable[[str, T], str]) -> list[str]:
    return [f"## {title}\n", *(write(size, one) for size, one in found.items())] if found else []


def aims_table(results: Results) -> str:
    rows = [[aim.text, aim.wanted, aim.found, aim.verdict] for aim in aims.judge(results)]
    return table(["aim", "wanted", "found", ""], rows) + "\n"


def write(results: Results, *, docs: bool) -> Path:
    """Write markdown and JSON into the folder of results, and the page of the documentation if asked."""
    RESULTS.mkdir(exist_ok=True)
    text = markdown(results)
    page = RESULTS / "benchmarks.md"
    page.write_text(text)
    (RESULTS / "benchmarks.json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    if docs:
        DOCS.write_text(text)
    return page
