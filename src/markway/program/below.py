"""What of plumbing stands on what: with a device goes its discipline, with that its classes, and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from markway.program.plumbing import Class, Filter, Link, Qdisc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.program.plumbing import Part

Place: TypeAlias = tuple[str, str, int]
Group: TypeAlias = tuple[str | int, ...]

_NOT_LEAVING = ("root", "ingress", "ffff:")


def place_of(part: Filter) -> Place:
    """Where a filter stands, and its preference."""
    return part.device, part.parent, part.preference


def sort_of(part: Filter) -> tuple[str, ...]:
    """What filters of one preference have in common; of fw also the mask (net/sched/cls_fw.c)."""
    return part.protocol, part.kind, part.handle.partition("/")[2] if part.kind == "fw" else ""


def group_of(part: Filter) -> Group:
    """Filters of one group are one object to the kernel, which has them in their order."""
    return *place_of(part), *sort_of(part)


def table_of(part: Filter) -> str:
    """The hash table of u32 that a filter is, or is in; empty for the one that the kernel makes (`::1`)."""
    return part.handle.partition(":")[0] if part.kind == "u32" else ""


def is_table(part: Filter) -> bool:
    """Whether it is a hash table and not a filter: `1:`."""
    return part.kind == "u32" and part.handle.endswith(":")


class Below:
    """Parts by what they stand on."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = list(parts)
        self._on: dict[str, list[Part]] = {}
        self._queues: dict[tuple[str, str], Qdisc] = {}
        self._tables: dict[tuple[Group, str], list[Filter]] = {}
        self.groups: dict[Group, list[Filter]] = {}
        for part in self.parts:
            if isinstance(part, (Qdisc, Class, Filter)):
                self._on.setdefault(part.device, []).append(part)
            if isinstance(part, Qdisc):
                self._queues[part.device, part.parent] = part
            if isinstance(part, Filter):
                self.groups.setdefault(group_of(part), []).append(part)
                if not is_table(part):
                    self._tables.setdefault((group_of(part), table_of(part)), []).append(part)

    def of(self, part: Part) -> list[Part]:
        """What goes by itself when a part goes."""
        found: Iterable[Part | None] = ()
        if isinstance(part, Link):
            found = self._on.get(part.device, ())
        elif isinstance(part, Qdisc) and part.parent == "root":
            found = (p for p in self._on[part.device] if _leaving(p))
        elif isinstance(part, Class):
            found = (self._queues.get((part.device, part.classid)),)
        elif isinstance(part, Filter) and is_table(part):
            found = self._tables.get((group_of(part), table_of(part)), ())
        return [below for below in found if below]

    def with_dependents(self, keys: set[str]) -> set[str]:
        """Parts and those that cannot be without them: what goes by itself, and what would hinder them."""
        found = keys | {below.key for part in self.parts if part.key in keys for below in self.of(part)}
        for group in self.groups.values():
            if any(is_table(part) and part.key in found for part in group):
                found |= {part.key for part in group}  # those in the table, and the one that leads there
        classes = {(part.device, part.classid) for part in self.parts if isinstance(part, Class) and part.key in found}
        for part in self.parts:  # parents come first
            if isinstance(part, Class) and (part.device, part.parent) in classes:
                classes.add((part.device, part.classid))
                found.add(part.key)
        for part in self.parts if classes else ():
            queue = isinstance(part, Qdisc) and (part.device, part.parent) in classes
            if queue or (isinstance(part, Filter) and (part.device, part.classid) in classes):
                found.add(part.key)
        return found


def _leaving(part: Part) -> bool:
    """Whether a part is below the discipline for what leaves a device."""
    return isinstance(part, (Qdisc, Class, Filter)) and not part.parent.startswith(_NOT_LEAVING)
