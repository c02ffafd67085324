"""The texts of a service's table as values, each with the place to blame for it.

A text that does not follow its grammar, or that names an address of no use, goes to the report.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from markway.config.addresses import check_usable, parse_address, parse_endpoint, parse_listen, parse_network
from markway.config.model import Endpoint, Listener, Service
from markway.config.problems import Path, Place, Report, WrongValue
from markway.config.units import wrong_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markway.config.model import Address, Network, PortRange, Protocol
    from markway.config.schema import ServiceTable

S = TypeVar("S")
T = TypeVar("T")


class Claim(NamedTuple):
    """A listener and the text that asks for it."""

    listener: Listener
    place: Place


Target: TypeAlias = tuple[Path, Endpoint]
"""The path of a text, and the endpoint of a backend or fallback that it is."""


class Built(NamedTuple):
    """A service, where it is, and what it listens on and leads to as written."""

    service: Service
    place: Place
    claims: list[Claim]
    targets: list[Target]


def check_name(place: Place, report: Report) -> None:
    """Report a name that the kernel's objects cannot carry."""
    wrong = wrong_name(str(place.path[-1]))
    if wrong is not None:
        report.error(place, wrong.message, wrong.suggestion)


def parse_each(
    place: Place, key: str, value: str | int | Sequence[str | int] | None, parse: Callable[[str], T], report: Report
) -> list[tuple[Path, T]]:
    """Each text at a key (one, or a list of them) as a value, with its path. A number is its text."""
    if value is None:
        return []
    path = (*place.path, key)
    if isinstance(value, str | int):
        return _parse_one(Place(place.source, path), str(value), parse, report)
    found = []
    for index, text in enumerate(value):
        where = Place(place.source, (*path, index))
        if where not in report.pruned:
            found += _parse_one(where, str(text), parse, report)
    return found


def value_of(place: Place, given: S | None, parse: Callable[[S], T], default: T, report: Report) -> T:
    """What is at a place as a value; the default if it is absent or wrong."""
    found = [] if given is None else _parse_one(place, given, parse, report)
    return found[0][1] if found else default


def _parse_one(place: Place, given: S, parse: Callable[[S], T], report: Report) -> list[tuple[Path, T]]:
    try:
        return [(place.path, parse(given))]
    except WrongValue as wrong:
        report.error(place, wrong.message, wrong.suggestion)
        report.prune(place.source, place.path)
        return []


def _usable_listen(text: str) -> tuple[Listener, ...]:
    listeners = parse_listen(text)
    check_usable(listeners[0].address)
    return listeners


def _usable_endpoint(text: str) -> Endpoint:
    endpoint = parse_endpoint(text)
    check_usable(endpoint.address)
    return endpoint


def usable_address(text: str) -> Address:
    """An address that the kernel can use as a source."""
    address = parse_address(text)
    check_usable(address)
    return address


def claims_of(place: Place, table: ServiceTable, report: Report) -> list[Claim]:
    """What the service listens on, one claim for each text and protocol."""
    parsed = parse_each(place, "listen", table.listen, _usable_listen, report)
    if not parsed:
        report.missing(place, "listen", "the service listens nowhere", 'for example listen = "192.0.2.10:80"')
    return [Claim(listener, Place(place.source, path)) for path, listeners in parsed for listener in listeners]


def merged(claims: Sequence[Claim]) -> tuple[Listener, ...]:
    """One listener for each address and protocol, sorted."""
    if len(claims) == 1:
        return (claims[0].listener,)
    ports: dict[tuple[Address, Protocol], set[PortRange]] = {}
    for listener, _ in claims:
        ports.setdefault((listener.address, listener.protocol), set()).update(listener.ports)
    listeners = [Listener(*wanted, tuple(sorted(of))) for wanted, of in ports.items()]
    return tuple(sorted(listeners, key=lambda one: (one.address.version, int(one.address), one.protocol)))


def one_per_family(source: int, addresses: Sequence[tuple[Path, Address]], what: str, report: Report) -> None:
    """Report the second of two addresses of one family; `addresses` are sorted by family."""
    for (_, first), (path, second) in pairwise(addresses):
        if first.version == second.version:
            report.error(
                Place(source, path),
                f"a second IPv{second.version} address: {what} has at most one of each family",
            )


def endpoints_of(place: Place, value: str | list[str] | None, what: str, report: Report) -> list[Target]:
    """The endpoints that `address` gives, at most one of each family."""
    found = parse_each(place, "address", value, _usable_endpoint, report)
    if not found:
        report.missing(place, "address", f"{what} has no address", 'for example address = "192.168.1.10:80"')
    if len(found) > 1:
        found.sort(key=lambda target: target[1].address.version)
        one_per_family(place.source, [(path, one.address) for path, one in found], what, report)
    return found


def networks_of(place: Place, key: str, value: str | list[str] | None, report: Report) -> tuple[Network, ...]:
    """The networks at a key, without those inside others, neighbours joined, sorted."""
    if value is None:
        return ()
    if value == [] and key == "allow":
        where = Place(place.source, (*place.path, key))
        report.error(where, "an empty list would allow nobody", "leave allow out to allow everyone")
    networks = [network for _, network in parse_each(place, key, value, parse_network, report)]
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    return (*collapse_addresses(four), *collapse_addresses(six))
