"""What stands beside the table: looked at, brought from one program to the next, verified."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from markway.apply.standing import Standing, named, possible, survey
from markway.kernel.faults import fault
from markway.kernel.held import ground, identity, some
from markway.kernel.rtnetlink import Rtnetlink
from markway.program.plumbing import Class, Qdisc
from markway.program.steps import Steps, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from markway.apply.store import Store
    from markway.kernel.held import Held, Identity
    from markway.program.diff import Changes
    from markway.program.model import Program
    from markway.program.plumbing import Origin, Part

_FEW = 64
"""Things that are read back one by one; more, with all the others."""


class PlumbingError(Exception):
    """What stands beside the table is not as it should be; `origin` is the key of the file that asks for it."""

    def __init__(self, message: str, origin: Origin = ()) -> None:
        super().__init__(message)
        self.origin = origin


class Way(NamedTuple):
    """What is to be done beside the table. `few` of it is in place, and is read back by itself.

    `arrivals` are the devices that have their discipline for what arrives from us; None if that stays.
    """

    steps: Steps = Steps()
    touched: tuple[Part, ...] = ()
    wanted: tuple[Part, ...] = ()
    few: bool = True
    arrivals: frozenset[str] | None = None


NOTHING = Way()


def look(store: Store, program: Program, others: Sequence[Part]) -> tuple[Standing, dict[str, str]]:
    """Find out what of a program stands; with the digests of it.

    Args:
        store: knows what it looked like.
        program: what should be in force.
        others: what may be left of an apply that was cut off.

    Raises:
        NetlinkError: the kernel refused.
    """
    with Rtnetlink() as netlink:
        found = ground(netlink)
    verified, made = store.verified(), store.arrivals()
    known: dict[str, str] = verified.get("plumbing", {}) if verified.get("program") == program.id else {}
    wanted = possible(program, found, made)
    standing = survey(wanted.parts, others, found, made, known)
    if wanted.foreign:
        standing = replace(standing, why=wanted.foreign.message)
    return standing, {} if standing.why else _digests(wanted.parts, found.things)


def way_to(store: Store, standing: Standing | None, changes: Changes, *, patient: bool) -> Way:
    """Work out what is to be done, which the caller then does; as `way_of`."""
    way = way_of(store, standing, changes, patient=patient)
    if way.arrivals is not None:
        store.keep_arrivals(way.arrivals)
    return way


def way_of(store: Store, standing: Standing | None, changes: Changes, *, patient: bool) -> Way:
    """Work out what would have to be done.

    Args:
        store: remembers what is ours of what others may have, too.
        standing: what is there; None if it is what the old program wants.
        changes: from one program to the other.
        patient: whether to wait for devices that are not there.

    Raises:
        PlumbingError: a device is not there, or has a discipline of somebody else's.
    """
    if standing is None:
        if not any(part.plumbed for part in changes.parts):
            return NOTHING
        if (way := _few(changes)) is not None:
            return way
        with Rtnetlink() as netlink:
            machine = ground(netlink)
    else:
        machine = standing.ground
    made = store.arrivals()
    new, foreign, absent = possible(changes.new, machine, made)
    if hindrance := foreign or (None if patient else absent):
        raise PlumbingError(hindrance.message, hindrance.origin)
    old = list(standing.parts) if standing else possible(changes.old, machine, made).parts
    unfit = standing.unfit if standing else frozenset[str]()
    there = {part.key: part for part in old}
    touched = [part for part in new if part != there.get(part.key) or part.key in unfit]
    arriving = {part.device for part in new if isinstance(part, Qdisc) and part.parent == "ingress"}
    arrivals = frozenset((made & machine.arrivals.keys()) | arriving)
    return Way(steps(old, new, unfit), tuple(touched), tuple(new), few=False, arrivals=arrivals)


def _few(changes: Changes) -> Way | None:
    """The way, if it is a few changes in place below disciplines that stand; else None."""
    before: list[Part] = []
    touched: list[Part] = []
    for owner in (part.owner for part in changes.parts if part.plumbed):
        if owner not in changes.old.fragments or owner not in changes.new.fragments:
            return None
        old, new = changes.old.fragments[owner].plumbing, changes.new.fragments[owner].plumbing
        pairs = [pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]]
        if len(old) != len(new) or len(pairs) > _FEW or any(a.key != b.key for a, b in pairs):
            return None
        before += [old_part for old_part, _ in pairs]
        touched += [new_part for _, new_part in pairs]
    below = all(isinstance(part, Class) or (isinstance(part, Qdisc) and ":" in part.parent) for part in touched)
    if not below or _indexes(touched) is None:
        return None
    return Way(steps(before, touched), tuple(touched))


def _indexes(parts: Iterable[Part]) -> dict[str, int] | None:
    """The numbers of the devices; None if one is not there."""
    names = {part.device for part in parts if isinstance(part, (Class, Qdisc))}
    try:
        return {name: socket.if_nametoindex(name) for name in names}
    except OSError:
        return None


def verified(way: Way, known: Mapping[str, str]) -> dict[str, str]:
    """Read back what was made, and what it looks like now, by the keys of the parts.

    Args:
        way: what was done.
        known: what things looked like before.

    Raises:
        PlumbingError: the kernel has something else than was asked for.
        NetlinkError: the kernel refused.
    """
    if not way.touched and way.few:
        return dict(known)
    with Rtnetlink() as netlink:
        if way.few:
            devices = _indexes(way.touched) or {}
            things = some(netlink, [p for p in way.touched if isinstance(p, (Class, Qdisc))], devices)
        else:
            machine = ground(netlink)
            devices, things = dict(machine.devices), dict(machine.things)
    for part in way.touched:
        place = identity(part)
        thing = things.get(place)
        if place and thing is None:
            raise PlumbingError(f"the kernel took {named(part)}, and does not have it", part.origin)
        if thing is not None and (said := fault(part, thing, devices)):
            raise PlumbingError(f"the kernel took {named(part)}, but {said}", part.origin)
    if way.few:
        return {**known, **_digests(way.touched, things)}
    return _digests(way.wanted, things)


def _digests(parts: Iterable[Part], things: Mapping[Identity, Held]) -> dict[str, str]:
    found = ((part.key, things.get(identity(part))) for part in parts)
    return {key: thing.digest for key, thing in found if thing is not None}
