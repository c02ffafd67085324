"""The tree of a shape's classes: who shares whose rate, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from markway.config.build_matches import Placed, Scope, matches_of, unknown
from markway.config.disciplines import leaf_of
from markway.config.kinds import at
from markway.config.problems import quote
from markway.config.rates import parse_bandwidth, parse_size, show_bandwidth
from markway.config.shaping import Discipline, ShapeClass
from markway.config.values import check_name, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from markway.config.problems import Place, Report
    from markway.config.schema_shape import ClassTable, ShapeTable
    from markway.config.values import T

_LEAST_RATE = 8
_BANDS = range(2, 17)
"""How many bands prio can have (linux/pkt_sched.h, TCQ_PRIO_BANDS)."""
_RATED = ("parent", "rate", "ceil", "burst", "cburst", "prio", "quantum", "mtu")
"""What classes have of htb, and not of prio."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """The classes of one shape while they are checked."""

    place: Place
    rate: int
    report: Report
    classes: dict[str, ShapeClass] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)
    """The names of the children of each class; of "" those that share the shape's rate."""

    def at(self, name: str, *keys: str) -> Place:
        """The place of a class or of a key of it."""
        return at(self.place, "class", name, *keys)

    def children(self, name: str) -> list[ShapeClass]:
        """The classes that share the rate of one, or of the shape."""
        return [self.classes[one] for one in self.below.get(name, ())]


def classes_of(
    place: Place, table: ShapeTable, root: Discipline, rate: int, scope: Scope
) -> tuple[tuple[ShapeClass, ...], str]:
    """The classes, parents before their children, and which one takes what nothing else does."""
    report = scope.report
    tree = _Tree(place, rate, report)
    for name, given in table.classes.items():
        check_name(tree.at(name), report)
        if not name:
            continue
        tree.classes[name] = _class(tree.at(name), given, table, scope)
        if root.kind == "prio":
            _check_band(tree.at(name), given, report)
            tree.classes[name] = replace(tree.classes[name], parent="")
    if root.kind == "prio":
        _check_bands(tree)
    else:
        _check_parents(tree)
        for name, one in tree.classes.items():
            tree.below.setdefault(one.parent, []).append(name)
        _share(tree)
        _check_rates(tree)
    _check_inner(tree)
    ordered = _in_order(tree)
    return ordered, _default(tree, table, Leaves.of(ordered))


def _class(where: Place, table: ClassTable, shape: ShapeTable, scope: Scope) -> ShapeClass:
    report = scope.report

    def read(key: str, given: str | int | None, parse: Callable[[str], T], default: T) -> T:
        return value_of(at(where, key), None if given is None else str(given), parse, default, report)

    found = matches_of(at(where, "match"), table.match, scope)
    for one in found:
        _check_device(one, shape, report)
    size: int | None = None
    return ShapeClass(
        name=str(where.path[-1]),
        parent=table.parent,
        rate=read("rate", table.rate, parse_bandwidth, 0),
        ceil=read("ceil", table.ceil, parse_bandwidth, size),
        burst=read("burst", table.burst, parse_size, size),
        cburst=read("cburst", table.cburst, parse_size, size),
        prio=table.prio,
        quantum=table.quantum,
        mtu=read("mtu", table.mtu, parse_size, size),
        leaf=leaf_of(at(where, "leaf"), table.leaf, report),
        matches=tuple(one.match for one in found),
        origin=where.path,
    )


def _check_device(placed: Placed, shape: ShapeTable, report: Report) -> None:
    """Report a match that asks for the device that the shape has anyway."""
    match, where = placed
    if shape.direction == "egress" and match.outgoing_device is not None:
        hint = "leave it out" if match.outgoing_device == shape.device else "write a shape of that device"
        report.error(at(where, "outgoing-device"), f"all of it goes out by {shape.device}", hint)
    if shape.direction == "ingress" and match.incoming_device is not None:
        hint = "leave it out" if match.incoming_device == shape.device else "write a shape of that device"
        report.error(at(where, "incoming-device"), f"all of it came in by {shape.device}", hint)


def _check_band(where: Place, table: ClassTable, report: Report) -> None:
    for key in _RATED:
        if key in table.model_fields_set:
            report.error(at(where, key), "a band of prio has none: the first that waits goes first", "leave it out")


def _check_bands(tree: _Tree) -> None:
    if tree.classes and len(tree.classes) not in _BANDS:
        what = f"{len(tree.classes)} bands: prio has {_BANDS[0]} to {_BANDS[-1]}"
        tree.report.error(at(tree.place, "class"), what, 'discipline = "htb" has as many classes as you like')


