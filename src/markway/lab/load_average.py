"""The load average of one network namespace, told to snmpd as if the namespace were a machine.

All hosts of a lab share one machine and its /proc/loadavg. This counts what runs or wants to run among the
processes of its own namespace and averages it as the kernel does (kernel/sched/loadavg.c), like lxcfs for
containers. snmpd starts it for `pass_persist` (snmpd.conf(5)): it reads PING, or get, getnext or set and what
that needs, a word a line. `python -m markway.lab.load_average SECONDS` averages the first of the three over so many
seconds; the other two over 5 and 15 times as many.
"""

from __future__ import annotations

import math
import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ENTRY = ".1.3.6.1.4.1.2021.10.1"
"""laEntry of UCD-SNMP-MIB; columns and rows are below it."""

_NAMES = ("Load-1", "Load-5", "Load-15")
_LONGER = (1, 5, 15)
_SAMPLES = 12  # in the shortest time: the kernel's 60 s have as many (LOAD_FREQ)
_NONE = "NONE"


class LoadAverage:
    """Three exponential averages, of one number taken at equal intervals."""

    def __init__(self, seconds: float) -> None:
        self.interval = seconds / _SAMPLES
        self.averages = [0.0, 0.0, 0.0]

    def add(self, running: int) -> None:
        """Take in how many run, once an interval."""
        for place, longer in enumerate(_LONGER):
            kept = math.exp(-1 / (_SAMPLES * longer))
            self.averages[place] = kept * self.averages[place] + (1 - kept) * running


def table(averages: list[float]) -> dict[tuple[int, int], tuple[str, str]]:
    """laTable: (column, row) → type and value, in SNMP's order."""
    columns = {
        1: [("integer", str(row)) for row in (1, 2, 3)],
        2: [("string", name) for name in _NAMES],
        3: [("string", f"{average:.2f}") for average in averages],
        5: [("integer", str(round(average * 100))) for average in averages],
    }
    return {(column, row): value for column, values in columns.items() for row, value in enumerate(values, 1)}


def answer(verb: str, oid: str, cells: Mapping[tuple[int, int], tuple[str, str]]) -> list[str]:
    """The lines that answer `get` or `getnext`: the object, its type, its value; or NONE."""
    asked = tuple(int(part) for part in oid.removeprefix(ENTRY).split(".") if part)
    later = (cell for cell in cells if (cell > asked if verb == "getnext" else cell == asked))
    found = next(later, None)
    return [_NONE] if found is None else [f"{ENTRY}.{found[0]}.{found[1]}", *cells[found]]


def running() -> int:
    """How many threads of this network namespace run, want to, or wait for a disk; without our own."""
    here = _namespace(Path("/proc/self/ns/net"))
    count = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with suppress(OSError):  # it ended meanwhile
                if _namespace(process / "ns/net") == here:
                    states = [(task / "stat").read_text() for task in (process / "task").iterdir()]
                    count += sum(state.rpartition(")")[2].split()[0] in {"R", "D"} for state in states)
    return count


def main(argv: list[str]) -> int:
    """Average and answer until snmpd closes our input."""
    load = LoadAverage(float(argv[0]))
    due = time.monotonic()
    lines = b""
    while True:
        while (wait := due - time.monotonic()) <= 0:
            load.add(running())
            due += load.interval
        if not select.select([0], [], [], wait)[0]:
            continue
        more = os.read(0, 4096)
        if not more:
            return 0
        lines = _talk(lines + more, load)


def _talk(said: bytes, load: LoadAverage) -> bytes:
    """Answer what is complete; return the rest."""
    *lines, rest = said.split(b"\n")
    words = [line.decode() for line in lines]
    while words:
        if words[0] == "PING":
            told, used = ["PONG"], 1
        elif words[0] in {"get", "getnext"} and len(words) > 1:
            told, used = answer(words[0], words[1], table(load.averages)), 2
        elif words[0] == "set" and len(words) > 2:  # noqa: PLR2004 - the object and the value follow
            told, used = ["not-writable"], 3
        elif words[0] in {"get", "getnext", "set"}:
            break
        else:
            told, used = [], 1
        os.write(1, "".join(f"{line}\n" for line in told).encode())
        del words[:used]
    return "".join(f"{word}\n" for word in words).encode() + rest


def _namespace(path: Path) -> int:
    return path.stat().st_ino


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
