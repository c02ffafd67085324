"""From the tables `[[shape.NAME.filter]]` to classifiers of tc, in the order in which tc asks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.build_matches import Scope, unknown
from markway.config.build_shape_classes import Leaves
from markway.config.kinds import at, kind_of
from markway.config.packets import parse_mark
from markway.config.problems import Place
from markway.config.shaping import Filter, FilterKind
from markway.config.u32 import check_together, parse_selector, reads_beyond
from markway.config.values import parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.problems import Path, Report
    from markway.config.schema_shape import FilterTable
    from markway.config.shaping import ShapeClass
    from markway.config.u32 import Selector

_STEP = 10
_LAST = 65_535
_REALMS = range(1, 256)


def filters_of(
    where: Place, tables: Sequence[FilterTable], classes: Sequence[ShapeClass], scope: Scope
) -> tuple[Filter, ...]:
    """The filters by rising preference; those of one preference in the file's order."""
    found: list[Filter] = []
    leaves = Leaves.of(classes)
    for index, table in enumerate(tables):
        place = at(where, index)
        if place in scope.report.pruned and not table.model_fields_set:
            continue
        one = _filter(place, table, leaves, found, scope)
        if one is not None:
            found.append(one)
    _check_alike(where, found, scope.report)
    return tuple(sorted(found, key=lambda one: one.preference))


def _filter(
    where: Place, table: FilterTable, leaves: Leaves, before: list[Filter], scope: Scope,

) -> Filter | None:  # fmt: skip
    report = scope.report
    if table.target is None:
        report.missing(where, "class", "nothing says which class gets what it finds", 'for example class = "web"')
    else:
        leaves.has(at(where, "class"), table.target, report)
    kind = kind_of(where, table, FilterKind, report)
    if kind is None:
        return None
    texts = parse_each(where, "u32", table.u32, str, report)
    selectors = parse_each(where, "u32", table.u32, parse_selector, report)
    protocol = table.protocol or _protocol(kind, [selector.family for _, selector in selectors])
    if kind is FilterKind.U32:
        if not texts and not report.doubtful(where, "u32"):
            report.error(at(where, "u32"), "nothing is asked for", 'for example u32 = "ip protocol 17 0xff"')
        _check_selectors(where, [*selectors], protocol, report)
    mark = value_of(at(where, "fw"), None if table.fw is None else str(table.fw), parse_mark, (0, 0), report)
    if kind is FilterKind.FW and not mark[0] and not report.doubtful(where, "fw"):
        report.error(
            at(where, "fw"), "0 is the mark of packets without one, which fw does not find", "leave them to default"
        )
    route = at(where, "route")
    back, to = (
        (
            _realm(at(route, "from"), table.route.source, scope),
            _realm(at(route, "to"), table.route.to, scope),
        )
        if table.route is not None
        else (None, None)
    )
    if table.route is not None and not table.route.model_fields_set and not report.doubtful(where, "route"):
        report.error(route, "nothing says which realm", 'for example route = { from = "office" }')
    return Filter(
        kind=kind,
        target=table.target or "",
        preference=table.priority or _preference(kind, protocol, mark[1], before),
        protocol=protocol,
        origin=where.path,
        selectors=tuple(text for _, text in texts),
        keys=tuple(key for _, selector in selectors for key in selector.keys),
        mark=mark,
        from_realm=back,
        to_realm=to,
    )


def _protocol(kind: FilterKind, families: Sequence[int]) -> str:
    if kind is FilterKind.FW:
        return "all"
    return "ipv6" if 6 in families and 4 not in families else "ip"  # noqa: PLR2004


def _preference(kind: FilterKind, protocol: str, mask: int, before: Sequence[Filter]) -> int:
    """That of the filter before if it is alike, else the next step behind all."""
    if not before:
        return _STEP
    last = before[-1]
    if (last.kind, last.protocol, last.mark[1]) == (kind, protocol, mask):
        return last.preference
    return (max(one.preference for one in before) // _STEP + 1) * _STEP


def _check_selectors(where: Place, selectors: Sequence[tuple[Path, Selector]], protocol: str, report: Report) -> None:
    parsed = [selector for _, selector in selectors]
    for index, message, hint in check_together(parsed, protocol):
        report.error(Place(where.source, selectors[index][0]), message, hint)
    for index in reads_beyond(parsed, protocol):
        what = "it reads behind the IP header, where each protocol has something else"
        report.warning(
            Place(where.source, selectors[index][0]), what, 'add "ip protocol 6 0xff", or whichever is meant'
        )


def _realm(place: Place, given: str | int | None, scope: Scope) -> int | None:
    """The number of a realm that is given by name or number."""
    if given is None:
        return None
    named, report = scope.realms, scope.report
    if isinstance(given, str) and not given.isdecimal():
        return None if unknown(place, "realm", given, [*named], report) else named[given]
    if int(given) not in _REALMS:
        report.error(place, f"there is no realm {given}", "1 to 255")
    return int(given)


def _check_alike(where: Place, filters: Sequence[Filter], report: Report) -> None:
    """Report filters of one preference that the kernel keeps apart (tcf_chain_tp_find in net/sched/cls_api.c)."""
    first: dict[int, Filter] = {}
    for one in filters:
        other = first.setdefault(one.preference, one)
        place, seen = Place(where.source, one.origin), Place(where.source, other.origin)
        if one.preference > _LAST:
            report.error(place, f"the priority {one.preference} is beyond {_LAST}", "give the filters priorities")
        for what, mine, its in (
            ("kind", one.kind.value, other.kind.value),
            ("protocol", one.protocol, other.protocol),
            ("mask", f"{one.mark[1]:#x}", f"{other.mark[1]:#x}"),
        ):
            if mine != its:
                rule = f"all filters of priority {one.preference} have one {what}: {mine} is not {its}"
                report.error(place, rule, "give it a priority of its own", other=seen)
                break