def _check_parents(tree: _Tree) -> None:
    """Report parents that are not there, and classes above themselves; such a class is put at the top."""
    for name, one in [*tree.classes.items()]:
        if one.parent and unknown(tree.at(name, "parent"), "class", one.parent, tree.classes, tree.report):
            tree.classes[name] = replace(one, parent="")
    for name in tree.classes:
        above, seen = tree.classes[name].parent, [name]
        while above and above not in seen:
            seen.append(above)
            above = tree.classes[above].parent
        if above == name:
            way = " → ".join([*seen, name])
            tree.report.error(
                tree.at(name, "parent"), f"the class is above itself: {way}", "one of them belongs to the top"
            )
            tree.classes[name] = replace(tree.classes[name], parent="")


def _share(tree: _Tree) -> None:
    """Give classes without a rate an equal part of what the others leave, from the top down."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        rate = tree.classes[above].rate if above else tree.rate
        children = tree.children(above)
        waiting += [one.name for one in children]
        unset = [one for one in children if not one.rate and not tree.report.doubtful(tree.at(one.name), "rate")]
        left = rate - sum(one.rate for one in children)
        if not unset or not rate:
            continue
        part = left // len(unset)
        if part < _LEAST_RATE:
            owner = f"class {quote(above)}" if above else "the shape"
            what = f"no rate is given, and the other classes leave nothing of {owner}'s {show_bandwidth(rate)}"
            tree.report.error(tree.at(unset[0].name), what, "give it a rate, and the others less")
        for one in unset:
            tree.classes[one.name] = replace(one, rate=max(part, _LEAST_RATE))


def _check_rates(tree: _Tree) -> None:
    """Report rates that cannot be had, and those that cannot be had all at once."""
    report = tree.report
    for name, one in tree.classes.items():
        parent = tree.classes[one.parent] if one.parent else None
        rate = parent.rate if parent else tree.rate
        ceil = (parent.ceil or parent.rate) if parent else tree.rate
        owner = f"its parent {quote(parent.name)}" if parent else "the shape"
        if one.ceil is not None and one.ceil < one.rate:
            what = f"{show_bandwidth(one.ceil)} is less than the rate, which is {show_bandwidth(one.rate)}"
            report.error(tree.at(name, "ceil"), what, "a class may borrow up to its ceil: it is the rate or more")
        if rate and one.rate > rate:
            what = f"{show_bandwidth(one.rate)} is more than {owner} has: {show_bandwidth(rate)}"
            report.error(tree.at(name, "rate"), what, "nobody can be sure of it")
        elif ceil and one.ceil is not None and one.ceil > ceil:
            what = f"never reached: {owner} gets {show_bandwidth(ceil)} at most"
            report.warning(tree.at(name, "ceil"), what)
    for above in ("", *tree.classes):
        rate = tree.classes[above].rate if above else tree.rate
        children = tree.children(above)
        total = sum(one.rate for one in children)
        if rate and total > rate and all(one.rate <= rate for one in children):
            where = tree.at(above) if above else tree.place
            names = "its classes" if above else "the classes at the top"
            what = f"{names} are sure of {show_bandwidth(total)} together, and there are {show_bandwidth(rate)}"
            report.warning(where, what, "when all send, none gets what it is sure of")


def _check_inner(tree: _Tree) -> None:
    """Report what only a class without children can have: htb takes packets into leaves."""
    for name, one in tree.classes.items():
        below = tree.children(name)
        if not below:
            continue
        for key, given in (("match", one.matches), ("leaf", one.leaf)):
            if given:
                what = (
                    f"the class has children such as {quote(below[0].name)}, and only classes without any hold packets"
                )
                tree.report.error(tree.at(name, key), what, "match in a child, or write one for the rest")


@dataclass(frozen=True, slots=True)
class Leaves:
    """The names of a shape's classes: those that hold packets, and of the others one child each."""

    names: Collection[str]
    children: Mapping[str, str]

    @classmethod
    def of(cls, classes: Sequence[ShapeClass]) -> Self:
        """Those of a shape."""
        return cls(frozenset(one.name for one in classes), {one.parent: one.name for one in reversed(classes)})

    def has(self, where: Place, name: str, report: Report) -> bool:
        """Whether a class can take packets; if not, that is reported."""
        if unknown(where, "class", name, self.names, report):
            return False
        child = self.children.get(name)
        if child is not None:
            what = f"class {quote(name)} has children, and only classes without any hold packets"
            report.error(where, what, f"for example {quote(child)}")
        return child is None


def _default(tree: _Tree, table: ShapeTable, leaves: Leaves) -> str:
    if table.default is not None:
        leaves.has(at(tree.place, "default"), table.default, tree.report)
        return table.default
    if tree.classes:
        hint = f"for example default = {quote([*tree.classes][-1])}"
        tree.report.missing(tree.place, "default", "nothing says which class takes what no other does", hint)
    return ""


def _in_order(tree: _Tree) -> tuple[ShapeClass, ...]:
    """In the file's order, but parents before their children."""
    found: dict[str, ShapeClass] = {}
    for name in tree.classes:
        way = [name]
        while tree.classes[way[-1]].parent:
            way.append(tree.classes[way[-1]].parent)
        found |= {one: tree.classes[one] for one in reversed(way) if one not in found}
    return tuple(found.values())
