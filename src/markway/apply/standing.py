"""What of our plumbing is really in the kernel, and what this machine lets us have there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markway.kernel.faults import as_held, fault
from markway.kernel.held import ARRIVAL, ROOT, Ground, Held, Identity, identity, spelled
from markway.program.plumbing import (
    REDIRECT,
    Class,
    Filter,
    Link,
    PolicyRule,
    Qdisc,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

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


class NotHereError(Exception):
    """A device is not there, or not ours to shape; `origin` is the key of the file that names it."""

    def __init__(self, message: str, origin: Origin) -> None:
        super().__init__(message)
        self.origin = origin


def possible(program: Program, ground: Ground, made: Collection[str], *, patient: bool) -> list[Part]:
    """What of a program's plumbing can stand on this machine as it is.

    Args:
        program: what is wanted.
        ground: the machine.
        made: devices to which we gave the discipline for what arrives.
        patient: whether to wait for all devices that are not there, and not only for those that may be absent.

    Raises:
        NotHereError: a device is not there, or has a discipline of somebody else's.
    """
    shared = {device for device in ground.arrivals if device not in made}
    found: list[Part] = []
    for owner in sorted(program.fragments):
        fragment = program.fragments[owner]
        parts = list(fragment.plumbing)
        lost = next((part for part in parts if (name := _needed(part, fragment)) and name not in ground.devices), None)
        if lost is not None and not (patient or (fragment.shape and fragment.shape.optional)):
            hint = " (optional = true lets the shape wait for it)" if fragment.shape else ""
            raise NotHereError(f"there is no device {_needed(lost, fragment)}{hint}", lost.origin)
        if lost is not None and fragment.shape:
            continue
        for part in parts:
            foreign = isinstance(part, Qdisc) and part.parent == "root" and ground.foreign.get(part.device)
            if foreign and isinstance(part, Qdisc):
                what = f"{part.device} has a queueing discipline of somebody else's, {foreign}"
                raise NotHereError(f"{what}; make room: tc qdisc del dev {part.device} root", part.origin)
            if isinstance(part, Qdisc) and part.parent == "ingress" and part.device in shared:
                continue
            if not (isinstance(part, Route) and _needed(part, fragment) not in {"", *ground.devices}):
                found.append(part)
    return found


def waiting(program: Program, devices: Collection[str]) -> list[str]:
    """The shapes whose device is not there."""
    shapes = {owner: fragment.shape for owner, fragment in program.fragments.items() if fragment.shape}
    return sorted(
        shape.name
        for owner, shape in shapes.items()
        if any(
            (name := _needed(part, program.fragments[owner])) and name not in devices
            for part in program.fragments[owner].plumbing
        )
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
    wanted: Iterable[Part],
    others: Iterable[Part],
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
        if (
            thing is None
            or place in seen
            or (place[0] == "qdisc" and thing.kind == "ingress" and not _ours(part, ground, made))
        ):
            continue
        seen.add(place)
        why = why or f"{named(part)} is left of another program"
        found.append(part if not fault(part, thing, ground.devices) else _as_it_is(part, thing, unfit))
    strays = list(_strays(ground, seen))
    why = why or (f"{named(strays[0])} is left of another program" if strays else "")
    return Standing((*found, *strays), frozenset(unfit), why, ground)


def _ours(part: Part, ground: Ground, made: Collection[str]) -> bool:
    """Whether the discipline for what arrives at a device may go: we made it, and nobody else uses it."""
    return isinstance(part, Qdisc) and part.device in made and not ground.arrivals.get(part.device, True)


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
        if place[0] == "link":
            yield Link(str(place[1]))
        elif place[0] == "qdisc" and place[2] == ROOT:
            yield Qdisc(thing.device, "root", thing.kind, "", spelled(thing.handle))
        elif place[0] == "route":
            metric = f"metric {place[3]}" if place[3] else ""
            yield Route(str(place[2]), metric, int(place[1]))
        elif place[0] == "rule":
            family, preference, mark, mask, table = (int(number) for number in place[1:])
            yield PolicyRule(family, preference, mark, mask, table)
        elif place[0] == "filter" and place[3] == REDIRECT:
            yield Filter(thing.device, spelled(ARRIVAL), REDIRECT, "all", "u32", "", "::1")


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
