"""From the tables `[shape]`, `[mark]`, `[uplink]` and `[realm]` of all files to what they say of shaping."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from markway.config.build_marks import marks_of, realms_of, uplinks_of
from markway.config.build_shape_classes import classes_of
from markway.config.build_shape_filters import filters_of
from markway.config.disciplines import CLASSFUL, discipline_of, leaf_of, with_rate
from markway.config.kinds import at
from markway.config.packets import parse_device
from markway.config.presets import with_preset
from markway.config.problems import Place, quote, show
from markway.config.rates import parse_bandwidth, parse_size
from markway.config.shaping import Direction, Discipline, Shape, ShapeClass, Shaping
from markway.config.values import check_name, parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from markway.config.build_matches import Scope
    from markway.config.kinds import M
    from markway.config.problems import Report
    from markway.config.schema import File
    from markway.config.schema_shape import ShapeTable
    from markway.config.values import T

_SLOW = 8000


def shaping_of(files: Sequence[tuple[int, File]], scope: Scope) -> Shaping:
    """What all files say of shaping together; `scope` knows their services and guards."""
    report = scope.report
    uplinks = uplinks_of(all_named("uplink", [(source, file.uplink) for source, file in files], report), report)
    realms = realms_of(all_named("realm", [(source, file.realm) for source, file in files], report), report)
    tables = all_named("shape", [(source, file.shape) for source, file in files], report)
    scope = replace(scope, realms={realm.name: realm.number for realm in realms})
    shapes = [(place, _shape(place, table, scope)) for place, table in tables]
    _check_devices(shapes, report)
    found = tuple(sorted((shape for _, shape in shapes), key=lambda shape: shape.name))
    rules = all_named("mark", [(source, file.mark) for source, file in files], report)
    return Shaping(found, marks_of(rules, found, uplinks, scope), uplinks, realms)


def all_named(kind: str, tables: Iterable[tuple[int, Mapping[str, M]]], report: Report) -> list[tuple[Place, M]]:
    """The tables of a kind with their places; a second one of a name is reported."""
    found: dict[str, tuple[Place, M]] = {}
    for source, named in tables:
        for name, table in named.items():
            place = Place(source, (kind, name))
            if name in found:
                report.error(place, f"{kind} {quote(name)} is already defined", other=found[name][0])
                continue
            check_name(place, report)
            found[name] = (place, table)
    return [*found.values()]


def _shape(place: Place, table: ShapeTable, scope: Scope) -> Shape:
    report = scope.report

    def read(key: str, given: str | int | None, parse: Callable[[str], T], default: T) -> T:
        return value_of(at(place, key), None if given is None else str(given), parse, default, report)

    if table.device is None:
        report.missing(place, "device", "nothing says whose traffic is shaped", 'for example device = "eth0"')
    device = read("device", table.device, parse_device, "")
    rate = read("rate", table.rate, parse_bandwidth, 0)
    if table.preset is not None:
        table = with_preset(table, rate)
    burst = read("burst", table.burst, parse_size, None)
    root, rate = _root(place, table, rate, burst, report)
    leaf = leaf_of(at(place, "leaf"), table.leaf, report) or Discipline("fq_codel")
    classes, default = _classes(place, table, root, rate, scope)
    return Shape(
        name=str(place.path[-1]),
        device=device,
        direction=Direction(table.direction),
        inside=_inside(place, table, device, report),
        rate=rate,
        burst=burst,
        overhead=table.overhead,
        root=root,
        leaf=leaf,
        default=default,
        classes=classes,
        filters=filters_of(at(place, "filter"), table.filter, classes, scope) if root.kind in CLASSFUL else (),
        strict=table.strict,
        optional=table.optional,
        preset=table.preset or "",
        origin=place.path,
    )  # fmt: skip


def _root(place: Place, table: ShapeTable, rate: int, burst: int | None, report: Report) -> tuple[Discipline, int]:
    """The root with its shape's rate, and that rate; who keeps to one, and has none, is reported."""
    root = discipline_of(at(place, "discipline"), table.discipline, Discipline("htb"), report)
    own = next((int(value.removesuffix("bit")) for word, value in root.options if word in {"rate", "bandwidth"}), 0)
    if own and rate and own != rate:
        report.error(at(place, "discipline"), "it has another rate than the shape", "say it once, as the shape's rate")
    rate = rate or own
    if not rate and root.kind in {"htb", "tbf"}:
        what = f"nothing says how fast it is, and {root.kind} keeps to a rate"
        report.missing(place, "rate", what, 'for example rate = "1024kbit"')
    if isinstance(table.rate, int) and 0 < rate < _SLOW:
        what = f"{rate} bits per second: a packet takes seconds"
        report.warning(at(place, "rate"), what, f'did you mean "{rate}kbit"?')
    if table.preset is not None and root.kind != "htb":
        report.error(at(place, "preset"), f"its classes have rates, and {root.kind} has none", "leave out discipline")
        root = Discipline("htb")
    for key, given in (("burst", burst if table.preset is None else None), ("overhead", table.overhead)):
        if given and not rate and not report.doubtful(place, "rate"):
            report.error(at(place, key), "without a rate it means nothing", 'for example rate = "1024kbit"')
    return with_rate(root, rate, burst, table.overhead), rate


def _classes(
    place: Place, table: ShapeTable, root: Discipline, rate: int, scope: Scope
) -> tuple[tuple[ShapeClass, ...], str]:
    """The shape's classes, and which of them takes what nothing else does."""
    report = scope.report
    if root.kind not in CLASSFUL:
        for key, given in (("class", table.classes), ("filter", table.filter), ("default", table.default)):
            if given:
                report.error(at(place, key), f"{root.kind} has no classes", 'leave out discipline for "htb", which has')
        return (), ""
    if root.kind == "prio" and not table.classes and not report.doubtful(place, "class"):
        hint = f"write [{show(place.path)}.class.NAME], one for each band"
        report.error(place, "prio has no classes to choose from", hint)
    return classes_of(place, table, root, rate, scope)


def _inside(place: Place, table: ShapeTable, device: str, report: Report) -> tuple[str, ...]:
    """The devices towards the inner network."""
    found = [(path, name) for path, name in parse_each(place, "inside", table.inside, parse_device, report)]
    where = at(place, "inside")
    if table.inside is not None and table.direction == "egress":
        report.error(where, "what a device sends is shaped on it", 'it is for direction = "ingress"')
    for path, name in found:
        if name == device:
            report.error(
                Place(place.source, path), f"{name} is the device itself", "name the one towards the inner network"
            )
    return tuple(dict.fromkeys(name for _, name in found))


def _check_devices(shapes: Sequence[tuple[Place, Shape]], report: Report) -> None:
    """Report the second of two shapes of one device and direction."""
    seen: dict[tuple[str, Direction], Place] = {}
    for place, shape in shapes:
        asked = (shape.device, shape.direction)
        if shape.device and asked in seen:
            report.error(
                at(place, "device"), f"{shape.device} has a shape of its {shape.direction} already", other=seen[asked]
            )
        seen.setdefault(asked, at(place, "device"))
