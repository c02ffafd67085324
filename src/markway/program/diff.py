"""From one program to another in the fewest steps, and the nft text of those in the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from markway.program.model import TABLE, Fragment, Program
from markway.program.nft import UNWRITTEN
from markway.program.steps import Steps, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.program.nft import Chain, Set

Elements: TypeAlias = "Mapping[str, Mapping[str, str]]"

_NOTHING = Fragment()


@dataclass(frozen=True)
class Change:
    """What changes for one owner.

    `chains` are written anew (made first if in `new_chains`); the `old_` ones go. A set whose
    definition changed is in `old_sets` and in `sets`.
    """

    owner: str
    kind: str  # added | changed | removed
    sets: tuple[Set, ...] = ()
    old_sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()
    new_chains: tuple[Chain, ...] = ()
    old_chains: tuple[Chain, ...] = ()
    objects: tuple[str, ...] = ()
    old_objects: tuple[str, ...] = ()
    add: Elements = field(default_factory=dict)
    delete: Elements = field(default_factory=dict)
    plumbed: bool = False
    """Whether what it wants beside the table changes."""

    @property
    def structural(self) -> bool:
        """Whether more than elements changes."""
        return any(
            (self.sets, self.old_sets, self.chains, self.old_chains, self.objects, self.old_objects),
        )


@dataclass(frozen=True)
class Changes:
    """All steps from one program to another."""

    old: Program
    new: Program
    parts: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.parts)

    @cached_property
    def steps(self) -> Steps:
        """What is to be done beside the table, if all is there that the old program wants."""
        owners = [part.owner for part in self.parts if part.plumbed]
        old, new = (
            [part for owner in owners if owner in program.fragments for part in program.fragments[owner].plumbing]
            for program in (self.old, self.new)
        )
        return steps(old, new)

    @property
    def structural(self) -> bool:
        """Whether more than elements changes: then the transaction is written as nft text."""
        return any(part.structural for part in self.parts)

    def set(self, name: str) -> Set:
        """A set of the new program, or one that goes."""
        shared = self.new.fragments.get("", _NOTHING).sets
        return shared.get(name) or self.new.sets.get(name) or self.old.sets[name]

    @property
    def plain(self) -> bool:
        """Whether nothing but elements, and rules of chains that stand, changes."""
        parts = self.parts
        return not any(
            p.sets or p.old_sets or p.new_chains or p.old_chains or p.objects or p.old_objects for p in parts
        )


def diff(old: Program, new: Program) -> Changes:
    """What must change for `old` to become `new`, by owner; unchanged fragments cost a comparison."""
    before, after = old.fragments, new.fragments
    shared = before.get("", _NOTHING).sets
    remade = {name for name, item in after.get("", _NOTHING).sets.items() if shared.get(name, item) != item}
    owners = before.keys() | after.keys() if remade else new.differing(old)
    parts = (_change(owner, before.get(owner), after.get(owner), new, remade) for owner in sorted(owners))
    return Changes(old, new, tuple(part for part in parts if part))


def _change(
    owner: str, old: Fragment | None, new: Fragment | None, program: Program, remade: set[str]
) -> Change | None:
    """What changes for one owner; `remade` are sets of the program that everyone has to fill anew."""
    if old and new and not remade and old.digest == new.digest:
        return None
    kind = "added" if old is None else "removed" if new is None else "changed"
    old, new = old or _NOTHING, new or _NOTHING
    shared = program.fragments.get("", _NOTHING).sets
    replaced = remade | {name for name, item in new.sets.items() if old.sets.get(name, item) != item}
    rewritten = {
        name
        for name, item in new.chains.items()
        if replaced or name not in old.chains or old.chains[name].lines != item.lines
    }  # the rules that use a set must be gone before it is
    change = Change(
        owner,
        kind,
        sets=tuple(item for name, item in new.sets.items() if name not in old.sets or name in replaced),
        old_sets=tuple(item for name, item in old.sets.items() if name not in new.sets or name in replaced),
        chains=tuple(item for name, item in new.chains.items() if name in rewritten),
        new_chains=tuple(item for name, item in new.chains.items() if name not in old.chains),
        old_chains=tuple(item for name, item in old.chains.items() if name not in new.chains),
        objects=tuple(item for item in new.objects if item not in old.objects),
        old_objects=tuple(item for item in old.objects if item not in new.objects),
        add=_without(new.elements, old.elements, replaced),
        delete=_unclaimed(_without(old.elements, new.elements, set()), program, {**shared, **new.sets}, replaced),
        plumbed=old.plumbing != new.plumbing,
    )
    same = not (change.structural or change.add or change.delete or change.plumbed)
    return None if same and kind == "changed" else change


def _without(left: Elements, right: Elements, whole: set[str]) -> dict[str, dict[str, str]]:
    """Elements of `left` that `right` lacks or has with another value; all of the sets in `whole`."""
    found = {}
    for name, items in left.items():
        other = {} if name in whole else right.get(name, {})
        missing = {key: value for key, value in items.items() if other.get(key) != value}
        if missing:
            found[name] = missing
    return found


def _unclaimed(elements: dict[str, dict[str, str]], new: Program, sets: Mapping[str, Set], gone: set[str]) -> Elements:
    """Elements that may really be deleted: their set is one of `sets`, and nobody else asks for them."""
    found: dict[str, dict[str, str]] = {}
    for name, items in elements.items():
        item = sets.get(name)
        if item is None or name in gone:
            continue
        others = new.fragments.values() if item.shared else ()
        claims = [fragment.elements[name] for fragment in others if name in fragment.elements]
        free = {key: value for key, value in items.items() if not any(key in claim for claim in claims)}
        if free:
            found[name] = free
    return found


def lines(changes: Changes) -> list[str]:
    """The changes as the lines of one nft(8) batch, which the kernel takes whole or not at all.

    The order is what the kernel's checks want: what is referred to comes before what refers,
    and goes after it.
    """
    return [line for phase in phases(changes).values() for line in phase]


def phases(changes: Changes) -> dict[str, list[str]]:
    """The batch in order, by phase; each phase's lines in nft syntax."""
    parts = changes.parts
    flushed = [item for part in parts for item in (*part.chains, *part.old_chains) if item not in part.new_chains]
    return {
        "make": [f"add table {TABLE}", *(line for part in parts for line in _made(part))],
        "empty": [f"flush chain {TABLE} {item.name}" for item in flushed],
        "take": [*_elements("delete", changes)],
        "drop": [line for part in parts for line in _dropped(part)],
        "sets": [line for part in parts for line in _sets(part)],
        "give": [*_elements("add", changes)],
        "rules": [
            f"{'# over netlink: ' if line.startswith(UNWRITTEN) else ''}add rule {TABLE} {item.name} {line}"
            for part in parts
            for item in part.chains
            for line in item.lines
        ],
    }


