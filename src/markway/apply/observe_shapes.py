"""What the kernel counted in the trees of shapes and at marking rules, beside what the program asked for."""

from __future__ import annotations

import socket
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from markway.kernel.rtnetlink import Rtnetlink
from markway.kernel.table import Count, read_counters
from markway.kernel.tc_stats import NOTHING, Counters, Tree, trees
from markway.program.plumbing import HANDLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.kernel.netlink import Netlink
    from markway.program.model import ClassEntry, MarkEntry, Program, ShapeEntry


class Standing(StrEnum):
    """How a shape is there: `absent` with its device, `lost` if no discipline of ours is where it acts."""

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


class MarkSeen(NamedTuple):
    """One marking rule, and the packets that it marked."""

    entry: MarkEntry
    counted: Count


def observe_marks(netlink: Netlink, program: Program) -> list[MarkSeen]:
    """Read the counters of all marking rules of a program that is in force.

    Raises:
        NetlinkError: the kernel refused.
    """
    found = read_counters(netlink) if program.marks else {}
    return [MarkSeen(entry, found.get(entry.counter, Count(0, 0))) for entry in program.marks]


def observe_shapes(program: Program) -> list[ShapeSeen]:
    """Read the counters of all shapes of a program that is in force, in the network namespace of the thread.

    Raises:
        NetlinkError: the kernel refused.
    """
    shapes = program.shapes
    if not shapes:
        return []
    indexes = {name: _index(name) for shape in shapes for name in (shape.device, shape.acts_on)}
    with Rtnetlink() as netlink:
        found = trees(netlink, {indexes[shape.acts_on] for shape in shapes} - {0})
    return [
        _shape(shape, found.get(indexes[shape.acts_on], Tree()), there=bool(indexes[shape.device])) for shape in shapes
    ]


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


def _shape(entry: ShapeEntry, found: Tree, *, there: bool) -> ShapeSeen:
    ours = found.handle >> 16 in HANDLES
    tree = found if ours else Tree()
    standing = Standing.UP if ours and there else Standing.LOST if there else Standing.ABSENT
    below: dict[str, list[ClassEntry]] = {}
    for one in entry.classes:
        below.setdefault(one.parent, []).append(one)
    counted: dict[str, Counters] = {}
    for one in below.get("", ()):
        _count(one, below, tree, counted)
    classes = tuple(ClassSeen(one, counted.get(one.name, NOTHING)) for one in entry.classes)
    return ShapeSeen(entry, standing, tree.root, classes)


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
