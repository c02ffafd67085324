"""From tables `match` to the model's values, and what no packet can have."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from markway.config.addresses import parse_network, parse_ports
from markway.config.guarding import Slowed
from markway.config.kinds import at, attribute
from markway.config.packets import (
    ICMP,
    ICMP_TYPES,
    WITH_PORTS,
    parse_cgroup,
    parse_device,
    parse_dscp,
    parse_flags,
    parse_icmp_type,
    parse_length,
    parse_mark,
    parse_nft,
    parse_owner,
    parse_protocol,
    parse_state,
)
from markway.config.problems import did_you_mean, listed, quote
from markway.config.rates import parse_size
from markway.config.schema_matches import MatchTable
from markway.config.shaping import Match
from markway.config.values import parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from markway.config.guarding import Guard
    from markway.config.model import Network, PortRange
    from markway.config.problems import Place, Report
    from markway.config.values import T


_LISTED = 7
"""Names that a hint has room for."""
_NEEDS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("icmp-type", (), tuple(ICMP)),
    ("tcp-flags", ("tcp",), ("tcp",)),
    *((key, ("tcp", "udp"), WITH_PORTS) for key in ("source-port", "destination-port", "port")),
)
"""Keys that only packets of some protocols have: which are meant where none is given, and which may be."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What else the files name, and where problems go."""

    report: Report
    backends: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The names of backends, by service."""
    guards: Mapping[str, Guard] = field(default_factory=dict)
    """By name."""
    realms: Mapping[str, int] = field(default_factory=dict)


class Placed(NamedTuple):
    """A match, and where the file says it."""

    match: Match
    place: Place


def matches_of(where: Place, given: MatchTable | Sequence[MatchTable] | None, scope: Scope) -> list[Placed]:
    """The matches at a key, which holds one table or a list of them."""
    if given is None:
        return []
    if isinstance(given, MatchTable):
        return [_match(where, given, scope)]
    found = []
    if not given and where not in scope.report.pruned:
        scope.report.error(where, "an empty list matches nothing", 'for example { protocol = "tcp" }')
    for index, table in enumerate(given):
        place = at(where, index)
        if place not in scope.report.pruned:
            found.append(_match(place, table, scope))
    return found


def _match(where: Place, table: MatchTable, scope: Scope) -> Placed:
    report = scope.report
    if not table.model_fields_set and where not in report.pruned:
        report.error(where, "nothing is asked for: every packet would match", 'for example { protocol = "tcp" }')

    def each(key: str, given: str | int | Sequence[str | int] | None, parse: Callable[[str], T]) -> tuple[T, ...]:
        if given is None:
            return ()
        if given == []:
            report.error(at(where, key), "an empty list matches nothing", "leave it out to ask for nothing")
        return tuple(dict.fromkeys(value for _, value in parse_each(where, key, given, parse, report)))

    def ports(key: str, given: str | int | list[str | int] | None) -> tuple[PortRange, ...]:
        return tuple(sorted({one for ranges in each(key, given, parse_ports) for one in ranges}))

    def one(key: str, given: str | int | None, parse: Callable[[str], T]) -> T | None:
        return None if given is None else value_of(at(where, key), str(given), parse, None, report)

    match = Match(
        origin=where.path,
        service=table.service,
        backend=table.backend,
        slowed=_slowed(at(where, "guard"), table.guard, scope),
        family=table.family,
        protocol=each("protocol", table.protocol, parse_protocol),
        source=each("source", table.source, parse_network),
        destination=each("destination", table.destination, parse_network),
        source_port=ports("source-port", table.source_port),
        destination_port=ports("destination-port", table.destination_port),
        port=ports("port", table.port),
        incoming_device=one("incoming-device", table.incoming_device, parse_device),
        outgoing_device=one("outgoing-device", table.outgoing_device, parse_device),
        dscp=each("dscp", table.dscp, parse_dscp),
        icmp_type=each("icmp-type", table.icmp_type, parse_icmp_type),
        tcp_flags=one("tcp-flags", table.tcp_flags, parse_flags),
        length=one("length", table.length, parse_length),
        state=each("state", table.state, parse_state),
        bytes_over=one("bytes-over", table.bytes_over, parse_size),
        user=each("user", table.user, parse_owner),
        group=each("group", table.group, parse_owner),
        cgroup=one("cgroup", table.cgroup, parse_cgroup),
        packet_mark=one("mark", table.mark, parse_mark),
        raw=one("nft", table.nft, parse_nft),
    )
    _check_service(where, match, scope)
    match = _with_protocol(where, match, report)
    _check_family(where, match, report)
    return Placed(match, where)


def _slowed(where: Place, name: str | None, scope: Scope) -> Slowed | None:
    """Whom a guard slows; one that the file does not have, or that bans at once, is reported."""
    if name is None or unknown(where, "guard", name, scope.guards, scope.report):
        return None
    guard = scope.guards[name]
    if not guard.slow:
        scope.report.error(
            where, f"guard {quote(name)} slows nobody: it bans at once", f"write slow = true in [guard.{name}]"
        )
    return Slowed(name, guard.prefix, guard.prefix6)


def _check_service(where: Place, match: Match, scope: Scope) -> None:
    """Report a service or a backend that the file does not have."""
    backends, report = scope.backends, scope.report
    if match.service is None:
        if match.backend is not None and not report.doubtful(where, "service"):
            owners = [name for name, known in backends.items() if match.backend in known]
            hint = f"for example service = {quote(owners[0])}" if owners else 'for example service = "web"'
            report.error(at(where, "backend"), "nothing says of which service", hint)
        return
    unknown(at(where, "service"), "service", match.service, backends, report)
    known = backends.get(match.service)
    if match.backend is not None and known is not None:
        what = f"backend in service {quote(match.service)} called"
        unknown(at(where, "backend"), what, match.backend, known, report)


def unknown(place: Place, what: str, name: str, known: Collection[str], report: Report) -> bool:
    """Report a name that nothing has, with those that there are; whether it did."""
    if name in known:
        return False
    hint = did_you_mean(name, [*known])
    if hint is None and 0 < len(known) <= _LISTED:
        hint = f"there {'is' if len(known) == 1 else 'are'} {listed([quote(one) for one in sorted(known)], 'and')}"
    report.error(place, f"there is no {what} {quote(name)}", hint)
    return True


def _with_protocol(where: Place, match: Match, report: Report) -> Match:
    """The match with the protocol that its other keys need; what the one given does not have is reported."""
    if report.doubtful(where, "protocol"):
        return match
    protocol = match.protocol
    for key, meant, allowed in _NEEDS:
        if not getattr(match, attribute(key)):
            continue
        if not protocol and not meant:
            report.error(at(where, key), "nothing says of which protocol", 'write protocol = "icmp" or "icmpv6"')
        protocol = protocol or meant
        other = next((name for name in protocol if name not in allowed), None)
        if other is not None:
            report.error(at(where, key), f"{other} has none", f"it is for {listed(allowed, 'and')}")
    for name in {*protocol} & {*ICMP}:
        for kind in match.icmp_type:
            if kind not in ICMP_TYPES[name]:
                hint = did_you_mean(kind, ICMP_TYPES[name])
                report.error(at(where, "icmp-type"), f"{name} has no message {quote(kind)}", hint)
    return match if protocol == match.protocol else replace(match, protocol=protocol)


def _check_family(where: Place, match: Match, report: Report) -> None:
    """Report what only packets of two families at once could have."""
    asked: list[tuple[str, set[int]]] = []
    if match.family is not None:
        asked.append(("family", {match.family}))
    for key, networks in (("source", match.source), ("destination", match.destination)):
        if networks:
            asked.append((key, _families(networks)))
    if match.protocol and all(name in ICMP for name in match.protocol):
        asked.append(("protocol", {ICMP[name] for name in match.protocol}))
    left = {4, 6}
    for key, families in asked:
        if not left & families:
            version, other = next(iter(families)), next(iter(left))
            report.error(
                at(where, key), f"this is IPv{version}, and the other keys are of IPv{other}: no packet is both"
            )
            return
        left &= families


def _families(networks: Sequence[Network]) -> set[int]:
    return {network.version for network in networks}
