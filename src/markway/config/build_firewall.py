"""From the tables `[zone]`, `[firewall]` and `[policy]` of all files to what they say of the firewall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.build_matches import Placed, Scope, matches_of, unknown
from markway.config.build_shape import all_named
from markway.config.firewalling import ANY, SELF, Firewalling, Policy, Verdict, Zone
from markway.config.kinds import at
from markway.config.packets import parse_device
from markway.config.problems import Place, quote
from markway.config.schema_firewall import FirewallTable
from markway.config.units import parse_rate
from markway.config.values import networks_of, parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from markway.config.model import SourceRate
    from markway.config.problems import Report
    from markway.config.schema import File
    from markway.config.schema_firewall import PolicyTable, ZoneTable
    from markway.config.shaping import Match

_OF_SOCKETS = ("user", "group", "cgroup")
_AFTER_TRACKING = ("state", "bytes-over")
_LIMITS = ("rate", "max-connections", "synproxy")


def firewalling_of(files: Sequence[tuple[int, File]], scope: Scope) -> Firewalling:
    """What all files say of the firewall together; `scope` knows their services and guards."""
    report, uplinks = scope.report, any(file.uplink for _, file in files)
    zones = all_named("zone", [(source, file.zone) for source, file in files], report)
    policies = all_named("policy", [(source, file.policy) for source, file in files], report)
    place, table = _firewall(files, report)
    log = _log(at(place, "log"), table.log, None, report)
    if not (zones or policies or place.path):
        return Firewalling()
    names = (*(str(where.path[-1]) for where, _ in zones), SELF, ANY)
    return Firewalling(
        zones=tuple(_zone(where, zone, uplinks=uplinks, report=report) for where, zone in zones),
        policies=tuple(_policy(where, policy, names, log, scope) for where, policy in policies),
        closed=bool(policies) or any(file.firewall is not None for _, file in files),
        icmp=table.icmp,
        dhcp=table.dhcp,
        log=log,
        refuse_lockout=table.lockout == "refuse",
        origin=place.path,
    )


def _firewall(files: Sequence[tuple[int, File]], report: Report) -> tuple[Place, FirewallTable]:
    """The table and its place; of a file without one, the first policy's place, which stands for it."""
    found: tuple[Place, FirewallTable] | None = None
    for source, file in files:
        place = Place(source, ("firewall",))
        if file.firewall is None:
            continue
        if found is not None:
            report.error(place, "[firewall] is already defined", other=found[0])
            continue
        found = place, file.firewall
    first = next((Place(source, ("policy", name)) for source, file in files for name in file.policy), Place(0, ()))
    return found or (first, FirewallTable.model_construct())


def _zone(place: Place, table: ZoneTable, *, uplinks: bool, report: Report) -> Zone:
    name = str(place.path[-1])
    if name in {SELF, ANY}:
        what = "this machine" if name == SELF else "everywhere but this machine"
        report.error(place, f"{quote(name)} is {what}, without a table", "choose another name")
    devices = tuple(dict.fromkeys(one for _, one in parse_each(place, "devices", table.devices, parse_device, report)))
    networks = networks_of(place, "networks", table.networks, report)
    wrong = any(report.doubtful(place, key) for key in ("devices", "networks"))
    if not (devices or networks or wrong):
        report.error(place, "nothing says who is there", 'for example devices = "eth0" or networks = "10.0.0.0/8"')
    if "lo" in devices:
        report.error(at(place, "devices"), "lo leads to this machine itself", f"that is the zone {quote(SELF)}")
    if table.spoofed == "drop" and not devices and not wrong:
        report.error(at(place, "spoofed"), "it is asked by device, and the zone has none", "leave it out")
    spoofed = table.spoofed == "drop" or (table.spoofed is None and not uplinks)
    return Zone(name, devices, networks, spoofed and bool(devices), place.path)


def _log(where: Place, given: str | bool | None, default: SourceRate | None, report: Report) -> SourceRate | None:
    if given is None:
        return default
    if given is True:
        report.error(where, "nothing says how often", 'for example log = "10/minute"')
    return None if isinstance(given, bool) else value_of(where, given, parse_rate, None, report)


