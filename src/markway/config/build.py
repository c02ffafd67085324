"""From a file's tables to the model's values, service by service: what each text and combination means.

Whatever is wrong goes to the report, and the rest is still built and checked.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from markway.config.addresses import parse_address, parse_endpoint, parse_listen, parse_network, unusable
from markway.config.model import (
    Backend,
    Endpoint,
    Listener,
    Mode,
    Network,
    Persist,
    PortRange,
    Protocol,
    Refusal,
    Schedule,
    Service,
    SourceRate,
)
from markway.config.problems import Path, Place, Report, WrongValue, quote
from markway.config.schema import Sorry
from markway.config.units import parse_rate, parse_timeout, wrong_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from markway.config.model import Address
    from markway.config.schema import BackendTable, ServiceTable
    from markway.config.schema import Persist as PersistTable

T = TypeVar("T")

HELPERS = {"ftp": Protocol.TCP, "tftp": Protocol.UDP}
"""The protocol that each helper of the kernel listens to."""


class Claim(NamedTuple):
    """A listener and the text that asks for it."""

    listener: Listener
    place: Place


class Built(NamedTuple):
    """A service, what it listens on as written, and where its backends' endpoints are written."""

    service: Service
    place: Place
    claims: list[Claim]
    targets: list[tuple[Path, Endpoint]]


def build(place: Place, table: ServiceTable, report: Report) -> Built:
    """Make the service at `place` from its table."""
    check_name(place, report)
    claims = _claims(place, table, report)
    listens = not report.doubtful(place, "listen")
    families: set[int] = {claim.listener.address.version for claim in claims} if listens else {4, 6}
    backends, targets = _backends(place, table, families, report)
    refusal, sorry = _fallback(place, table, families, report)
    _check_loops(place.source, claims, [*targets, *sorry], report)
    _check_twice(place, claims, targets, report)
    _check_helper(place, table, claims, report)
    _check_unanswered(place, claims, [endpoint for _, endpoint in (*targets, *sorry)], report)
    allow, deny = _networks(place, "allow", table.allow, report), _networks(place, "deny", table.deny, report)
    service = Service(
        name=str(place.path[-1]),
        listeners=_merged(claims),
        backends=tuple(sorted(backends, key=lambda backend: backend.name)),
        mode=Mode(table.mode),
        source=_source(place, table, families, report),
        schedule=Schedule(table.schedule),
        persist=_persist(place, table.persist, report),
        max_connections=table.max_connections,
        source_rate=_source_rate(place, table.source_rate, report),
        allow=allow,
        deny=deny,
        refuse=Refusal(table.refuse),
        fallback=refusal,
        sorry=tuple(sorted((endpoint for _, endpoint in sorry), key=_by_family)),
        helper=table.helper,
    )
    return Built(service, place, claims, targets)


def check_name(place: Place, report: Report) -> None:
    """Report a name that the kernel's objects cannot carry."""
    wrong = wrong_name(str(place.path[-1]))
    if wrong is not None:
        report.error(place, wrong.message, wrong.suggestion)


def _parsed(
    place: Place, key: str, value: str | list[str] | None, parse: Callable[[str], T], report: Report
) -> list[tuple[Path, T]]:
    """Each text at a key (one, or a list of them) as a value, with its path."""
    if value is None:
        return []
    path = (*place.path, key)
    texts: Iterable[tuple[Path, str]] = (
        [(path, value)]
        if isinstance(value, str)
        else [((*path, index), text) for index, text in enumerate(value)]
    )
    found = []
    for where, text in texts:
        if report.pruned and (place.source, where) in report.pruned:
            continue
        try:
            found.append((where, parse(text)))
        except WrongValue as wrong:
            report.error(Place(place.source, where), wrong.message, wrong.suggestion)
            report.prune(place.source, where)
    return found


def _usable(address: Address) -> Address:
    reason = unusable(address)
    if reason is not None:
        raise WrongValue(f"{address} is {reason}", "an address of an interface is needed")
    return address


def _usable_listen(text: str) -> tuple[Listener, ...]:
    listeners = parse_listen(text)
    _usable(listeners[0].address)
    return listeners


def _usable_endpoint(text: str) -> Endpoint:
    endpoint = parse_endpoint(text)
    _usable(endpoint.address)
    return endpoint


def _usable_address(text: str) -> Address:
    return _usable(parse_address(text))


