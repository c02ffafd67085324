"""Rules that give packets to classes, first match first; where neighbours ask alike, one look-up instead of many.

A thousand classes then cost a packet as little as one. The order stays what it was: only neighbours are joined, and of
two that want the same packet the first has it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby, product
from typing import TYPE_CHECKING, TypeAlias

from markway.compiler.matches import Exact, statements
from markway.program.nft import And, Assign, Concat, Mapped, Set, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markway.compiler.matches import Alternative
    from markway.program.nft import Rule

PRIORITY = Term("meta priority")
"""What the disciplines take as a class (htb_classify in net/sched/sch_htb.c), before they ask any filter."""

_RETURN = Written("return")
_LONGEST_KEY = 16
_MOST_VALUES = 4096

Signature: TypeAlias = tuple[tuple[str, str], ...]


@dataclass
class Lookups:
    """The rules of a chain, with the maps that they need."""

    rules: list[Rule] = field(default_factory=list)
    sets: dict[str, Set] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)

    def look_up(self, name: str, keys: Sequence[Term | And], kinds: tuple[str, ...], found: dict[str, str]) -> None:
        """A map from keys of these types (nft's names) to classes, and the rule that asks it."""
        self.sets[name] = Set(name, kinds, ("classid",))
        self.elements[name] = found
        self.rules.append((Assign(PRIORITY, Mapped(keys[0] if len(keys) == 1 else Concat(keys), name)), _RETURN))

    def add(self, chain: str, wanted: Iterable[tuple[Alternative, str]]) -> None:
        """Give packets of each alternative to its class, in this order."""
        for signature, run in groupby(wanted, lambda item: _signature(item[0])):
            members = list(run)
            if signature is None or len(members) == 1:
                self.rules += [chosen(alternative, classid) for alternative, classid in members]
            else:
                self._join(chain, members)

    def _join(self, chain: str, members: list[tuple[Alternative, str]]) -> None:
        found: dict[str, str] = {}
        for alternative, classid in members:
            values = (condition.values for condition in alternative if isinstance(condition, Exact))
            for key in product(*values):
                found.setdefault(" . ".join(key), classid)
        conditions = [condition for condition in members[0][0] if isinstance(condition, Exact)]
        keys, kinds = zip(*((condition.key, condition.kind) for condition in conditions), strict=True)
        words = "-".join(str(key).split(" & ")[0].replace(" ", ".") for key in keys)
        stem, count = f"{chain}/{words}", 1
        name = stem
        while name in self.sets:
            count += 1
            name = f"{stem}/{count}"
        self.look_up(name, keys, kinds, found)


def chosen(alternative: Alternative, classid: str) -> Rule:
    """The rule that gives packets to a class."""
    return (*statements(alternative), Assign(PRIORITY, Term(classid)), _RETURN)


def _signature(alternative: Alternative) -> Signature | None:
    """What two alternatives must have in common to be looked up in one map; None if this one cannot be.

    A key longer than 16 bytes overwrites the data in front of it (see `sentence._remembered_source`).
    """
    exact = [condition for condition in alternative if isinstance(condition, Exact)]
    count = 1
    for condition in exact:
        count *= len(condition.values)
    size = sum(condition.size for condition in exact)
    if not exact or len(exact) < len(alternative) or size > _LONGEST_KEY or count > _MOST_VALUES:
        return None
    return tuple((str(condition.key), condition.kind) for condition in exact)
