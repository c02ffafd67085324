"""What of our plumbing is really in the kernel, and what this machine lets us have there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from markway.kernel.faults import as_held, fault
from markway.kernel.held import ARRIVAL, ROOT, Ground, Held, Identity, identity, protocol_of, spelled
from markway.program.plumbing import (
    ARRIVING,
    REDIRECT,
    Class,
    Filter,
    Link,
    PolicyRule,
    Qdisc,
    Route,
)
from markway.program.steps import copy_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from markway.program.model import Fragment, Program
    from markway.program.plumbing import Origin, Part


@dataclass(frozen=True, slots=True)
class Standing:
    """What of ours was found beside the table, in the order in which it is made.

    `unfit` are keys of what is there in a state that cannot be told, or not be changed. `why` says how it differs from
    what the program wants; empty if it does not.
    """

    parts: tuple[Part, ...]
    unfit: frozenset[str]
    why: str
    ground: Ground


class Hindrance(NamedTuple):
    """Why something cannot stand, and the key of the file that asks for it."""

    message: str
    origin: Origin


class Possible(NamedTuple):
    """What of a program's plumbing can stand on this machine as it is, and the first reason why not all of it can.

    `absent` is the same of devices that are not there, but for those that may be.
    """

    parts: list[Part]
    foreign: Hindrance | None
    absent: Hindrance | None


def possible(program: Program, ground: Ground, made: Collection[str]) -> Possible:
    """What of a program's plumbing can stand on this machine.

    Args:
        program: what is wanted.
        ground: the machine.
        made: devices to which we gave the discipline for what arrives.
    """
    found: list[Part] = []
    foreign: Hindrance | None = None
    absent: Hindrance | None = None
    for owner in sorted(program.fragments):
        fragment = program.fragments[owner]
        lost = [part for part in fragment.plumbing if _needed(part, fragment) not in {"", *ground.devices}]
        taken = next((part for part in fragment.plumbing if _taken(part, ground)), None)
        if lost and not (fragment.shape and fragment.shape.optional):
            hint = " (optional = true lets the shape wait for it)" if fragment.shape else ""
            origin = (*lost[0].origin[:2], "device") if fragment.shape else lost[0].origin
            absent = absent or Hindrance(f"there is no device {_needed(lost[0], fragment)}{hint}", origin)
        if taken:
            foreign = foreign or Hindrance(_taken(taken, ground), taken.origin)
        if not taken and not (lost and fragment.shape):
            found += [part for part in fragment.plumbing if part not in lost and not _shared(part, ground, made)]
    return Possible(found, foreign, absent)


def _taken(part: Part, ground: Ground) -> str:
    """Whose discipline stands where ours should; empty if nobody's."""
    if not (isinstance(part, Qdisc) and part.parent == "root" and part.device in ground.foreign):
        return ""
    device = part.device
    what = f"{device} has a queueing discipline of somebody else's, {ground.foreign[device]}"
    return f"{what}; make room for ours with: tc qdisc del dev {device} root"


def _shared(part: Part, ground: Ground, made: Collection[str]) -> bool:
    """Whether what a device has for what arrives is somebody else's, or used by others too: it is left alone."""
    if not (isinstance(part, Qdisc) and part.parent == "ingress" and part.device in ground.arrivals):
        return False
    return part.device not in made or ground.arrivals[part.device]


def waiting(program: Program, devices: Collection[str]) -> list[str]:
    """The shapes that wait for a device: it is not there."""
    return sorted(
        fragment.shape.name
        for fragment in program.fragments.values()
        if fragment.shape and any(_needed(part, fragment) not in {"", *devices} for part in fragment.plumbing)
    )


def _needed(part: Part, fragment: Fragment) -> str:
    """The device that must be there for a part; empty if the fragment makes it itself."""
    if isinstance(part, Route):
        words = part.options.split()
        return words[words.index("dev") + 1] if "dev" in words else ""
    if isinstance(part, (Qdisc, Class, Filter)):
        own = isinstance(fragment.plumbing[0], Link) and fragment.plumbing[0].device == part.device
        return "" if own else part.device
    return ""