def _claims(place: Place, table: ServiceTable, report: Report) -> list[Claim]:
    parsed = _parsed(place, "listen", table.listen, _usable_listen, report)
    if not parsed:
        report.missing(place, "listen", "the service listens nowhere", 'for example listen = "192.0.2.10:80"')
    return [
        Claim(listener, Place(place.source, path)) for path, listeners in parsed for listener in listeners
    ]


def _merged(claims: Sequence[Claim]) -> tuple[Listener, ...]:
    """One listener for each address and protocol, sorted."""
    if len(claims) == 1:
        return (claims[0].listener,)
    ports: dict[tuple[Address, Protocol], set[PortRange]] = {}
    for listener, _ in claims:
        ports.setdefault((listener.address, listener.protocol), set()).update(listener.ports)
    merged = [Listener(address, protocol, tuple(sorted(of))) for (address, protocol), of in ports.items()]
    return tuple(sorted(merged, key=lambda one: (one.address.version, int(one.address), one.protocol)))


def _by_family(endpoint: Endpoint) -> int:
    return endpoint.address.version


def _one_per_family(
    source: int, addresses: Sequence[tuple[Path, Address]], what: str, report: Report
) -> None:
    for (_, first), (path, second) in pairwise(addresses):
        if first.version == second.version:
            report.error(
                Place(source, path),
                f"a second IPv{second.version} address: {what} has at most one of each family",
            )


def _endpoints(
    place: Place, value: str | list[str] | None, what: str, report: Report
) -> list[tuple[Path, Endpoint]]:
    """The endpoints that `address` gives, at most one of each family."""
    found = _parsed(place, "address", value, _usable_endpoint, report)
    if not found:
        report.missing(place, "address", f"{what} has no address", 'for example address = "192.168.1.10:80"')
    if len(found) > 1:
        found.sort(key=lambda pair: pair[1].address.version)  # stable: the second written is the one too many
        _one_per_family(place.source, [(path, one.address) for path, one in found], what, report)
    return found


def _backends(
    place: Place, table: ServiceTable, families: set[int], report: Report
) -> tuple[list[Backend], list[tuple[Path, Endpoint]]]:
    if not table.backend:
        report.missing(
            place,
            "backend",
            "the service has no backend",
            f"write [service.{place.path[-1]}.backend.NAME] with its address",
        )
    backends, targets = [], []
    for name, row in table.backend.items():
        where = Place(place.source, (*place.path, "backend", name))
        backend, endpoints = _backend(where, name, row, report)
        _check_families(where, families, endpoints, "the backend", report)
        backends.append(backend)
        targets += endpoints
    return backends, targets


def _backend(
    place: Place, name: str, table: BackendTable, report: Report
) -> tuple[Backend, list[tuple[Path, Endpoint]]]:
    check_name(place, report)
    endpoints = _endpoints(place, table.address, "the backend", report)
    values = tuple([endpoint for _, endpoint in endpoints])
    return Backend(name, values, table.weight, table.priority, table.max_connections), endpoints


def _check_families(
    place: Place, families: set[int], endpoints: Sequence[tuple[Path, Endpoint]], what: str, report: Report
) -> None:
    """Report endpoints that no client can be sent to, as no listener has their family."""
    useless = [(path, one) for path, one in endpoints if one.address.version not in families]
    if not useless or not families:
        return
    for path, endpoint in useless:
        version = endpoint.address.version
        if len(useless) == len(endpoints):
            report.error(
                Place(place.source, path),
                f"{what} has an IPv{version} address, but the service listens on IPv{10 - version} only",
                f"add an IPv{version} address to listen",
            )
        else:
            report.warning(
                Place(place.source, path),
                f"never used: the service does not listen on an IPv{version} address",
            )


def _fallback(
    place: Place, table: ServiceTable, families: set[int], report: Report
) -> tuple[Refusal, list[tuple[Path, Endpoint]]]:
    if not isinstance(table.fallback, Sorry):
        return Refusal(table.fallback), []
    where = Place(place.source, (*place.path, "fallback"))
    endpoints = _endpoints(where, table.fallback.address, "the fallback", report)
    _check_families(where, families, endpoints, "the fallback", report)
    return Refusal.RESET, endpoints


