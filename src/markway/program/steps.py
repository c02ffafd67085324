"""From old plumbing to new in the fewest commands: what comes before the table's transaction, and what after it.

What is new is made first, what is in place changed there, and what goes is removed last: so a packet always has a
class to go to. Each step carries what takes it back, and the key of the file that it comes from. A few things the
kernel does not let stand beside their successor; these go first (`_in_the_way`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from markway.program.below import Below, group_of, is_table, place_of, sort_of, table_of
from markway.program.plumbing import Class, Filter, Origin, Qdisc, Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.program.below import Group, Place
    from markway.program.plumbing import Part

_RIGID = frozenset({"htb", "pfifo_fast"})
"""Kinds that cannot be changed at all (Qdisc_ops.change in net/sched/sch_*.c)."""

_FIXED = {"fq_codel": "flows", "sfq": "divisor", "prio": "bands"}
"""The option that a kind cannot change; prio could, but would drop the queues of the bands that go."""

_ASIDE = 0x800
"""Where a u32 filter has its copy while it is made anew: handles go up to 0xfff."""


class Command(NamedTuple):
    """One line of a tool's batch, without the tool's name. A lenient one may be refused: it has nothing to do then."""

    tool: str
    text: str
    lenient: bool = False


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
        self.kept = {group_of(part) for part in new if isinstance(part, Filter)}
        self.old = Below({part.key: part for part in old if not self._filled(part)}.values())
        first = self.old.with_dependents(_in_the_way(self.old.parts, self.new, unfit))
        self.first = [part for part in self.old.parts if part.key in first]
        self.here = {part.key: part for part in self.old.parts if part.key not in first}
        self.groups = Below(self.here.values()).groups.keys()
        self.begun: set[Group] = set()

    def _filled(self, part: Part) -> bool:
        """Whether a preference that is empty gets filters."""
        return isinstance(part, Filter) and not part.handle and group_of(part) in self.kept

    def steps(self) -> Steps:
        """All of them."""
        before = list(self._removed(self.first, self.old))
        late: list[Qdisc] = []
        settings: list[Step] = []
        parents = {(part.device, part.parent) for part in self.here.values() if isinstance(part, Class)}
        inner = {(part.device, part.parent) for part in self.new.values() if isinstance(part, Class)}
        for part in self.new.values():
            there = self.here.get(part.key)
            if isinstance(part, Qdisc) and there is None and (part.device, part.parent) in parents - inner:
                late.append(part)  # its class cannot have a queue before its last child has gone
            elif isinstance(part, Setting) and part != there:
                settings += self._made(part, there)  # net/netfilter is there once a rule has asked for connections
            elif part != there:
                before += self._made(part, there)
        gone = [part for key, part in self.here.items() if key not in self.new]
        after = [*settings, *self._removed(gone, Below(self.here.values()))]
        after += [step for part in late for step in self._late(part)]
        return Steps(tuple(before), tuple(after))

    def _late(self, part: Qdisc) -> Iterator[Step]:
        """The queue of a class that has lost its last child, which takes its prio and quantum only now."""
        above = next(p for p in self.new.values() if isinstance(p, Class) and _holds(p, part))
        yield from _each(above, above.change() or (), ())
        yield from _added(part, _deletion(part))

    def _made(self, part: Part, there: Part | None) -> Iterator[Step]:
        if there is None:
            yield from _added(part, self._taken_back(part))
        elif isinstance(part, Qdisc) and isinstance(there, Qdisc) and part.handle != there.handle:
            below = Below(self.here.values()).of(there)
            yield from _each(part, part.add(), _commands([there, *below]))
            for lost in below:
                self.here.pop(lost.key, None)
        elif isinstance(part, Filter) and isinstance(there, Filter) and part.change() is None:
            yield from _exchanged(there, part)
        else:
            yield from _each(part, part.change() or part.add(), _commands([there], change=True))

    def _taken_back(self, part: Part) -> tuple[Command, ...]:
        """What undoes an addition."""
        if isinstance(part, Class) and (queue := self.here.pop(f"qdisc {part.device} {part.parent}", None)):
            return (*_deletion(part), *_commands([queue]))  # the kernel drops it when the class gets its first child
        if isinstance(part, Filter) and (group := group_of(part)) not in self.groups:
            if group not in self.begun:
                self.begun.add(group)
                return (*_deletion(part), _swept(part, lenient=True))
            return () if table_of(part) else _deletion(part)  # what is in a table goes with it
        return _deletion(part)

    def _removed(self, gone: list[Part], old: Below) -> Iterator[Step]:
        """Take these of the old away, last made first; what goes by itself needs no command.

        If all of one preference go and none comes, they go with it: the kernel would keep it empty, where no other
        kind of filter could take its place (`u32_delete`). It would also keep the hash tables that they are in.
        """
        keys = {part.key for part in gone}
        alone = {below.key for part in gone for below in old.of(part)} & keys
        for part in reversed(gone):
            if part.key in alone:
                continue
            group = old.groups[group_of(part)] if isinstance(part, Filter) else []
            whole = group and group_of(group[0]) not in self.kept and all(member.key in keys for member in group)
            if not isinstance(part, Filter) or not whole:
                yield from _each(part, part.delete(), _commands([part, *old.of(part)]))
            elif any(map(is_table, group)):
                yield from _each(part, part.delete(), _commands([part, *old.of(part)]))
                if part.key == group[0].key:
                    yield Step(_swept(part, lenient=True), (), part.origin)
            else:
                yield Step(_swept(part), _commands(group), part.origin)
                alone |= {member.key for member in group}


def _in_the_way(old: Sequence[Part], new: dict[str, Part], unfit: frozenset[str]) -> set[str]:
    """Keys of what has to go before its successor can come."""
    classes = {(p.device, p.classid): p.key for p in new.values() if isinstance(p, Class)}
    sorts: dict[Place, tuple[str, ...]] = {}
    for part in new.values():
        if isinstance(part, Filter):
            sorts.setdefault(place_of(part), sort_of(part))
    found: set[str] = set()
    for part in old:
        after = new.get(part.key)
        if part.key in unfit:
            found.add(part.key)
        elif isinstance(part, Class) and classes.get((part.device, part.classid), part.key) != part.key:
            found.add(part.key)  # a class cannot move to another parent
        elif isinstance(part, Filter) and sorts.get(place_of(part), sort_of(part)) != sort_of(part):
            found.add(part.key)  # those of one preference are of one kind and protocol
        elif after is not None and not _changes(part, after):
            found.add(part.key)
    return found


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


def _holds(part: Class, queue: Qdisc) -> bool:
    return (part.device, part.classid) == (queue.device, queue.parent)


def _added(part: Part, undo: tuple[Command, ...]) -> Iterator[Step]:
    return _each(part, part.add(), undo)


def _each(part: Part, texts: Iterable[str], undo: tuple[Command, ...]) -> Iterator[Step]:
    """The commands of one part; the first of them needs what takes it back."""
    for number, text in enumerate(texts):
        yield Step(Command(part.tool, text), undo if number == 0 else (), part.origin)


def _exchanged(old: Filter, new: Filter) -> Iterator[Step]:
    """A filter that cannot change in place; a copy of the new one stands in meanwhile."""
    copy = copy_of(new)
    steps = [(copy.add(), copy.delete())] if copy else []
    steps += [(old.delete(), old.add()), (new.add(), new.delete())]
    steps += [(copy.delete(), copy.add())] if copy else []
    for texts, undo in steps:
        yield from _each(new, texts, tuple(Command(new.tool, text) for text in undo))


def copy_of(part: Filter) -> Filter | None:
    """What stands in for a u32 filter while that is made anew; None of what has no room for it."""
    table, _, number = part.handle.rpartition(":")
    node = int(number, 16) if part.kind == "u32" and number else 0
    return replace(part, handle=f"{table}:{_ASIDE + node:x}") if 0 < node < _ASIDE else None


def _swept(part: Filter, *, lenient: bool = False) -> Command:
    return Command(part.tool, part.sweep(), lenient)


def _commands(parts: Iterable[Part], *, change: bool = False) -> tuple[Command, ...]:
    """What makes parts as they were."""
    return tuple(
        Command(part.tool, text) for part in parts for text in ((change and part.change()) or part.add()) if text
    )


def _deletion(part: Part) -> tuple[Command, ...]:
    return tuple(Command(part.tool, text) for text in part.delete())
