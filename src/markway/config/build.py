"""From a file's tables to the model's values, service by service: what each text and combination means.

Whatever is wrong goes to the report, and the rest is still built and checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.build_checks import check_of, cuts_orphans, policy_of, slow_start_of
from markway.config.build_loads import load_of
from markway.config.conflicts import (
    all_differ,
    check_families,
    check_helper,
    check_loops,
    check_twice,
    check_unanswered,
)
from markway.config.model import Backend, Mode, Persist, Refusal, Schedule, Service
from markway.config.problems import Place, Report
from markway.config.schema import Sorry
from markway.config.units import parse_rate, parse_timeout
from markway.config.values import (
    Built,
    Target,
    check_name,
    claims_of,
    endpoints_of,
    merged,
    networks_of,
    one_per_family,
    parse_each,
    usable_address,
)

if TYPE_CHECKING:
    from markway.config.model import Address, SourceRate
    from markway.config.schema import Persist as PersistTable
    from markway.config.schema import ServiceTable


def build(place: Place, table: ServiceTable, report: Report) -> Built:
    """Make the service at `place` from its table."""
    check_name(place, report)
    claims = claims_of(place, table, report)
    listens = not report.doubtful(place, "listen")
    families: set[int] = {claim.listener.address.version for claim in claims} if listens else {4, 6}
    backends, targets = _backends(place, table, families, report)
    refusal, sorry = _fallback(place, table, families, report)
    load = load_of(place, table, backends, report)
    reachable = [*targets, *sorry]
    if not all_differ(claims, reachable):
        check_loops(place.source, claims, reachable, report)
        check_twice(place, claims, targets, report)
    check_helper(place, table, claims, report)
    check_unanswered(place, claims, reachable, report)
    service = Service(
        name=str(place.path[-1]),
        listeners=merged(claims),
        backends=tuple(backends),
        mode=Mode(table.mode),
        source=_source(place, table, families, report),
        schedule=Schedule(table.schedule),
        persist=_persist(place, table.persist, report),
        max_connections=table.max_connections,
        source_rate=_source_rate(place, table.source_rate, report),
        allow=networks_of(place, "allow", table.allow, report),
        deny=networks_of(place, "deny", table.deny, report),
        refuse=Refusal(table.refuse),
        fallback=refusal,
        sorry=tuple([endpoint for _, endpoint in sorry]),
        helper=table.helper,
        policy=policy_of(place, table, load, report),
        check=check_of(place, table, backends, report),
        load=load,
        slow_start=slow_start_of(place, table, report),
        cut_orphans=cuts_orphans(place, table, claims, report),
    )
    return Built(service, place, claims, targets)


def _backends(
    place: Place, table: ServiceTable, families: set[int], report: Report
) -> tuple[list[Backend], list[Target]]:
    if not table.backend:
        report.missing(
            place,
            "backend",
            "the service has no backend",
            f"write [service.{place.path[-1]}.backend.NAME] with its address",
        )
    backends: list[Backend] = []
    targets: list[Target] = []
    for name, row in sorted(table.backend.items()):
        where = Place(place.source, (*place.path, "backend", name))
        check_name(where, report)
        found = endpoints_of(where, row.address, "the backend", report)
        check_families(place.source, families, found, "the backend", report)
        endpoints = tuple([endpoint for _, endpoint in found])
        backends.append(Backend(name, endpoints, row.weight, row.priority, row.max_connections))
        targets += found
    return backends, targets


def _fallback(place: Place, table: ServiceTable, families: set[int], report: Report) -> tuple[Refusal, list[Target]]:
    if not isinstance(table.fallback, Sorry):
        return Refusal(table.fallback), []
    where = Place(place.source, (*place.path, "fallback"))
    endpoints = endpoints_of(where, table.fallback.address, "the fallback", report)
    check_families(place.source, families, endpoints, "the fallback", report)
    return Refusal.RESET, endpoints


def _source(place: Place, table: ServiceTable, families: set[int], report: Report) -> tuple[Address, ...]:
    found = parse_each(place, "source", table.source, usable_address, report)
    if table.source is None:
        return ()
    where = Place(place.source, (*place.path, "source"))
    if table.mode != "snat":
        report.error(where, f'mode "{table.mode}" has no source: backends see the client', 'write mode = "snat"')
    found.sort(key=lambda pair: pair[1].version)
    one_per_family(place.source, found, "the source", report)
    for path, address in found:
        if families and address.version not in families:
            report.error(
                Place(place.source, path), f"the service does not listen on an IPv{address.version} address",
                f"{address} would never be used",
            )  # fmt: skip
    return tuple(address for _, address in found)


def _persist(place: Place, table: PersistTable | None, report: Report) -> Persist | None:
    if table is None:
        return None
    where = Place(place.source, (*place.path, "persist"))
    timeout = parse_each(where, "timeout", table.timeout, parse_timeout, report)
    if not timeout:
        report.missing(where, "timeout", "persist has no timeout", 'for example timeout = "10m"')
        return None
    return Persist(timeout[0][1], table.prefix, table.prefix6)


def _source_rate(place: Place, text: str | None, report: Report) -> SourceRate | None:
    parsed = parse_each(place, "source-rate", text, parse_rate, report)
    return parsed[0][1] if parsed else None
