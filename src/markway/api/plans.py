"""What a change of the configuration comes to, as JSON can hold it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from markway.compiler.firewall import OWNER as FIREWALL
from markway.compiler.shaping import SHARED, owner_of
from markway.program.diff import lines
from markway.program.impact import impacts
from markway.program.shape_impact import shape_impacts
from markway.program.steps import Step, Steps, steps

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from markway.apply.transaction import Present
    from markway.program.diff import Changes


def planned(now: Present, changes: Changes, flows: Counter[int]) -> dict[str, Any]:
    """A change that could be made, in the kernel's own language; `flows` are open connections by mark."""
    steps = steps_of(changes)
    return {
        "changes": bool(changes),
        "program": {"old": now.marker, "new": changes.new.id},
        "damage": now.damage,
        "services": [asdict(impact) for impact in impacts(changes)],
        "shapes": [asdict(impact) for impact in shape_impacts(changes)],
        "established": {"connections": flows.total(), "touched": touched(changes, flows)},
        "before": _commands(steps.before),
        "nft": lines(changes) if changes else [],
        "after": _commands(steps.after),
    }


def _commands(steps: Iterable[Step]) -> list[str]:
    return [f"{step.command.tool} {step.command.text}" for step in steps]


def steps_of(changes: Changes) -> Steps:
    """What is done beside the table."""
    old, new = (
        [part for owner in sorted(program.fragments) for part in program.fragments[owner].plumbing]
        for program in (changes.old, changes.new)
    )
    return steps(old, new)


def steps_by_owner(changes: Changes) -> dict[str, Steps]:
    """The same by the fragment that asks for it: a shape, what the shapes share, or the firewall."""
    found: dict[str, tuple[list[Step], list[Step]]] = {}
    for when, part in enumerate(steps_of(changes)):
        for step in part:
            kind = step.origin[0] if step.origin else ""
            owner = owner_of(str(step.origin[1])) if kind == "shape" else FIREWALL if kind == "policy" else SHARED
            found.setdefault(owner, ([], []))[when].append(step)
    return {owner: Steps(tuple(before), tuple(after)) for owner, (before, after) in found.items()}


def touched(changes: Changes, flows: Counter[int]) -> int:
    """Established connections whose mark would change its meaning: only another mask does that."""
    new = {b.name + "@" + s.name: b.mark for s in changes.new.services for b in s.backends}
    old = {b.name + "@" + s.name: b.mark for s in changes.old.services for b in s.backends}
    return sum(flows[mark] for name, mark in old.items() if new.get(name, mark) != mark)


def applied(changes: Changes, seconds: float, confirm: str | float | None) -> dict[str, Any]:
    """A change that was made, in so many seconds; `confirm` is the time for its confirmation."""
    return {
        "changed": bool(changes),
        "program": changes.new.id,
        "seconds": round(seconds, 4),
        "services": [asdict(impact) for impact in impacts(changes)],
        "shapes": [asdict(impact) for impact in shape_impacts(changes)],
        "confirm": confirm,
    }
