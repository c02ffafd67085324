"""From the tables of all files to one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.build import build
from markway.config.build_api import api_of
from markway.config.build_blocklists import blocklisting_of
from markway.config.build_firewall import firewalling_of
from markway.config.build_guard import guards_of
from markway.config.build_matches import Scope
from markway.config.build_shape import shaping_of
from markway.config.conflicts import check_answered, check_chains, check_claims, place_of
from markway.config.kinds import at
from markway.config.model import DEFAULT_MASK, Config, Service
from markway.config.problems import Place, Report, WrongValue, quote
from markway.config.units import LARGEST_MASK, parse_mask
from markway.marks import SMALLEST_WIDTH, UPLINK_WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.schema import File
    from markway.config.shaping import Shaping
    from markway.config.values import Built


def check(files: Sequence[tuple[int, File]], report: Report) -> Config:
    """Build the configuration that all files give together, reporting what cannot be.

    `files` are their numbers, as the report names them, and their tables. What two files define is built from
    the first.
    """
    built = _services(files, report)
    claims = [claim for one in built for claim in one.claims]
    check_claims(claims, report)
    check_chains(built, report)
    services = tuple(sorted((one.service for one in built), key=lambda service: service.name))
    backends = {one.name: frozenset(backend.name for backend in one.backends) for one in services}
    blocklisting = blocklisting_of(files, report)
    guards = guards_of(files, services, blocklisting.allow, report)
    scope = Scope(report, backends, {guard.name: guard for guard in guards})
    shaping = shaping_of(files, scope)
    mask, api = _mask(files, services, shaping, report), api_of(files, claims, report)
    firewalling = firewalling_of(files, scope)
    config = Config(services, mask, api, shaping, firewalling, guards, blocklisting)
    _check_slowed(files, config, report)
    check_answered(files, config, report)
    return config


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


def _check_slowed(files: Sequence[tuple[int, File]], config: Config, report: Report) -> None:
    """Warn of guards that slow sources which no match then asks for."""
    matches = (*config.shaping.matches, *(match for policy in config.firewalling.policies for match in policy.matches))
    named = {match.slowed.guard for match in matches if match.slowed}
    for guard in config.guards:
        if guard.slow and guard.name not in named:
            hint = f"a class of a shape may: match = {{ guard = {quote(guard.name)} }}"
            report.warning(at(place_of(guard, files), "slow"), "nothing slows them: no match names this guard", hint)


def _mask(files: Sequence[tuple[int, File]], services: Sequence[Service], shaping: Shaping, report: Report) -> int:
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
    if Place(source, ("marks", "mask")) not in report.pruned:
        _check_width(Place(source, ("marks", "mask")), mask, services, shaping, report)
    return mask


def _check_width(place: Place, mask: int, services: Sequence[Service], shaping: Shaping, report: Report) -> None:
    """Report a mask with fewer numbers than are needed; 0 is the number of no backend, class or uplink."""
    backends = sum(len(service.backends) for service in services)
    fallbacks = sum(bool(service.sorry) for service in services)
    tagged = sum(service.persist is not None or service.schedule.queued for service in services)
    needed = backends + fallbacks + tagged
    if mask.bit_count() < needed.bit_length():
        parts = f"{backends} backends, {fallbacks} fallback servers, {tagged} services with persist or a queue"
        what = f"the mask 0x{mask:08x} has {(1 << mask.bit_count()) - 1} numbers, and {needed} are needed ({parts})"
        report.error(place, what, _wider(mask, needed.bit_length()))
        return
    classes = len({rule.shape_class for rule in shaping.marks if rule.shape_class}).bit_length()
    uplinks = UPLINK_WIDTH if shaping.uplinks else 0
    width = max(SMALLEST_WIDTH, (2 * needed).bit_length())  # room to grow, as marks.assign gives
    if classes + uplinks and mask.bit_count() < width + classes + uplinks:
        parts = f"{width} for backends, {classes} for classes and {uplinks} for uplinks are needed"
        what = f"the mask 0x{mask:08x} has {mask.bit_count()} bits, and {parts}"
        report.error(place, what, _wider(mask, width + classes + uplinks))


def _wider(mask: int, bits: int) -> str:
    """A hint: the mask with as many bits as are needed."""
    while mask.bit_count() < bits:
        mask |= (mask + 1) & ~mask  # the lowest bit that is free
    return f'for example mask = "0x{mask:08x}"' if mask <= LARGEST_MASK else "split the services over two machines"
