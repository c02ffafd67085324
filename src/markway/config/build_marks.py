"""From the tables `[mark]`, `[uplink]` and `[realm]` to the model's values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from markway.config.addresses import parse_address, parse_network
from markway.config.build_matches import Placed, matches_of, unknown
from markway.config.build_shape_classes import Leaves
from markway.config.kinds import at
from markway.config.packets import parse_device
from markway.config.problems import Place, WrongValue, did_you_mean, listed, quote
from markway.config.shaping import MarkRule, Realm, RealmRoute, Uplink, Way
from markway.config.values import parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from markway.config.build_matches import Scope
    from markway.config.problems import Report
    from markway.config.schema_shape import MarkTable, RealmRouteTable, RealmTable, UplinkTable
    from markway.config.shaping import Shape

_OWN_TABLES = range(253, 256)
"""default, main and local (linux/rtnetlink.h, rt_class_t)."""
_UPLINKS = 15
"""As many as the mark's field of uplinks has numbers."""


def uplinks_of(tables: Sequence[tuple[Place, UplinkTable]], report: Report) -> tuple[Uplink, ...]:
    """The uplinks by name."""
    seen: dict[int, Place] = {}
    found = []
    for place, table in tables:
        where = at(place, "table")
        if table.table is None:
            report.missing(place, "table", "nothing says which routing table", "for example table = 100")
            found.append(Uplink(str(place.path[-1]), 0, place.path))
            continue
        if table.table in _OWN_TABLES:
            report.error(where, f"table {table.table} is the kernel's own", "for example table = 100")
        elif table.table in seen:
            report.error(where, f"table {table.table} is another uplink's already", other=seen[table.table])
        seen.setdefault(table.table, where)
        found.append(Uplink(str(place.path[-1]), table.table, place.path))
    if len(found) > _UPLINKS:
        report.error(tables[_UPLINKS][0], f"{len(found)} uplinks: a mark tells {_UPLINKS} apart")
    return tuple(sorted(found, key=lambda one: one.name))


def realms_of(tables: Sequence[tuple[Place, RealmTable]], report: Report) -> tuple[Realm, ...]:
    """The realms by name."""
    seen: dict[int, Place] = {}
    routes: dict[tuple[object, ...], Place] = {}
    found = []
    for place, table in tables:
        where = at(place, "number")
        if table.number is None:
            report.missing(place, "number", "the realm has no number", "for example number = 5")
        elif table.number in seen:
            report.error(where, f"{table.number} is another realm's already", other=seen[table.number])
        seen.setdefault(table.number or 0, where)
        made = []
        for index, given in enumerate(table.routes):
            one = at(place, "routes", index)
            route = None if one in report.pruned and not given.model_fields_set else _route(one, given, report)
            if route is None:
                continue
            key = (route.to, route.metric or 0)
            if key in routes:
                report.error(one, f"a second route to {route.to}", "give one of them another metric", other=routes[key])
            routes.setdefault(key, one)
            made.append(route)
        found.append(Realm(str(place.path[-1]), table.number or 0, tuple(made), place.path))
    return tuple(sorted(found, key=lambda one: one.name))


def _route(where: Place, table: RealmRouteTable, report: Report) -> RealmRoute | None:
    if table.to is None:
        report.missing(where, "to", "the route leads nowhere", 'for example to = "10.1.0.0/16"')
    if table.via is None and table.device is None and not report.doubtful(where, "via"):
        report.missing(where, "device", "nothing says by what it leads there", 'for example via = "10.0.0.9"')
    network = value_of(at(where, "to"), table.to, _parse_network4, None, report)
    via = value_of(at(where, "via"), table.via, _parse_address4, None, report)
    device = value_of(at(where, "device"), table.device, parse_device, None, report)
    return None if network is None else RealmRoute(network, via, device, table.metric, where.path)


def _parse_network4(text: str) -> IPv4Network:
    if text == "default":
        raise WrongValue('"default" is every address', 'did you mean "0.0.0.0/0"?')
    network = parse_network(text)
    if not isinstance(network, IPv4Network):
        raise WrongValue(f"{quote(text)} is IPv6, whose routes have no realms", 'for example "10.1.0.0/16"')
    return network


def _parse_address4(text: str) -> IPv4Address:
    address = parse_address(text)
    if not isinstance(address, IPv4Address):
        raise WrongValue(f"{quote(text)} is IPv6, whose routes have no realms", 'for example "10.0.0.9"')
    return address


