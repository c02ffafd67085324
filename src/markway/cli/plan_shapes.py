"""What `markway plan` says of shapes and marks, beside the commands. Pure: fragments in, lines out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markway.cli.columns import Columns
from markway.cli.policies import described as policies
from markway.cli.shapes import FOLD, about, rows_of
from markway.compiler.blocklists import OWNER as LISTS
from markway.compiler.firewall import OWNER as FIREWALL
from markway.compiler.guarding import OWNER as GUARDS
from markway.program.shape_impact import shape_impacts, shape_reasons

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from markway.program.diff import Change, Changes
    from markway.program.model import Fragment, MarkEntry, ShapeEntry
    from markway.program.steps import Step, Steps

Record = dict[str, Any]

_TREE = Columns(
    ("CLASS", "CLASSID", "PRIO", "LEAF", "RATE", "CEIL"),
    left=frozenset({"CLASS", "CLASSID", "LEAF"}),
    dropped=(),
    optional=frozenset({"LEAF"}),
)
_OWNERS = {FIREWALL: "firewall", GUARDS: "guards", LISTS: "blocklists"}
_WIDE = 200
_REASONS = 8
_COMMANDS = 16
"""Commands of one kind of reason that are shown before the rest is counted."""


def head(part: Change, old: Fragment | None, new: Fragment | None) -> str:
    """Whom a part is of, and why it changes."""
    if part.owner in _OWNERS:
        return f"{_OWNERS[part.owner]}: {part.kind}"
    shape = next((fragment.shape for fragment in (new, old) if fragment and fragment.shape), None)
    if shape is None:
        return f"marks, uplinks and realms: {part.kind}"
    why = [*shape_reasons(old, new)] if old and new else []
    more = f" and {len(why) - _REASONS} more" if len(why) > _REASONS else ""
    return f"shape {shape.name}: {part.kind}{': ' if why else ''}{', '.join(why[:_REASONS])}{more}"


def described(fragment: Fragment, *, full: bool) -> Iterator[str]:
    """A shape as a tree that a person can read, or marking rules."""
    if fragment.shape:
        yield from _shape(fragment.shape, full=full)
    for mark in fragment.marks:
        yield f"mark {mark.name}: {_sets(mark)}, of packets {', '.join(mark.on)}"
    yield from policies(fragment.policies)


def folded(steps: Sequence[Step], *, full: bool) -> Iterator[str]:
    """Commands, each with its tool; of very many, the first and the last."""
    lines = [f"{step.command.tool} {step.command.text}" for step in steps]
    if full or len(lines) <= _COMMANDS:
        yield from lines
        return
    yield from lines[: _COMMANDS - 2]
    yield f"# … {len(lines) - _COMMANDS + 1:,} more …"
    yield lines[-1]


def mended(owned: Mapping[str, Steps], *, full: bool) -> Iterator[str]:
    """What is done for those that do not change themselves: what others have changed is made as it was."""
    for owner, steps in sorted(owned.items()):
        kind, _, name = owner.partition("/")
        yield f"# {kind} {name}: as it was" if name else "# marks, uplinks and realms: as they were"
        yield from folded(steps.before, full=full)
        yield from folded(steps.after, full=full)
        yield ""


def summary(changes: Changes, absent: Collection[str]) -> Iterator[str]:
    """What becomes of shapes, in words; those that are `absent` wait for their devices."""
    for impact in shape_impacts(changes):
        if impact.kind != "changed":
            yield f"shape {impact.shape} is {'new' if impact.kind == 'added' else 'gone'}"
        elif impact.anew:
            yield f"shape {impact.shape} is made anew: what waits in its queues is lost"
    for shape in changes.new.shapes:
        if shape.optional and shape.name in absent:
            yield f"shape {shape.name} waits for {shape.device}, which is absent"


def _shape(shape: ShapeEntry, *, full: bool) -> Iterator[str]:
    record = shape.record
    yield about(record)
    yield from shape.notices
    shown = record["classes"] if full else record["classes"][:FOLD]
    rows = rows_of(shown)
    fitted = _TREE.fit(rows, _WIDE)
    for line in (fitted.header(), *map(fitted.line, rows)) if rows else ():
        yield line.plain.rstrip()
    if len(shown) < len(record["classes"]):
        yield f"and {len(record['classes']) - len(shown):,} more: markway plan --full"


def _sets(mark: MarkEntry) -> str:
    found = (("class", mark.class_), ("uplink", mark.uplink))
    return " and ".join(f"{what} {name}" for what, name in found if name)
