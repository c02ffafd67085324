"""What the file says of shaping becomes a fragment for each shape, and one for what they share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markway.compiler.abilities import CompileError
from markway.compiler.marking import Marking, aims
from markway.compiler.matches import Marks
from markway.compiler.pools import mark_names
from markway.compiler.shape import Ground, entry_chain, owner_of, shape_fragment
from markway.compiler.tree import class_names
from markway.config.shaping import Shaping
from markway.marks import CLASS_NUMBERS, UPLINK_WIDTH, grant
from markway.program.model import Fragment
from markway.program.nft import Chain, Dispatch, Hook, Term
from markway.program.plumbing import Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.compiler.abilities import Abilities
    from markway.config.model import Service
    from markway.config.shaping import Realm
    from markway.marks import Layout, Registry

SHARED = "shaping/"
"""The owner of what shapes share; the name is none that a service can have."""

_HOOK = Hook("filter", "postrouting", "mangle")


@dataclass(frozen=True)
class Basis:
    """All that decides what shaping becomes: equal ones become the same."""

    shaping: Shaping
    layout: Layout
    uplinks: Mapping[str, int]
    ground: Ground


def numbered(registry: Registry, shaping: Shaping) -> Registry:
    """Give numbers to classes, to those that marks aim at, and to uplinks.

    Raises:
        markway.marks.MarksError: there are too many of them.
    """
    paths = (path for shape in shaping.shapes for path in class_names(shape).values())
    classes = grant(registry.classes, paths, CLASS_NUMBERS, "classes")
    marked = grant(registry.marked, aims(shaping), CLASS_NUMBERS, "classes that marks aim at")
    names = (uplink.name for uplink in shaping.uplinks)
    uplinks = grant(registry.uplinks, names, (1 << UPLINK_WIDTH) - 1, "uplinks")
    before = registry.classes, registry.marked, registry.uplinks
    if all(one is other for one, other in zip((classes, marked, uplinks), before, strict=True)):
        return registry
    return replace(registry, classes=classes, marked=marked, uplinks=uplinks)


def basis_of(
    shaping: Shaping, services: Mapping[str, Service], registry: Registry, mask: int, abilities: Abilities
) -> Basis | None:
    """What shaping is compiled from; None if the file says nothing of it.

    Raises:
        markway.marks.MarksError: the mask is too small.
    """
    if shaping == _NONE:
        return None
    layout = registry.layout(mask)
    field = layout.backend
    numbers: dict[str, tuple[int, ...]] = {}
    for match in shaping.matches:
        if match.service is not None and match.backend is not None:
            name = f"{match.service}/{match.backend}"
            numbers[name] = (field.place(registry.numbers[name]),)
        elif match.service is not None and match.service not in numbers:
            names = (name for name in mark_names(services[match.service]) if name != match.service)
            numbers[match.service] = tuple(field.place(registry.numbers[name]) for name in names)
    ground = Ground(registry.classes, layout.class_, registry.marked, Marks(field, numbers), abilities)
    return Basis(shaping, layout, registry.uplinks, ground)


_NONE = Shaping()


def fragments_of(basis: Basis | None, before: Basis | None, held: Mapping[str, Fragment]) -> dict[str, Fragment]:
    """The fragments of shaping, by owner; of what has not changed, those that are held.

    Raises:
        CompileError: something asked for cannot be had.
    """
    if basis is None:
        return {}
    if basis == before:
        return {owner: held[owner] for owner in (*map(owner_of, _names(basis.shaping)), SHARED)}
    known = {s.name: s for s in before.shaping.shapes} if before and before.ground == basis.ground else {}
    found = {
        owner_of(shape.name): held[owner_of(shape.name)]
        if known.get(shape.name) == shape
        else shape_fragment(shape, basis.ground)
        for shape in basis.shaping.shapes
    }
    _one_each(found.values(), basis.shaping)
    return found | {SHARED: _shared(basis, found)}


def _names(shaping: Shaping) -> Iterator[str]:
    return (shape.name for shape in shaping.shapes)


def _one_each(fragments: Iterable[Fragment], shaping: Shaping) -> None:
    """A device has one discipline."""
    origins = {shape.name: shape.origin for shape in shaping.shapes}
    standing: dict[str, str] = {}
    for fragment in fragments:
        assert fragment.shape  # noqa: S101  (all of these are shapes)
        device, name = fragment.shape.acts_on, fragment.shape.name
        if device in standing:
            raise CompileError(
                origins[name],
                f"shapes {standing[device]} and {name} would both stand on {device}",
                "a device has one discipline: join them, or leave out one",
            )
        standing[device] = name


def _shared(basis: Basis, shapes: Mapping[str, Fragment]) -> Fragment:
    ground = basis.ground
    marking = Marking(basis.shaping, basis.layout, ground.marked, basis.uplinks, ground.marks)
    chains = [*_leaving(shapes.values()), *marking.chains()]
    return Fragment(
        owner=SHARED,
        chains={each.name: each for each in chains},
        objects=marking.counters(),
        plumbing=(*marking.routing(), *_routes(basis.shaping.realms)),
        marks=marking.entries(),
    )


def _leaving(shapes: Iterable[Fragment]) -> Iterator[Chain]:
    """One look-up finds the shape of a packet, however many there are."""
    found = {f.shape.acts_on: name for f in shapes if f.shape and (name := entry_chain(f))}
    if found:
        verdicts = ", ".join(f'"{device}" : goto {name}' for device, name in found.items())
        yield Chain("postrouting-shape", ((Dispatch(Term("oifname"), f"{{ {verdicts} }}"),),), _HOOK)


def _routes(realms: Iterable[Realm]) -> Iterator[Route]:
    for number, route in ((realm.number, route) for realm in realms for route in realm.routes):
        words = [("via", route.via), ("dev", route.device), ("metric", route.metric), ("realm", number)]
        options = " ".join(f"{word} {value}" for word, value in words if value is not None)
        yield Route(str(route.to), options, origin=route.origin)