def marks_of(
    tables: Sequence[tuple[Place, MarkTable]],
    shapes: Sequence[Shape],
    uplinks: Sequence[Uplink],
    scope: Scope,
) -> tuple[MarkRule, ...]:
    """The marking rules, in the file's order."""
    leaves = {shape.name: Leaves.of(shape.classes) for shape in shapes}
    names = frozenset(uplink.name for uplink in uplinks)
    return tuple(_mark(place, table, leaves, names, scope) for place, table in tables)


def _mark(
    place: Place, table: MarkTable, leaves: Mapping[str, Leaves], uplinks: Collection[str],
    scope: Scope,
) -> MarkRule:  # fmt: skip
    report = scope.report
    found = matches_of(at(place, "match"), table.match, scope)
    if not found:
        report.missing(place, "match", "nothing says which packets", 'for example match = [{ source = "10.0.0.7" }]')
    target = None if table.target is None else _target(at(place, "class"), table.target, leaves, report)
    if table.uplink is not None:
        unknown(at(place, "uplink"), "uplink", table.uplink, uplinks, report)
    elif table.target is None and not report.doubtful(place, "class") and not report.doubtful(place, "uplink"):
        report.error(place, "nothing is set", 'for example class = "wan.bulk" or uplink = "dsl"')
    return MarkRule(
        name=str(place.path[-1]),
        matches=tuple(one.match for one in found),
        shape_class=target,
        uplink=table.uplink,
        on=_ways(place, table, found, report),
        origin=place.path,
    )


def _target(where: Place, text: str, leaves: Mapping[str, Leaves], report: Report) -> tuple[str, str] | None:
    """The shape and the class that `SHAPE.CLASS` names; both names may have dots."""
    parts = text.split(".")
    ways = [(".".join(parts[:index]), ".".join(parts[index:])) for index in range(1, len(parts))]
    if not ways:
        owner = next((shape for shape, known in leaves.items() if text in known.names), None)
        hint = f"did you mean {quote(f'{owner}.{text}')}?" if owner is not None else 'for example "wan.bulk"'
        report.error(where, f"{quote(text)} says not of which shape", hint)
        return None
    named = [way for way in ways if way[0] in leaves]
    if not named:
        unknown(where, "shape", ways[0][0], leaves, report)
        return None
    shape, name = next((way for way in named if way[1] in leaves[way[0]].names), named[0])
    return (shape, name) if leaves[shape].has(where, name, report) else None


def _ways(place: Place, table: MarkTable, found: Sequence[Placed], report: Report) -> tuple[Way, ...]:
    """Which packets are looked at: those asked for, or all that can have what the matches ask for."""
    asked = parse_each(place, "on", table.on, _parse_way, report)
    possible = {way for way in Way if not any(_cannot(way, one, table) for one in found)}
    if table.on is None:
        if not possible and found:
            report.error(at(place, "match"), "no packet can have all of these", "write several rules")
        return tuple(way for way in Way if way in possible)
    for path, way in asked:
        reason = next((_cannot(way, one, table) for one in found if _cannot(way, one, table)), None)
        if reason:
            report.error(Place(place.source, path), f"{way} packets {reason}", "leave it out")
    return tuple(way for way in Way if way in {one for _, one in asked})


def _cannot(way: Way, placed: Placed, table: MarkTable) -> str | None:
    """Why such packets cannot have what a match asks for."""
    match = placed.match
    if way is not Way.LOCAL and (match.user or match.group or match.cgroup):
        return "have no socket here whose owner could be asked for"
    if way is Way.LOCAL and match.incoming_device:
        return "came in by no device"
    if way is Way.INCOMING and match.outgoing_device:
        return "leave by no device"
    if way is Way.FORWARDED and match.outgoing_device and table.uplink:
        return "have no outgoing device before the uplink is chosen"
    if way is Way.INCOMING and table.uplink:
        return None if table.target else "do not leave again by an uplink"
    return None


def _parse_way(text: str) -> Way:
    try:
        return Way(text)
    except ValueError:
        hint = did_you_mean(text, [*Way]) or f"there are {listed([*Way], 'and')}"
        raise WrongValue(f"{quote(text)} is none of the ways of a packet", hint) from None