def survey(
    wanted: Sequence[Part],
    others: Sequence[Part],
    ground: Ground,
    made: Collection[str],
    digests: Mapping[str, str],
) -> Standing:
    """Compare what is there with what should be.

    Args:
        wanted: what should be.
        others: what may be left of an apply that was cut off.
        ground: what is there.
        made: devices to which we gave the discipline for what arrives.
        digests: what things looked like when they were last verified, by the keys of their parts.
    """
    found: list[Part] = []
    unfit: set[str] = set()
    seen: set[Identity] = set()
    why = ""
    for part in wanted:
        place = identity(part)
        seen.add(place)
        thing = ground.things.get(place)
        if thing is None and place:
            why = why or f"{named(part)} is gone"
            continue
        if thing is None or _fits(part, thing, ground, digests):
            found.append(part)
            continue
        why = why or f"somebody else has changed {named(part)}"
        found.append(_as_it_is(part, thing, unfit))
    for part in others:
        place = identity(part)
        thing = ground.things.get(place)
        if thing is None or place in seen or _shared(part, ground, made):
            continue
        seen.add(place)
        why = why or f"{named(part)} is left of another program"
        found.append(part if not fault(part, thing, ground.devices) else _as_it_is(part, thing, unfit))
    for part in (copy for each in (*wanted, *others) if isinstance(each, Filter) and (copy := copy_of(each))):
        place = identity(part)
        thing = ground.things.get(place)
        if thing is not None and place not in seen and not fault(part, thing, ground.devices):
            seen.add(place)
            found.append(part)
            why = why or f"{named(part)} is left of a change"
    strays = list(_strays(ground, seen))
    why = why or (f"{named(strays[0])} is left of another program" if strays else "")
    return Standing((*found, *strays), frozenset(unfit), why, ground)


def _fits(part: Part, thing: Held, ground: Ground, digests: Mapping[str, str]) -> bool:
    known = digests.get(part.key)
    return thing.digest == known if known else not fault(part, thing, ground.devices)


def _as_it_is(part: Part, thing: Held, unfit: set[str]) -> Part:
    """A part as the kernel has it; what cannot be told is made anew."""
    if isinstance(part, Class) and thing.kind == "htb":
        return as_held(part, thing)
    if isinstance(part, Qdisc) and part.parent == "root" and thing.handle:
        part = replace(part, kind=thing.kind, handle=spelled(thing.handle))
    unfit.add(part.key)
    return part


def _strays(ground: Ground, seen: set[Identity]) -> Iterator[Part]:
    """What bears our mark, and no program that we know of wants."""
    for place, thing in ground.things.items():
        if place in seen:
            continue
        if place[0] == "link" and ("qdisc", place[1], ROOT) in ground.things:
            yield Link(str(place[1]))
        elif place[0] == "qdisc" and place[2] == ROOT:
            yield Qdisc(thing.device, "root", thing.kind, "", spelled(thing.handle))
        elif place[0] == "route":
            metric = f"metric {place[3]}" if place[3] else ""
            yield Route(str(place[2]), metric, int(place[1]))
        elif place[0] == "rule":
            family, preference, mark, mask, table = (int(number) for number in place[1:])
            yield PolicyRule(family, preference, mark, mask, table)
        elif place[0] == "empty":
            parent = ARRIVING if thing.parent == ARRIVAL else spelled(thing.parent)
            yield Filter(thing.device, parent, int(place[3]), protocol_of(thing), thing.kind, "")
        elif place[0] == "filter" and place[3] == REDIRECT:
            yield Filter(thing.device, ARRIVING, REDIRECT, "all", "u32", "", "::1")


def named(part: Part) -> str:
    """A part in words."""
    if isinstance(part, Class):
        return f"class {part.classid} of {part.device}"
    if isinstance(part, Qdisc):
        where = part.device if part.parent in {"root", "ingress"} else f"class {part.parent} of {part.device}"
        return f"the discipline {part.kind} of {where}"
    if isinstance(part, Filter):
        return f"a filter {part.kind} of {part.device} (priority {part.preference})"
    return part.key
