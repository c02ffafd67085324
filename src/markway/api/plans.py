"""What a change of the configuration comes to, as JSON can hold it."""

from __future__ import annotations

import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from markway.apply.plumbing import PlumbingError, way_of
from markway.compiler.firewall import OWNER as FIREWALL
from markway.compiler.shape import owner_of
from markway.compiler.shaping import SHARED
from markway.program.diff import lines
from markway.program.impact import impacts
from markway.program.shape_impact import shape_impacts
from markway.program.steps import Step, Steps

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from markway.apply.store import Store
    from markway.apply.transaction import Present
    from markway.program.diff import Changes


class Todo(NamedTuple):
    """What would be done beside the table: `absent` shapes wait for their devices.

    `refused` is why an apply would do nothing at all; empty if it would not.
    """

    steps: Steps
    absent: frozenset[str] = frozenset()
    refused: str = ""


def planned(now: Present, changes: Changes, beside: Todo, flows: Counter[int], *, otherwise: bool) -> dict[str, Any]:
    """A change that could be made, in the kernel's own language.

    `flows` are open connections by mark; `otherwise` is whether the file differs by what is in no program.
    """
    before, after = beside.steps
    return {
        "changes": bool(changes or before or after),
        "otherwise": otherwise,
        "refused": beside.refused or None,
        "absent": sorted(beside.absent),
        "program": {"old": now.marker, "new": changes.new.id},
        "damage": now.damage,
        "beside": now.standing and (now.standing.why or None),
        "services": [asdict(impact) for impact in impacts(changes)],
        "shapes": [asdict(impact) for impact in shape_impacts(changes)],
        "established": {"connections": flows.total(), "touched": touched(changes, flows)},
        "before": _commands(before),
        "nft": lines(changes) if changes else [],
        "after": _commands(after),
    }


def _commands(steps: Iterable[Step]) -> list[str]:
    return [f"{step.command.tool} {step.command.text}" for step in steps]


def todo(store: Store, now: Present, changes: Changes) -> Todo:
    """What would be done beside the table.

    Raises:
        NetlinkError: the kernel refused to tell what is there.
    """
    devices = {name for _, name in socket.if_nameindex()}
    absent = frozenset(shape.name for shape in changes.new.shapes if shape.device not in devices)
    try:
        return Todo(way_of(store, now.standing, changes, patient=False).steps, absent)
    except PlumbingError as error:
        return Todo(changes.steps, absent, str(error))


def by_owner(steps: Steps) -> dict[str, Steps]:
    """Steps by the fragment that asks for them: a shape, what the shapes share, or the firewall."""
    found: dict[str, tuple[list[Step], list[Step]]] = {}
    for when, part in enumerate(steps):
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
