"""What the kernel counted in queueing disciplines and their classes, by rtnetlink.

Layouts: linux/rtnetlink.h (struct tcmsg), linux/gen_stats.h (TCA_STATS2), linux/pkt_sched.h (TCA_XSTATS).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from markway.kernel.netlink import each

if TYPE_CHECKING:
    from collections.abc import Collection

    from markway.kernel.rtnetlink import Rtnetlink

_GET_DISCIPLINE, _GET_CLASS = 38, 42
_HEAD = struct.Struct("=BxxxiIIxxxx")  # family, device, handle, parent
_KIND, _XSTATS, _STATS2 = 1, 4, 7
_BASIC, _RATE, _QUEUE, _RATE64, _PACKETS64 = 1, 2, 3, 5, 8
_OCTETS_PACKETS = struct.Struct("=QI")
_QUEUE_FIGURES = struct.Struct("=5I")  # packets, octets, drops, requeues, overlimits
_RATE_FIGURE, _RATE64_FIGURE = struct.Struct("=I"), struct.Struct("=Q")
_HTB_FIGURES = struct.Struct("=II")  # lends, borrows
_ROOT = 0xFFFF_FFFF


class Counters(NamedTuple):
    """Of one discipline or class since it was made. `now` is bits per second, None where no one has it measured.

    `sent`, `backlog` are bytes, `waiting` packets. `borrowed` and `lent` are packets that left on a rate of a class
    above, and that those below left on this one's (tc-htb(8)); htb counts what leaves on its own rate as lent, too.
    """

    sent: int = 0
    packets: int = 0
    dropped: int = 0
    overlimits: int = 0
    backlog: int = 0
    waiting: int = 0
    now: int | None = None
    borrowed: int = 0
    lent: int = 0


NOTHING = Counters()


@dataclass(frozen=True, slots=True)
class Tree:
    """All on one device's way out: the `handle` and counters of the root, classes by their number, leaves by theirs."""

    handle: int = 0
    root: Counters = NOTHING
    classes: dict[int, Counters] = field(default_factory=dict)
    leaves: dict[int, Counters] = field(default_factory=dict)


class _Found(NamedTuple):
    device: int
    handle: int
    parent: int
    counters: Counters


def trees(netlink: Rtnetlink, devices: Collection[int]) -> dict[int, Tree]:
    """What stands on some devices, by their indexes; an empty tree for one that is gone.

    One dump of all disciplines, and one of each device's classes.

    Raises:
        NetlinkError: the kernel refused.
    """
    roots: dict[int, _Found] = {}
    leaves: dict[int, dict[int, Counters]] = {device: {} for device in devices}
    for data in netlink.dump(_GET_DISCIPLINE, _HEAD.pack(0, 0, 0, 0)):
        if _HEAD.unpack_from(data)[1] in leaves:
            found = _read(data)
            if found.parent == _ROOT:
                roots[found.device] = found
            else:
                leaves[found.device][found.parent] = found.counters
    return {device: _tree(netlink, device, roots.get(device), leaves[device]) for device in devices}


def _tree(netlink: Rtnetlink, device: int, root: _Found | None, leaves: dict[int, Counters]) -> Tree:
    if root is None:
        return Tree()
    found = map(_read, netlink.dump(_GET_CLASS, _HEAD.pack(0, device, 0, 0)))
    return Tree(root.handle, root.counters, {one.handle: one.counters for one in found}, leaves)


def _read(data: bytes) -> _Found:
    _, device, handle, parent = _HEAD.unpack_from(data)
    kind, stats, own = b"", b"", b""
    for name, value in each(data[_HEAD.size :]):
        if name == _KIND:
            kind = value
        elif name == _STATS2:
            stats = value
        elif name == _XSTATS:
            own = value
    lent, borrowed = _HTB_FIGURES.unpack_from(own) if kind == b"htb\0" and len(own) >= _HTB_FIGURES.size else (0, 0)
    return _Found(device, handle, parent, _counters(stats, borrowed, lent))


def _counters(stats: bytes, borrowed: int, lent: int) -> Counters:
    sent = packets = dropped = overlimits = backlog = waiting = 0
    now: int | None = None
    for name, value in each(stats):
        if name == _BASIC:
            sent, packets = _OCTETS_PACKETS.unpack_from(value)
        elif name == _QUEUE:
            waiting, backlog, dropped, _, overlimits = _QUEUE_FIGURES.unpack_from(value)
        elif name == _RATE:
            now = 8 * _RATE_FIGURE.unpack_from(value)[0]
        elif name == _RATE64:  # comes after the other, where that is too small
            now = 8 * _RATE64_FIGURE.unpack_from(value)[0]
        elif name == _PACKETS64:
            packets = _RATE64_FIGURE.unpack_from(value)[0]
    return Counters(sent, packets, dropped, overlimits, backlog, waiting, now, borrowed, lent)
