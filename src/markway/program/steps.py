"""From old plumbing to new in the fewest commands: what comes before the table's transaction, and what after it.

What is new is made first, what is in place changed there, and what goes is removed last: so a packet always has a
class to go to. Each step carries what takes it back, and the key of the file that it comes from. A few things the
kernel does not let stand beside their successor; these go first (`_in_the_way`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from markway.program.plumbing import Class, Filter, Link, Origin, Qdisc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.program.plumbing import Part

_RIGID = frozenset({"htb", "pfifo_fast"})
"""Kinds that cannot be changed at all (Qdisc_ops.change in net/sched/sch_*.c)."""

_FIXED = {"fq_codel": "flows", "sfq": "divisor", "prio": "bands"}
"""The option that a kind cannot change; prio could, but would drop the queues of the bands that go."""

_ASIDE = 0x800
"""Where a u32 filter has its copy while it is made anew: handles go up to 0xfff."""


Group: TypeAlias = tuple[str | int, ...]
"""Where filters stand, their preference, and what they have in common."""


class Command(NamedTuple):
    """One line of a tool's batch, without the tool's name."""

    tool: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and those that take it back."""

    command: Command
    undo: tuple[Command, ...] = ()
    origin: Origin = ()


class Steps(NamedTuple):
    """What comes before the table's transaction, and what after it."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.before or self.after)


def steps(old: Iterable[Part], new: Iterable[Part], unfit: frozenset[str] = frozenset()) -> Steps:
    """The commands by which `old` becomes `new`, both in the order in which they are made.

    Args:
        old: what is there.
        new: what is to be.
        unfit: keys of what is there in another state than `old` says; it is made anew.
    """
    return _Way(list(old), list(new), unfit).steps()


class _Way:
    """Works out the steps; `here` is what is left of the old as it goes on."""

    def __init__(self, old: list[Part], new: list[Part], unfit: frozenset[str]) -> None:
        self.new = {part.key: part for part in new}
        self.old = {part.key: part for part in old}
        first = _in_the_way(list(self.old.values()), self.new, unfit)
        self.first = [part for key, part in self.old.items() if key in first]
        self.here = {key: part for key, part in self.old.items() if key not in first}

    def steps(self) -> Steps:
        """All of them."""
        before = list(_removed(self.first, self.old.values(), self.new))
        late: list[Qdisc] = []
        parents = {(part.device, part.parent) for part in self.here.values() if isinstance(part, Class)}
        inner = {(part.device, part.parent) for part in self.new.values() if isinstance(part, Class)}
        for part in self.new.values():
            there = self.here.get(part.key)
            if isinstance(part, Qdisc) and there is None and (part.device, part.parent) in parents - inner:
                late.append(part)  # its class cannot have a queue before its last child has gone
            elif part != there:
                before += self._made(part, there)
        gone = [part for key, part in self.here.items() if key not in self.new]
        after = list(_removed(gone, self.here.values(), self.new))
        after += [step for part in late for step in _added(part)]
        return Steps(tuple(before), tuple(after))

    def _made(self, part: Part, there: Part | None) -> Iterator[Step]:
        if there is None:
            yield from _added(part, self._displaced(part))
        elif isinstance(part, Qdisc) and isinstance(there, Qdisc) and part.handle != there.handle:
            below = _below(there, self.here.values())
            yield from _each(part, part.add(), _commands([there, *below]))
            for lost in below:
                self.here.pop(lost.key, None)
        elif isinstance(part, Filter) and isinstance(there, Filter) and part.change() is None:
            yield from _exchanged(there, part)
        else:
            yield from _each(part, part.change() or part.add(), _commands([there], change=True))

    def _displaced(self, part: Part) -> list[Part]:
        """The queue that a class loses as it gets its first child."""
        if not isinstance(part, Class):
            return []
        queue = self.here.pop(f"qdisc {part.device} {part.parent}", None)
        return [queue] if queue else []


def _in_the_way(old: Sequence[Part], new: dict[str, Part], unfit: frozenset[str]) -> set[str]:
    """Keys of what has to go before its successor can come."""
    classes = {(p.device, p.classid): p.key for p in new.values() if isinstance(p, Class)}
    groups: dict[tuple[str, str, int], tuple[str, ...]] = {}
    for part in new.values():
        if isinstance(part, Filter):
            groups.setdefault((part.device, part.parent, part.preference), _sort(part))
    found: set[str] = set()
    for part in old:
        after = new.get(part.key)
        if part.key in unfit:
            found.add(part.key)
        elif isinstance(part, Class) and classes.get((part.device, part.classid), part.key) != part.key:
            found.add(part.key)  # a class cannot move to another parent
        elif isinstance(part, Filter) and groups.get(_place(part), _sort(part)) != _sort(part):
            found.add(part.key)  # those of one preference are of one kind and protocol
        elif after is not None and not _changes(part, after):
            found.add(part.key)
    return {part.key for part in _with_dependents([p for p in old if p.key in found], old)}


def _place(part: Filter) -> tuple[str, str, int]:
    return part.device, part.parent, part.preference


def _group(part: Filter) -> Group:
    return *_place(part), *_sort(part)


def _sort(part: Filter) -> tuple[str, ...]:
    """What filters of one preference have in common; of fw also the mask (net/sched/cls_fw.c)."""
    return part.protocol, part.kind, part.handle.partition("/")[2] if part.kind == "fw" else ""


def _changes(old: Part, new: Part) -> bool:
    """Whether the one can become the other while it stands."""
    if old == new or not isinstance(old, Qdisc) or not isinstance(new, Qdisc):
        return old == new or new.change() is not None or isinstance(new, Filter)
    if old.handle != new.handle:
        return True  # the kernel puts the whole new tree in the place of the old
    if old.kind != new.kind:
        return not new.handle  # the same, below a class
    before, after = _words(old.options), _words(new.options)
    fixed = _FIXED.get(new.kind, "")
    # What a change does not name stays as it was.
    return new.kind not in _RIGID and before.keys() == after.keys() and before.get(fixed) == after.get(fixed)


def _words(options: str) -> dict[str, list[str]]:
    """Each word with the numbers behind it."""
    found: dict[str, list[str]] = {}
    word = ""
    for token in options.split():
        if token[0].isalpha():
            word = token
            found[word] = []
        else:
            found.setdefault(word, []).append(token)
    return found


def _with_dependents(chosen: list[Part], old: Sequence[Part]) -> list[Part]:
    """The chosen and what cannot be without them, in the order of `old`."""
    keys = {part.key for part in chosen}
    for part in chosen:
        keys |= {below.key for below in _below(part, old)}
    classes = {(part.device, part.classid) for part in old if isinstance(part, Class) and part.key in keys}
    for part in old:  # parents come first
        if isinstance(part, Class) and (part.device, part.parent) in classes:
            classes.add((part.device, part.classid))
            keys.add(part.key)
    for part in old:
        on = (part.device, part.parent) if isinstance(part, Qdisc) else None
        if on in classes or (isinstance(part, Filter) and (part.device, part.classid) in classes):
            keys.add(part.key)
    return [part for part in old if part.key in keys]


def _below(part: Part, parts: Iterable[Part]) -> list[Part]:
    """What goes by itself when a device, a root or a class goes."""
    if isinstance(part, Link):
        return [p for p in parts if isinstance(p, (Qdisc, Class, Filter)) and p.device == part.device]
    if isinstance(part, Qdisc) and part.parent == "root":
        return [p for p in parts if _within(p, part.device)]
    if isinstance(part, Class):
        return [p for p in parts if isinstance(p, Qdisc) and (p.device, p.parent) == (part.device, part.classid)]
    return []


def _within(part: Part, device: str) -> bool:
    """Whether a part belongs to the tree on a device's way out."""
    arrival = "ingress", "ffff:", "root"
    return isinstance(part, (Qdisc, Class, Filter)) and part.device == device and part.parent not in arrival


