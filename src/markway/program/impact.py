"""What a change means for the people using the services: the blast radius of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.program.diff import Changes
    from markway.program.model import BackendEntry, Fragment, ServiceEntry

_HASHED = {"source-hash", "flow-hash"}


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change does to one service.

    `moved` is the share of its new connections, 0 to 1, that go to another backend than
    before: the worst of its families. None for a service that is new or goes.
    """

    service: str
    kind: str  # added | changed | removed
    why: tuple[str, ...]
    moved: float | None


def impacts(changes: Changes) -> list[Impact]:
    """The impact on every service that a plan changes, by name."""
    found = []
    for part in changes.parts:
        old, new = (program.fragments.get(part.owner) for program in (changes.old, changes.new))
        before, after = entry_of(old), entry_of(new)
        if (before is None and after is None) or (old and new and old.digest == new.digest):
            continue
        moved = _moved(old, new) if old and new else None
        found.append(Impact(part.owner, part.kind, tuple(reasons(before, after)), moved))
    return found


def entry_of(fragment: Fragment | None) -> ServiceEntry | None:
    """The service that a fragment is of."""
    return fragment.entry if fragment else None


def reasons(old: ServiceEntry | None, new: ServiceEntry | None) -> Iterator[str]:
    """In words, what differs between two states of a service."""
    if old is None or new is None:
        return
    for attribute in ("mode", "schedule"):
        before, after = getattr(old, attribute), getattr(new, attribute)
        if before != after:
            yield f"{attribute} {before} → {after}"
    for listener in new.listeners:
        if listener not in old.listeners:
            yield f"listens on {listener}"
    for listener in old.listeners:
        if listener not in new.listeners:
            yield f"no longer listens on {listener}"
    yield from _backend_reasons(
        {backend.name: backend for backend in old.backends},
        {backend.name: backend for backend in new.backends},
    )


def _backend_reasons(old: Mapping[str, BackendEntry], new: Mapping[str, BackendEntry]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"backend {name} joins"
            continue
        if name not in new:
            yield f"backend {name} leaves"
            continue
        before, after = old[name], new[name]
        if before.weight != after.weight:
            yield f"weight of {name} {before.weight} → {after.weight}"
        if before.priority != after.priority:
            yield f"priority of {name} {before.priority} → {after.priority}"
        if before.endpoints != after.endpoints:
            yield f"address of {name} {', '.join(before.endpoints)} → {', '.join(after.endpoints)}"
        if before.mark != after.mark:
            yield f"mark of {name} {before.mark:#x} → {after.mark:#x}"


def _moved(old: Fragment, new: Fragment) -> float:
    assert old.entry  # noqa: S101  (both are services)
    assert new.entry  # noqa: S101
    families = old.entry.tables.keys() & new.entry.tables.keys()
    return max((_moved_in(family, old, new) for family in families), default=0.0)


def _moved_in(family: str, old: Fragment, new: Fragment) -> float:
    """The share that moves in one family.

    Hash tables are laid over each other: the kernel scales the hash into the table, so a slot
    of each covers a fixed part of the hash's range. Other schedules have no memory: what moves
    is what the shares differ by.
    """
    assert old.entry  # noqa: S101
    assert new.entry  # noqa: S101
    before, after = _table(family, old), _table(family, new)
    if not before or not after:
        return 0.0 if before == after else 1.0
    if old.entry.schedule == new.entry.schedule and new.entry.schedule in _HASHED:
        return _overlaid(before, after)
    servers = set(before) | set(after)
    shares = ((before.count(server) / len(before), after.count(server) / len(after)) for server in servers)
    return sum(max(b - a, 0.0) for b, a in shares)


def _overlaid(before: list[str], after: list[str]) -> float:
    edges = {index / len(before) for index in range(len(before) + 1)}
    edges |= {index / len(after) for index in range(len(after) + 1)}
    ordered = sorted(edges)
    moved = 0.0
    for left, right in pairwise(ordered):
        middle = (left + right) / 2
        if before[int(middle * len(before))] != after[int(middle * len(after))]:
            moved += right - left
    return moved


def _table(family: str, fragment: Fragment) -> list[str]:
    """What each slot leads to: the endpoint, so that a backend at a new address is another server."""
    assert fragment.entry  # noqa: S101
    offset, size = fragment.entry.tables[family]
    slots = fragment.elements.get("slots", {})
    servers = {f"0x{b.mark:08x}": f"{b.name} {b.endpoints}" for b in fragment.entry.backends}
    keys = (f"0x{offset + index:08x}" for index in range(size))
    return [servers[slots[key]] for key in keys if key in slots]
