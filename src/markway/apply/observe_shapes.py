"""What the kernel counted in the trees of shapes, beside what the program asked for."""

from __future__ import annotations

import socket
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from markway.kernel.rtnetlink import Rtnetlink
from markway.kernel.tc_stats import NOTHING, Counters, Tree, trees
from markway.program.plumbing import HANDLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.program.model import ClassEntry, Program, ShapeEntry


class Standing(StrEnum):
    """How a shape is there: `absent` with its device, `lost` if the device has another discipline than ours."""

    UP = "up"
    ABSENT = "absent"
    LOST = "lost"


class ClassSeen(NamedTuple):
    """One class: what it was to get, and what it got since it was made.

    Of a class with others below it, `dropped`, `backlog` and `waiting` are theirs.
    """

    entry: ClassEntry
    counted: Counters


class ShapeSeen(NamedTuple):
    """One shape: what it was to be, and what all of it sent. Its classes are in the program's order."""

    entry: ShapeEntry
    standing: Standing
    counted: Counters
    classes: tuple[ClassSeen, ...]


def observe_shapes(program: Program) -> list[ShapeSeen]:
    """Read the counters of all shapes of a program that is in force, in the network namespace of the thread.

    Raises:
        NetlinkError: the kernel refused.
    """
    shapes = program.shapes
    if not shapes:
        return []
    indexes = {shape.acts_on: _index(shape.acts_on) for shape in shapes}
    with Rtnetlink() as netlink:
        found = trees(netlink, {index for index in indexes.values() if index})
    return [_shape(shape, found.get(indexes[shape.acts_on])) for shape in shapes]


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


def _shape(entry: ShapeEntry, tree: Tree | None) -> ShapeSeen:
    ours = tree is not None and tree.handle >> 16 in HANDLES
    found = tree if tree is not None and ours else Tree()
    standing = Standing.ABSENT if tree is None else Standing.UP if ours else Standing.LOST
    below: dict[str, list[ClassEntry]] = {}
    for one in entry.classes:
        below.setdefault(one.parent, []).append(one)
    counted: dict[str, Counters] = {}
    for one in below.get("", ()):
        _count(one, below, found, counted)
    classes = tuple(ClassSeen(one, counted.get(one.name, NOTHING)) for one in entry.classes)
    return ShapeSeen(entry, standing, found.root, classes)


def _count(entry: ClassEntry, below: Mapping[str, list[ClassEntry]], tree: Tree, counted: dict[str, Counters]) -> None:
    """Count a class and all below it.

    htb counts what its leaves drop by themselves (a queue of sfq that is full, the delay of fq_codel) at no class, but
    at the leaf.
    """
    number = _number(entry.classid)
    own = tree.classes.get(number, NOTHING)
    leaf = tree.leaves.get(number, NOTHING)
    dropped, backlog, waiting = max(own.dropped, leaf.dropped), own.backlog, own.waiting
    for child in below.get(entry.name, ()):
        _count(child, below, tree, counted)
        found = counted[child.name]
        dropped, backlog, waiting = dropped + found.dropped, backlog + found.backlog, waiting + found.waiting
    now = leaf.now if own.now is None else own.now
    lent = own.lent if entry.name in below else 0
    counted[entry.name] = own._replace(dropped=dropped, backlog=backlog, waiting=waiting, now=now, lent=lent)


def _number(classid: str) -> int:
    major, _, minor = classid.partition(":")
    return int(major, 16) << 16 | int(minor or "0", 16)
