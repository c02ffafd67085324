"""What one service asks for and cannot have, and what two of them want at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markway.config.addresses import join
from markway.config.guarding import listeners_of
from markway.config.model import ALL_PORTS, PortRange, Protocol
from markway.config.problems import Path, Place, Report, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.firewalling import Policy
    from markway.config.guarding import Guard, Guarded
    from markway.config.model import Address, Config
    from markway.config.schema import File, ServiceTable
    from markway.config.values import Built, Claim, Target

HELPERS = {"ftp": Protocol.TCP, "tftp": Protocol.UDP}
"""The protocol that each helper of the kernel listens to."""


def check_families(source: int, families: set[int], targets: Sequence[Target], what: str, report: Report) -> None:
    """Report endpoints that no client can be sent to, as no listener has their family."""
    useless = [target for target in targets if target[1].address.version not in families]
    if not useless or not families:
        return
    for path, (address, _) in useless:
        if len(useless) < len(targets):
            message = f"never used: the service does not listen on an IPv{address.version} address"
            report.warning(Place(source, path), message)
        else:
            report.error(
                Place(source, path),
                f"{what} has an IPv{address.version} address, and the service listens on none",
                f"add an IPv{address.version} address to listen",
            )


def all_differ(claims: Sequence[Claim], targets: Sequence[Target]) -> bool:
    """Whether no address occurs twice: then nothing loops and no endpoint is shared. The usual case, so quick."""
    addresses = [endpoint.address for _, endpoint in targets]
    addresses += [claim.listener.address for claim in claims]
    return len(set(addresses)) == len(addresses)


def check_loops(source: int, claims: Sequence[Claim], targets: Sequence[Target], report: Report) -> None:
    """Report endpoints that are the service itself."""
    own = {claim.listener.address for claim in claims}
    for path, (address, port) in targets:
        if address not in own:
            continue
        for listener, place in claims:
            looped = port is None or any(first <= port <= last for first, last in listener.ports)
            if listener.address == address and looped:
                report.error(
                    Place(source, path),
                    f"{address} is where the service itself listens: connections would loop",
                    other=place,
                )
                break


def check_twice(place: Place, claims: Sequence[Claim], targets: Sequence[Target], report: Report) -> None:
    """Report endpoints that two backends of the service share."""
    asked = {ports for claim in claims for ports in claim.listener.ports}
    only = next(iter(asked)) if len(asked) == 1 else ALL_PORTS
    kept = only.first if only.first == only.last else None
    seen: dict[tuple[Address, int | None], Path] = {}
    for path, (address, port) in targets:
        before = seen.setdefault((address, port or kept), path)
        backend = len(place.path) + 1  # where a path has the backend's name
        if before is not path and before[backend] != path[backend]:
            report.error(
                Place(place.source, path),
                f"the same endpoint as backend {quote(str(before[backend]))}",
                "give one of them a larger weight instead",
                other=Place(place.source, before),
            )


def check_helper(place: Place, table: ServiceTable, claims: Sequence[Claim], report: Report) -> None:
    """Report a helper for a protocol that the service does not listen to."""
    if table.helper is None:
        return
    needed = HELPERS[table.helper]
    wrong = next((claim for claim in claims if claim.listener.protocol != needed), None)
    if wrong is not None:
        what = f"the helper {quote(table.helper)} is for {needed} only, and the service listens on"
        where = Place(place.source, (*place.path, "helper"))
        report.error(where, f"{what} {wrong.listener.protocol}", other=wrong.place)


def check_unanswered(place: Place, claims: Sequence[Claim], targets: Sequence[Target], report: Report) -> None:
    """Warn of listeners whose clients can only be refused."""
    answered = {endpoint.address.version for _, endpoint in targets}
    unanswered = [claim.place.path for claim in claims if claim.listener.address.version not in answered]
    if not answered or report.doubtful(place, "backend") or report.doubtful(place, "fallback"):
        return
    for path in dict.fromkeys(unanswered):
        version = next(iter({4, 6} - answered))
        report.warning(
            Place(place.source, path),
            f"no backend has an IPv{version} address: these clients get the fallback",
        )


class _Taken(NamedTuple):
    """A range of ports of one address and protocol, and which claim wants it."""

    ports: PortRange
    order: int


def check_claims(claims: Sequence[Claim], report: Report) -> None:
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
            owner = "this service" if first.path[:2] == second.path[:2] else f"service {quote(str(first.path[1]))}"
            report.error(second, f"{join(address, common)}/{protocol} is already {owner}'s", other=first)
        widest = max(widest, one, key=lambda taken: taken.ports.last)


def check_chains(built: Sequence[Built], report: Report) -> None:
    """Warn of backends that are the address of another service: a connection is balanced once."""
    owners = {claim.listener.address: one for one in built for claim in one.claims}
    for one in built:
        for path, (address, port) in one.targets:
            owner = owners.get(address)
            if owner is None or owner is one or port is None:
                continue
            if any(first <= port <= last for listener in owner.service.listeners for first, last in listener.ports):
                report.warning(
                    Place(one.place.source, path),
                    f"{address} is where service {quote(owner.service.name)} listens, and a "
                    "connection is balanced only once: a server on this machine would have to answer",
                )


def check_answered(files: Sequence[tuple[int, File]], config: Config, report: Report) -> None:
    """Report guards that would count connections whose handshakes the kernel answers: it does not track these."""
    services = {service.name: service for service in config.services}
    answered = [policy for policy in config.firewalling.policies if policy.synproxy]
    for guard in config.guards:
        listeners = listeners_of(guard, services) if guard.connections else ()
        policy = next((policy for policy in answered if any(_answers(policy, one) for one in listeners)), None)
        if policy:
            what = f"connections that policy {quote(policy.name)} answers (synproxy) cannot be counted"
            report.error(place_of(guard, files), what, "count failures in logs instead, or leave synproxy out")


def place_of(guard: Guard, files: Sequence[tuple[int, File]]) -> Place:
    """Where the files say of a guard."""
    return Place(next(source for source, file in files if guard.name in file.guard), guard.origin)


def _answers(policy: Policy, listener: Guarded) -> bool:
    """Whether it may answer handshakes with what is guarded."""
    return listener.protocol is Protocol.TCP and (
        not policy.matches
        or any(not match.destination_port or _meet(match.destination_port, listener.ports) for match in policy.matches)
    )


def _meet(some: Sequence[PortRange], others: Sequence[PortRange]) -> bool:
    return any(one.first <= other.last and other.first <= one.last for one in some for other in others)