def _made(part: Change) -> Iterator[str]:
    yield from (f"add {item}" for item in (_with_table(text) for text in part.objects))
    for item in part.new_chains:
        yield f"add chain {TABLE} {item.name}" + (f" {{ {item.hook} }}" if item.hook else "")


def _with_table(text: str) -> str:
    kind, name, body = _object(text)
    return f"{kind} {TABLE} {name} {body}".rstrip()


def _object(text: str) -> tuple[str, str, str]:
    """Kind, name and body of an object: `ct helper ftp { … }`, `counter mark/slow`."""
    words = 2 if text.startswith("ct ") else 1
    *kind, name, body = [*text.split(" ", words + 1), ""][: words + 2]
    return " ".join(kind), name, body


def _dropped(part: Change) -> Iterator[str]:
    yield from (f"delete chain {TABLE} {item.name}" for item in part.old_chains)
    yield from (f"delete {item.noun} {TABLE} {item.name}" for item in part.old_sets)
    for text in part.old_objects:
        kind, name, _ = _object(text)
        yield f"delete {kind} {TABLE} {name}"


def _sets(part: Change) -> Iterator[str]:
    return (f"add {item.noun} {TABLE} {item.name} {{ {item.definition} }}" for item in part.sets)


def _elements(verb: str, changes: Changes) -> Iterator[str]:
    together: dict[str, dict[str, str]] = {}
    for part in changes.parts:
        for name, items in (part.add if verb == "add" else part.delete).items():
            together.setdefault(name, {}).update(items)
    for name, items in sorted(together.items()):
        if verb == "add":
            item = changes.set(name)
            texts: Iterable[str] = (item.element(key, value) for key, value in items.items())
        else:
            texts = items
        yield f"{verb} element {TABLE} {name} {{ {', '.join(texts)} }}"
