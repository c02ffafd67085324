"""A shape becomes a tree of traffic control: the root discipline, its classes, and what holds their packets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from markway.compiler.abilities import CompileError
from markway.compiler.disciplines import HANDLES, burst, chosen, lacking, options, quantum
from markway.config.shaping import Discipline, ShapeClass
from markway.program.model import ClassEntry
from markway.program.plumbing import Class, Qdisc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.compiler.abilities import Abilities
    from markway.config.shaping import Shape
    from markway.program.plumbing import Part

DEFAULT = "fffe"
"""The minor number of the class of what nothing else takes: htb cannot change which one that is (`htb_init`)."""

TOP = "fffd"
"""The minor number of the class above all, which has the shape's rate: only below one parent do classes borrow."""

ALL = "all"
"""The class of a shape that has none of its own, but needs one to hold its rate."""

_HOLDS_RATE = frozenset({"htb", "tbf", "cake"})
_FEWEST_BANDS = 2
_HTB_PRIORITIES = 8
_NAMED_AT_MOST = 4


def class_names(shape: Shape) -> Mapping[str, str]:
    """What the number of each class is given to: the way to it, so that a class that moves is another one."""
    paths: dict[str, str] = {"": f"shape/{shape.name}"}
    for item in shape.classes:
        paths[item.name] = f"{paths[item.parent]}/{item.name}"
    return {name: path for name, path in paths.items() if name and name != shape.default}