def _check_loops(
    source: int, claims: Sequence[Claim], endpoints: Sequence[tuple[Path, Endpoint]], report: Report
) -> None:
    """Report endpoints that are the service itself."""
    own = {claim.listener.address for claim in claims}
    for path, (address, port) in endpoints:
        if address not in own:
            continue
        for listener, place in claims:
            asked = listener.ports if port is None else [PortRange(port, port)]
            if listener.address == address and _first_common(listener.ports, asked) is not None:
                report.error(
                    Place(source, path),
                    f"{address} is where the service itself listens: connections would loop",
                    other=place,
                )
                break


def _first_common(some: Sequence[PortRange], others: Sequence[PortRange]) -> PortRange | None:
    """The first range of ports that both have."""
    for one in some:
        for other in others:
            if one.first <= other.last and other.first <= one.last:
                return PortRange(max(one.first, other.first), min(one.last, other.last))
    return None


def _check_twice(
    place: Place, claims: Sequence[Claim], targets: Sequence[tuple[Path, Endpoint]], report: Report
) -> None:
    """Report endpoints that two backends of the service share."""
    asked = {ports for claim in claims for ports in claim.listener.ports}
    only = next(iter(asked)).first if len(asked) == 1 and min(asked).first == min(asked).last else None
    seen: dict[Endpoint, Path] = {}
    for path, (address, port) in targets:
        target = Endpoint(address, only if port is None else port)
        before = seen.setdefault(target, path)
        name, other = path[len(place.path) + 1], before[len(place.path) + 1]
        if name != other:
            report.error(
                Place(place.source, path), f"the same endpoint as backend {quote(str(other))}",
                "give one of them a larger weight instead", other=Place(place.source, before),
            )  # fmt: skip


def _check_helper(place: Place, table: ServiceTable, claims: Sequence[Claim], report: Report) -> None:
    if table.helper is None:
        return
    needed = HELPERS[table.helper]
    wrong = next((claim for claim in claims if claim.listener.protocol != needed), None)
    if wrong is not None:
        what = f"the helper {quote(table.helper)} is for {needed} only, and the service listens on"
        where = Place(place.source, (*place.path, "helper"))
        report.error(where, f"{what} {wrong.listener.protocol}", other=wrong.place)


def _check_unanswered(
    place: Place, claims: Sequence[Claim], endpoints: Sequence[Endpoint], report: Report
) -> None:
    """Warn of listeners whose clients can only be refused."""
    if not endpoints or report.doubtful(place, "backend") or report.doubtful(place, "fallback"):
        return
    answered = {endpoint.address.version for endpoint in endpoints}
    for path in dict.fromkeys(
        claim.place.path for claim in claims if claim.listener.address.version not in answered
    ):
        version = next(iter({4, 6} - answered))
        report.warning(
            Place(place.source, path),
            f"no backend has an IPv{version} address: these clients get the fallback",
        )


def _source(place: Place, table: ServiceTable, families: set[int], report: Report) -> tuple[Address, ...]:
    found = _parsed(place, "source", table.source, _usable_address, report)
    if table.source is None:
        return ()
    where = Place(place.source, (*place.path, "source"))
    if table.mode != "snat":
        report.error(
            where, f'mode "{table.mode}" has no source: backends see the client', 'write mode = "snat"'
        )
    found.sort(key=lambda pair: pair[1].version)
    _one_per_family(place.source, found, "the source", report)
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
    timeout = _parsed(where, "timeout", table.timeout, parse_timeout, report)
    if not timeout:
        report.missing(where, "timeout", "persist has no timeout", 'for example timeout = "10m"')
        return None
    return Persist(timeout[0][1], table.prefix, table.prefix6)


def _source_rate(place: Place, text: str | None, report: Report) -> SourceRate | None:
    parsed = _parsed(place, "source-rate", text, parse_rate, report)
    return parsed[0][1] if parsed else None


def _networks(place: Place, key: str, value: str | list[str] | None, report: Report) -> tuple[Network, ...]:
    """The networks at a key, without those inside others, neighbours joined, sorted."""
    if value is None:
        return ()
    if value == [] and key == "allow":
        where = Place(place.source, (*place.path, key))
        report.error(where, "an empty list would allow nobody", "leave allow out to allow everyone")
    networks = [network for _, network in _parsed(place, key, value, parse_network, report)]
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    return (*collapse_addresses(four), *collapse_addresses(six))
