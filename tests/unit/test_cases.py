"""Each folder of tests/cases: a file, the program that it becomes, where its connections go, how its packets queue.

A person reads them. `pytest tests/unit/test_cases.py --update-cases` writes them anew.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from markway.balance.slots import LARGEST
from markway.compiler import compile_config
from markway.config.load import load_text
from markway.marks import Registry
from markway.program.diff import diff, lines
from markway.program.model import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.program.model import BackendEntry, Fragment, ServiceEntry

CASES = sorted(path for path in (Path(__file__).parent.parent / "cases").iterdir() if path.is_dir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path, request: pytest.FixtureRequest) -> None:
    config = load_text((case / "markway.toml").read_text(encoding="utf-8"), "markway.toml").config
    program = compile_config(config, Registry()).program
    made = {
        "program.nft": "\n".join([*lines(diff(Program(), program)), ""]),
        "flows.txt": "".join(f"{line}\n" for line in flows(program)),
        **{f"{tool}.txt": "".join(f"{line}\n" for line in plumbing(program, tool)) for tool in ("tc", "ip", "sysctl")},
        "classes.txt": "".join(f"{line}\n" for line in classes(program)),
        "policies.txt": "".join(f"{line}\n" for line in policies(program)),
    }
    for name, text in made.items():
        file = case / name
        if request.config.getoption("--update-cases"):
            file.write_text(text, encoding="utf-8") if text else file.unlink(missing_ok=True)
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        assert there == text, f"{file}: --update-cases writes it anew"


def flows(program: Program) -> Iterator[str]:
    """For each listener: who gets which part of its connections, by which mark, and sees whom."""
    for entry in program.services:
        fragment = program.fragments[entry.name]
        for listener in entry.listeners:
            family = "ip6" if listener.startswith("[") else "ip"
            found = [line for backend in entry.backends for line in _given(entry, backend, fragment, family)]
            yield f"client → {listener}"
            yield from (f"    {line}" for line in found or [_refusal(fragment, family)])


def plumbing(program: Program, tool: str) -> Iterator[str]:
    """What a tool is told, in order."""
    for fragment in program.fragments.values():
        told = (part for part in fragment.plumbing if part.tool.split()[0] == tool)
        yield from (f"{part.tool} {command}" for part in told for command in part.add())


def classes(program: Program) -> Iterator[str]:
    """The tree of each shape, what it holds at most, and what is to be said of it; then what marks do."""
    for shape in program.shapes:
        yield f"{shape.name}: {shape.direction} of {shape.device}, {shape.discipline} on {shape.acts_on}"
        yield from (f"    {notice}" for notice in shape.notices)
        depth = {"": 0}
        for item in shape.classes:
            depth[item.name] = depth[item.parent] + 1
            rest = f" {item.leaf}" * bool(item.leaf) + ", the default" * item.default
            rates = f"{item.rate}…{item.ceil} prio {item.prio}"
            yield f"{'    ' * depth[item.name]}{item.name} {item.classid} {rates}{rest}"
    for mark in program.marks:
        yield f"mark {mark.name}: {' '.join(mark.on)} → {mark.class_ or '-'} {mark.uplink}".rstrip()


def policies(program: Program) -> Iterator[str]:
    """What becomes of whom, in order, and what counts it."""
    for each in program.policies:
        over = f", over its limits {each.over}" * bool(each.over)
        yield f"{' or '.join(each.sources)} → {' or '.join(each.targets)}: {each.verdict} ({each.counter}{over})"


def _given(entry: ServiceEntry, backend: BackendEntry, fragment: Fragment, family: str) -> Iterator[str]:
    share = Fraction(backend.shares.get(family, 0)).limit_denominator(LARGEST)
    if not share:
        return
    version = 6 if family == "ip6" else 4
    mark = f"0x{backend.mark:08x}"
    endpoint = next(each for each in backend.endpoints if (each.count(":") > 1) == (version == 6))
    seen = fragment.elements.get(f"sources{version}", {}).get(mark)
    if not seen and mark in fragment.elements.get("masked", {}):
        seen = "the service's address"
    part = "all" if share == 1 else f"{share.numerator} of {share.denominator}"
    yield f"{part} {entry.name}/{backend.name} mark {mark} → {endpoint}, from {seen or 'the client'}"


def _refusal(fragment: Fragment, family: str) -> str:
    [rule] = (line for line in fragment.chains[f"service/{fragment.owner}/{family}"].lines if "refuse/" in line)
    return f"no backend: {rule.rpartition('/')[2]}"