@dataclass(frozen=True)
class Tree:
    """A shape as it stands on a device. `classids` has the classes that hold packets."""

    shape: Shape
    device: str
    numbers: Mapping[str, int]
    abilities: Abilities

    @cached_property
    def handle(self) -> str:
        """The handle of the root, with a colon behind it."""
        return HANDLES[self.root.kind]

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What stands instead of what was asked for."""
        of: dict[str, list[str]] = {}
        for name, (_, notice) in self._leaves.items():
            of.setdefault(notice, []).append(name)
        found = (f"{_listed(names)}: {notice}" for notice, names in of.items() if notice)
        return (*([self._root[1]] if self._root[1] else []), *found)

    @property
    def root(self) -> Discipline:
        """The discipline at the root."""
        return self._root[0]

    @cached_property
    def _root(self) -> tuple[Discipline, str]:
        """The one asked for, or what comes near: htb, where classes or a rate are to be held, else any."""
        shape, wanted = self.shape, self.shape.root
        origin = (*shape.origin, "discipline")
        if wanted.kind in self.abilities.disciplines:
            vain = shape.rate and wanted.kind not in _HOLDS_RATE
            return wanted, f"{wanted.kind} holds no rate; only the device's own bounds it" if vain else ""
        if not shape.rate and not shape.classes:
            return chosen(wanted, self.abilities, origin, 0, strict=shape.strict)
        if "htb" not in self.abilities.disciplines:
            raise lacking("htb", origin)
        if shape.strict or wanted.strict:
            raise lacking(wanted.kind, origin, "htb")
        if not shape.rate:
            raise CompileError(origin, f"this kernel has no {wanted.kind}", "htb stands in if the shape has a rate")
        return Discipline("htb"), f"this kernel has no {wanted.kind}; htb is the nearest"

    @cached_property
    def classes(self) -> tuple[ShapeClass, ...]:
        """The classes of the tree; one of its own if the root needs one, and what htb needs of bands."""
        shape = self.shape
        if self.root.kind != "htb":
            return shape.classes if self.root.kind == "prio" else ()
        if not shape.classes:
            return (ShapeClass(ALL, rate=shape.rate, origin=shape.origin),)
        if shape.root.kind == "prio":
            return tuple(_band(item, index, shape) for index, item in enumerate(shape.classes))
        return shape.classes

    @property
    def default(self) -> str:
        """The class of what nothing else takes."""
        return self.shape.default or (self.classes[0].name if self.classes else "")

    @cached_property
    def classids(self) -> Mapping[str, str]:
        """The class number of each class, by name."""
        if self.root.kind == "prio":
            return {item.name: f"{self.handle}{band:x}" for band, item in enumerate(self.classes, 1)}
        paths = class_names(self.shape)
        return {
            item.name: f"{self.handle}{DEFAULT if item.name == self.default else f'{self.numbers[paths[item.name]]:x}'}"
            for item in self.classes
        }

    @cached_property
    def _inner(self) -> frozenset[str]:
        return frozenset(item.parent for item in self.classes)

    @cached_property
    def _leaves(self) -> Mapping[str, tuple[Discipline, str]]:
        shape = self.shape
        return {
            item.name: chosen(
                item.leaf or shape.leaf,
                self.abilities,
                (*(item.origin if item.leaf else shape.origin), "leaf"),
                item.ceil or item.rate,
                strict=shape.strict,
            )
            for item in self.classes
            if item.name not in self._inner
        }

    def parts(self) -> Iterator[Part]:
        """What the device needs, in the order in which it is made."""
        shape = self.shape
        yield Qdisc(self.device, "root", self.root.kind, self._root_options(), self.handle, shape.origin)
        if self.root.kind == "htb" and shape.rate:
            size = shape.burst or burst(shape.rate, None)
            rate, share = shape.rate, quantum(shape.rate, None, shape.rate)
            top, overhead = f"{self.handle}{TOP}", shape.overhead
            yield Class(
                self.device, self.handle, top, rate, rate, size, size, 0, share, None, overhead, origin=shape.origin
            )
        for item in self.classes:
            classid = self.classids[item.name]
            if self.root.kind == "htb":
                yield self._class(item, classid)
            if item.name in self._leaves:
                leaf, _ = self._leaves[item.name]
                yield Qdisc(self.device, classid, leaf.kind, options(leaf), origin=item.origin)

    def _root_options(self) -> str:
        if self.root.kind == "htb":
            return f"default {DEFAULT}"
        if self.root.kind == "prio" and self.classes:
            names = [item.name for item in self.classes]
            bands = max(len(names), _FEWEST_BANDS)
            return f"bands {bands} priomap {' '.join([str(names.index(self.default))] * 16)}"
        return options(self.root)

    def _class(self, item: ShapeClass, classid: str) -> Class:
        ceil = item.ceil or item.rate
        top = f"{self.handle}{TOP}" if self.shape.rate else self.handle
        return Class(
            self.device,
            self.classids[item.parent] if item.parent else top,
            classid,
            item.rate,
            ceil,
            item.burst or burst(item.rate, item.mtu),
            item.cburst or burst(ceil, item.mtu),
            item.prio,
            item.quantum or quantum(item.rate, item.mtu, self.shape.rate),
            item.mtu,
            self.shape.overhead,
            item.origin,
        )

    def entries(self) -> tuple[ClassEntry, ...]:
        """What a person wants to know of the classes, parents before their children."""
        return tuple(
            ClassEntry(
                item.name,
                item.parent,
                self.classids[item.name],
                item.rate,
                item.ceil or item.rate,
                item.prio,
                self._leaves[item.name][0].kind if item.name in self._leaves else "",
                default=item.name == self.default,
            )
            for item in self.classes
        )


def _listed(names: list[str]) -> str:
    if len(names) > _NAMED_AT_MOST:
        return f"{len(names)} classes"
    return f"class {names[0]}" if len(names) == 1 else f"classes {', '.join(names[:-1])} and {names[-1]}"


def _band(item: ShapeClass, index: int, shape: Shape) -> ShapeClass:
    """A band of `prio` as a class of htb: next to nothing is its own, and what it borrows goes by priority."""
    rate = max(shape.rate // 100 // len(shape.classes), 8)
    priority = min(index, _HTB_PRIORITIES - 1)
    return ShapeClass(
        item.name, rate=rate, ceil=shape.rate, prio=priority, leaf=item.leaf, matches=item.matches, origin=item.origin
    )