def _added(part: Part, displaced: Sequence[Part] = ()) -> Iterator[Step]:
    """Make it. `displaced` comes back when it goes again."""
    first, *others = part.add() or ("",)
    undo = (*_deletion(part), *_commands(displaced))
    if first:
        yield Step(Command(part.tool, first), undo, part.origin)
    for text in others:
        yield Step(Command(part.tool, text), (), part.origin)


def _each(part: Part, texts: Iterable[str], undo: tuple[Command, ...]) -> Iterator[Step]:
    for number, text in enumerate(texts):
        yield Step(Command(part.tool, text), undo if number == 0 else (), part.origin)


def _exchanged(old: Filter, new: Filter) -> Iterator[Step]:
    """A filter that cannot change in place; a copy of the new one stands in meanwhile."""
    node = int(old.handle.rpartition(":")[2] or "0", 16)
    copy = Filter(
        new.device, new.parent, new.preference, new.protocol, new.kind, new.options, f"::{_ASIDE + node:x}", new.classid
    )
    roomy = 0 < node < _ASIDE
    steps = [(copy.add(), copy.delete())] if roomy else []
    steps += [(old.delete(), old.add()), (new.add(), new.delete())]
    steps += [(copy.delete(), copy.add())] if roomy else []
    for texts, undo in steps:
        yield from _each(new, texts, tuple(Command(new.tool, text) for text in undo))


def _removed(gone: Iterable[Part], old: Iterable[Part], new: dict[str, Part]) -> Iterator[Step]:
    """Take these of the old away, last made first; what goes by itself needs no command."""
    gone, old = list(gone), list(old)
    alone = {below.key for part in gone for below in _below(part, gone)}
    swept = _whole_groups(gone, old, new)
    for part in reversed(gone):
        if part.key in alone:
            continue
        if isinstance(part, Filter) and (group := _group(part)) in swept:
            if swept[group]:
                yield Step(Command(part.tool, part.sweep()), _commands(swept[group]), part.origin)
            swept[group] = []
            continue
        yield from _each(part, part.delete(), _commands([part, *_below(part, old)]))


def _whole_groups(gone: Iterable[Part], old: Iterable[Part], new: dict[str, Part]) -> dict[Group, list[Filter]]:
    """Filters of one preference that all go, without any to come: one command serves them all.

    The kernel would keep an empty preference, where another kind of filter could not take its place (`u32_delete`).
    """
    kept = {_group(part) for part in new.values() if isinstance(part, Filter)}
    keys = {part.key for part in gone}
    found: dict[Group, list[Filter]] = {}
    for part in old:
        if isinstance(part, Filter):
            found.setdefault(_group(part), []).append(part)
    return {
        group: members
        for group, members in found.items()
        if group not in kept and all(part.key in keys for part in members)
    }


def _commands(parts: Iterable[Part], *, change: bool = False) -> tuple[Command, ...]:
    """What makes parts as they were."""
    return tuple(
        Command(part.tool, text) for part in parts for text in ((change and part.change()) or part.add()) if text
    )


def _deletion(part: Part) -> tuple[Command, ...]:
    return tuple(Command(part.tool, text) for text in part.delete())
