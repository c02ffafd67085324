"""What a change of the configuration comes to, as JSON can hold it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from markway.program.diff import lines
from markway.program.impact import impacts

if TYPE_CHECKING:
    from collections import Counter

    from markway.apply.transaction import Present
    from markway.program.diff import Changes


def planned(now: Present, changes: Changes, flows: Counter[int]) -> dict[str, Any]:
    """A change that could be made, in the kernel's own language; `flows` are open connections by mark."""
    return {
        "changes": bool(changes),
        "program": {"old": now.marker, "new": changes.new.id},
        "damage": now.damage,
        "services": [asdict(impact) for impact in impacts(changes)],
        "established": {"connections": flows.total(), "touched": touched(changes, flows)},
        "nft": lines(changes) if changes else [],
    }


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
        "confirm": confirm,
    }
