"""What holds between services: no port is claimed twice, and the mark has a number for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markway.config.addresses import join
from markway.config.build import Built, Claim, build
from markway.config.model import DEFAULT_MASK, Address, Config, PortRange, Protocol, Service
from markway.config.problems import Place, Report, WrongValue, quote
from markway.config.units import LARGEST_MASK, parse_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.schema import File


def check(files: Sequence[tuple[int, File]], report: Report) -> Config:
    """Build the configuration that all files give together, reporting what cannot be.

    `files` are their numbers, as the report names them, and their tables. What two files define is built from
    the first.
    """
    built = _services(files, report)
    _check_claims([claim for one in built for claim in one.claims], report)
    _warn_of_chains(built, report)
    services = tuple(sorted((one.service for one in built), key=lambda service: service.name))
    return Config(services, _mask(files, services, report))


def _services(files: Sequence[tuple[int, File]], report: Report) -> list[Built]:
    built: list[Built] = []
    places: dict[str, Place] = {}
    for source, file in files:
        for name, table in file.service.items():
            place = Place(source, ("service", name))
            if name in places:
                report.error(place, f"service {quote(name)} is already defined", other=places[name])
                continue
            places[name] = place
            built.append(build(place, table, report))
    return built


class _Taken(NamedTuple):
    """A range of ports of one address and protocol, and which claim wants it."""

    ports: PortRange
    order: int


def _check_claims(claims: Sequence[Claim], report: Report) -> None:
    """Report each listener that wants what another one has."""
    taken: dict[tuple[Address, Protocol], list[_Taken]] = {}
    for order, (listener, _) in enumerate(claims):
        taken.setdefault((listener.address, listener.protocol), []).extend(
            [_Taken(ports, order) for ports in listener.ports]
        )
    for (address, protocol), ranges in taken.items():
        if len(ranges) > 1:
            _check_ranges(address, protocol, ranges, claims, report)


def _check_ranges(
    address: Address, protocol: Protocol, ranges: list[_Taken], claims: Sequence[Claim], report: Report
) -> None:
    """Sweep over the sorted ranges; one overlap of two listeners is reported once, at the later one."""
    ranges.sort()
    widest = ranges[0]
    reported: set[tuple[int, int]] = set()
    for one in ranges[1:]:
        pair = (min(one.order, widest.order), max(one.order, widest.order))
        if one.ports.first <= widest.ports.last and pair not in reported:
            reported.add(pair)
            common = PortRange(one.ports.first, min(one.ports.last, widest.ports.last))
            first, second = claims[pair[0]].place, claims[pair[1]].place
            owner = (
                "this service"
                if first.path[:2] == second.path[:2]
                else f"service {quote(str(first.path[1]))}"
            )
            report.error(second, f"{join(address, common)}/{protocol} is already {owner}'s", other=first)
        widest = max(widest, one, key=lambda taken: taken.ports.last)


def _warn_of_chains(built: Sequence[Built], report: Report) -> None:
    """Warn of backends that are the address of another service: a connection is balanced once."""
    owners = {claim.listener.address: one for one in built for claim in one.claims}
    for one in built:
        for path, (address, port) in one.targets:
            owner = owners.get(address)
            if owner is None or owner is one or port is None:
                continue
            if any(
                first <= port <= last
                for listener in owner.service.listeners
                for first, last in listener.ports
            ):
                report.warning(
                    Place(one.place.source, path),
                    f"{address} is where service {quote(owner.service.name)} listens, and a "
                    "connection is balanced only once: a server on this machine would have to answer",
                )


def _mask(files: Sequence[tuple[int, File]], services: Sequence[Service], report: Report) -> int:
    mask, where = DEFAULT_MASK, None
    for source, file in files:
        place = Place(source, ("marks",))
        if file.marks is None:
            continue
        if where is not None:
            report.error(place, "[marks] is already defined", other=where)
            continue
        where = place
        if file.marks.mask is not None:
            try:
                mask = parse_mask(file.marks.mask)
            except WrongValue as wrong:
                report.error(Place(source, ("marks", "mask")), wrong.message, wrong.suggestion)
                return mask
    source = where.source if where else (files[0][0] if files else 0)
    if (source, ("marks", "mask")) not in report.pruned:
        _check_width(Place(source, ("marks", "mask")), mask, services, report)
    return mask


def _check_width(place: Place, mask: int, services: Sequence[Service], report: Report) -> None:
    """Report a mask with fewer numbers than are needed; 0 is the number of no backend."""
    backends = sum(len(service.backends) for service in services)
    fallbacks = sum(bool(service.sorry) for service in services)
    persistent = sum(service.persist is not None for service in services)
    needed = backends + fallbacks + persistent
    if mask.bit_count() >= needed.bit_length():
        return
    wider = mask
    while wider.bit_count() < needed.bit_length():
        wider |= (wider + 1) & ~wider  # the lowest bit that is free
    parts = f"{backends} backends, {fallbacks} fallback servers, {persistent} services with persist"
    hint = (
        f'for example mask = "0x{wider:08x}"'
        if wider <= LARGEST_MASK
        else "split the services over two machines"
    )
    report.error(
        place,
        f"the mask 0x{mask:08x} has {(1 << mask.bit_count()) - 1} numbers, and {needed} are needed ({parts})",
        hint,
    )