def _policy(place: Place, table: PolicyTable, zones: Collection[str], log: SourceRate | None, scope: Scope) -> Policy:
    report = scope.report
    sources = _ends(place, "from", table.source, zones, report)
    targets = _ends(place, "to", table.to, zones, report)
    if sources and targets and {*sources, *targets} == {SELF}:
        report.error(place, "what this machine tells itself always passes", "name another zone in from or to")
    found = matches_of(at(place, "match"), table.match, scope)
    for placed in found:
        _check_match(placed, sources, targets, report)
    if table.verdict is None:
        report.missing(place, "verdict", "nothing says what becomes of it", 'for example verdict = "accept"')
    verdict = Verdict(table.verdict or "accept")
    if verdict is not Verdict.ACCEPT:
        for key in _LIMITS:
            if getattr(table, key.replace("-", "_")):
                report.error(at(place, key), "only what is accepted is limited", "leave it out")
    policy = Policy(
        name=str(place.path[-1]),
        sources=sources,
        targets=targets,
        verdict=verdict,
        matches=tuple(one.match for one in found),
        log=_log(at(place, "log"), table.log, None if verdict is Verdict.ACCEPT else log, report),
        rate=value_of(at(place, "rate"), table.rate, parse_rate, None, report),
        max_connections=table.max_connections,
        synproxy=table.synproxy,
        origin=place.path,
    )
    if policy.synproxy and verdict is Verdict.ACCEPT:
        _check_synproxy(place, policy, found, report)
    return policy


def _ends(
    place: Place, key: str, given: str | list[str] | None, zones: Collection[str], report: Report
) -> tuple[str, ...]:
    if given is None:
        report.missing(place, key, f"nothing says {'where it comes from' if key == 'from' else 'where it goes'}",
                       f'for example {key} = "any"')  # fmt: skip
    if given == []:
        report.error(at(place, key), "an empty list is nowhere", f'for example {key} = "any"')
    found = parse_each(place, key, given, str, report)
    for path, name in found:
        unknown(Place(place.source, path), "zone", name, zones, report)
    return tuple(dict.fromkeys(name for _, name in found if name in zones))


def _check_match(placed: Placed, sources: Sequence[str], targets: Sequence[str], report: Report) -> None:
    """Report what no packet of these zones can have."""
    match, where = placed
    if match.service is not None:
        report.error(at(where, "service"), "services are open by themselves", "their own allow and deny say to whom")
    for key in _given(match, _OF_SOCKETS):
        if sources and SELF not in sources:
            report.error(at(where, key), "what comes in has no socket here whose owner could be asked for",
                         f'it is for from = "{SELF}"')  # fmt: skip
    if match.incoming_device and {*sources} == {SELF}:
        report.error(at(where, "incoming-device"), "what this machine sends came in by no device", "leave it out")
    if match.outgoing_device and {*targets} == {SELF}:
        report.error(at(where, "outgoing-device"), "what is for this machine leaves by no device", "leave it out")


def _check_synproxy(place: Place, policy: Policy, found: Sequence[Placed], report: Report) -> None:
    where = at(place, "synproxy")
    if not found and not report.doubtful(place, "match"):
        hint = 'for example match = { protocol = "tcp", destination-port = 80 }'
        report.error(where, "it is for TCP, and nothing says which ports", hint)
    if SELF in policy.sources:
        report.error(where, "the handshakes of this machine are its own", f'leave "{SELF}" out of from')
    if policy.max_connections is not None:
        what = "a connection is counted before its handshake, which synproxy answers"
        report.error(at(place, "max-connections"), what, "leave one of the two out")
    for match, match_place in found:
        if match.protocol != ("tcp",) and not report.doubtful(match_place, "protocol"):
            report.error(match_place, "synproxy is for TCP only", 'write protocol = "tcp"')
        for key in _given(match, (*_AFTER_TRACKING, "outgoing-device", "nft")):
            report.error(
                at(match_place, key), "it cannot be asked of a handshake that synproxy answers", "leave it out"
            )


def _given(match: Match, keys: Sequence[str]) -> Iterator[str]:
    """The keys of a match that are set."""
    names = {"nft": "raw"}
    return (key for key in keys if getattr(match, names.get(key, key.replace("-", "_"))) not in (None, ()))
