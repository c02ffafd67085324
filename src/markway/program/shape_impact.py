"""What a change means for shapes: which are new, which differ in what, and whose queues begin anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.config.rates import show_bandwidth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.program.diff import Changes
    from markway.program.model import ClassEntry, Fragment, ShapeEntry


@dataclass(frozen=True, slots=True)
class ShapeImpact:
    """What a change does to one shape; `anew` if its whole tree is made anew, and what waits in it is lost."""

    shape: str
    kind: str  # added | changed | removed
    why: tuple[str, ...]
    anew: bool


def shape_impacts(changes: Changes) -> list[ShapeImpact]:
    """The impact on every shape that a plan changes, by name."""
    found = []
    for part in changes.parts:
        old, new = (program.fragments.get(part.owner) for program in (changes.old, changes.new))
        before, after = (fragment.shape if fragment else None for fragment in (old, new))
        entry = after or before
        if entry is None or (old and new and old.digest == new.digest):
            continue
        why = tuple(shape_reasons(old, new)) if old and new else ()
        anew = bool(before and after and _place(before) != _place(after))
        found.append(ShapeImpact(entry.name, part.kind, why, anew))
    return found


def shape_reasons(old: Fragment, new: Fragment) -> Iterator[str]:
    """In words, what differs between two states of a shape."""
    before, after = old.shape, new.shape
    if before is None or after is None:
        return
    said = [*_shape_reasons(before, after), *_class_reasons(before, after)]
    yield from said
    if not said:
        yield "what its classes match" if _lines(old) != _lines(new) else "its options or filters"


def _lines(fragment: Fragment) -> list[tuple[str, ...]]:
    return [chain.lines for chain in fragment.chains.values()]


def _place(shape: ShapeEntry) -> tuple[str, str]:
    return shape.acts_on, shape.discipline


def _shape_reasons(old: ShapeEntry, new: ShapeEntry) -> Iterator[str]:
    for attribute in ("device", "direction", "discipline"):
        before, after = getattr(old, attribute), getattr(new, attribute)
        if before != after:
            yield f"{attribute} {before} → {after}"
    if old.acts_on != new.acts_on and (old.device, old.direction) == (new.device, new.direction):
        yield f"shaped on {old.acts_on} → {new.acts_on}"
    if old.rate != new.rate:
        yield f"rate {show_bandwidth(old.rate)} → {show_bandwidth(new.rate)}"


def _class_reasons(old: ShapeEntry, new: ShapeEntry) -> Iterator[str]:
    before: Mapping[str, ClassEntry] = {one.name: one for one in old.classes}
    after: Mapping[str, ClassEntry] = {one.name: one for one in new.classes}
    for name in [*after, *(name for name in before if name not in after)]:
        if name not in before:
            yield f"class {name} joins"
        elif name not in after:
            yield f"class {name} leaves"
        else:
            yield from _one_class(before[name], after[name])


def _one_class(before: ClassEntry, after: ClassEntry) -> Iterator[str]:
    name = after.name
    if before.parent != after.parent:
        yield f"{name} moves below {after.parent or 'the top'}"
    for attribute in ("rate", "ceil"):
        was, becomes = (show_bandwidth(getattr(one, attribute)) for one in (before, after))
        if was != becomes:
            yield f"{attribute} of {name} {was} → {becomes}"
    if before.prio != after.prio:
        yield f"prio of {name} {before.prio} → {after.prio}"
    if before.leaf != after.leaf and before.leaf and after.leaf:
        yield f"leaf of {name} {before.leaf} → {after.leaf}"
    if after.default and not before.default:
        yield f"{name} is the default"
