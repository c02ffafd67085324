"""One frame of `markway top`, for a screen of any size. Pure: a status in, lines out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.text import Text

from markway.cli import shapes
from markway.cli.backends import checked, load, state, weight
from markway.cli.columns import Columns, Row, cut, octets
from markway.cli.events import line as event_line
from markway.cli.pace import Rate
from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Record = dict[str, Any]

SORTS = ("name", "connections/s", "active", "bytes/s")
"""What backends can be sorted by."""

_SERVICES = Columns(
    ("BACKEND", "STATE", "WEIGHT", "LOAD", "CHECK", "ASKED", "GOT", "CONN/S", "ACTIVE", "BYTES/S"),
    left=frozenset({"BACKEND", "STATE", "CHECK"}),
    dropped=("CHECK", "LOAD", "ASKED", "WEIGHT", "BYTES/S", "GOT", "ACTIVE", "STATE"),
    optional=frozenset({"LOAD", "CHECK"}),
)
_PANES = {"services": SORTS, "shapes": shapes.SORTS}
_WIDEST_CHECK = 32
_EVENTS, _TALL, _LOW = 5, 16, 6
"""Events shown at most, the height from which they are, and that below which there is only the table."""

_STYLES = {"up": "green", "down": "bold red", "unknown": "magenta", "out": "magenta", "sorry": "dim"}
_RESTING = Rate()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame shows. `at` is the time of day as text, `problem` why there is nothing newer."""

    record: Record
    rates: Mapping[str, Rate]
    events: Sequence[Record] = ()
    at: str = ""
    problem: str = ""


@dataclass(slots=True)
class Choice:
    """What the person before the screen wants to see."""

    sort: str = SORTS[0]
    first: int = 0
    pane: str = "services"

    def turn(self) -> None:
        """Look at the next pane."""
        names = [*_PANES]
        self.pane, self.first = names[(names.index(self.pane) + 1) % len(names)], 0

    def sort_otherwise(self) -> None:
        """Sort by the next figure."""
        sorts = _PANES[self.pane]
        self.sort = sorts[(sorts.index(self.sort) + 1) % len(sorts)]

    def fit(self, record: Record) -> None:
        """Look at what there is."""
        if self.pane not in panes(record):
            self.pane = panes(record)[0]
        if self.sort not in _PANES[self.pane]:
            self.sort = _PANES[self.pane][0]


@dataclass(frozen=True, slots=True)
class _Totals:
    connections: float = 0.0
    active: int = 0
    bytes: float = 0.0
    names: list[str] = field(default_factory=list)


def panes(record: Record) -> list[str]:
    """What there is to look at."""
    return [name for name in _PANES if record[name]] or ["services"]


def frame(seen: Seen, choice: Choice, width: int, height: int | None) -> list[Text]:
    """The lines of a frame, none wider than `width`; `height` None is as high as it takes.

    Moves `choice.first` to where there is something to see.
    """
    choice.fit(seen.record)
    services = choice.pane == "services"
    rows = list(_rows(seen, choice.sort) if services else shapes.live(seen.record["shapes"], seen.rates, choice.sort))
    low = height is not None and height < _LOW
    events = [event_line(e, date=False) for e in seen.events[-_EVENTS:]] if height is None or height >= _TALL else []
    head = [] if low else [*_head(seen, choice.pane), Text()]
    keys = [] if low or height is None else [Text()]
    below = [] if low else [*([Text(), *events] if events else []), *keys]
    room = len(rows) if height is None else max(1, height - len(head) - 1 - len(below))
    choice.first = max(0, min(choice.first, len(rows) - room))
    if keys:
        below[-1] = _keys(choice, room, len(rows), both=len(panes(seen.record)) > 1)
    fitted = (_SERVICES if services else shapes.LIVE).fit(rows, width)
    shown = rows[choice.first : choice.first + room]
    table = [fitted.header("reverse"), *map(fitted.line, shown)]
    blank = [] if height is None else [Text()] * (room - len(shown))
    return [cut(line, width) for line in (*head, *table, *blank, *below)][:height]


def _head(seen: Seen, pane: str) -> Iterable[Text]:
    yield _title(seen)
    if pane == "shapes":
        yield Text(shapes.head(seen.record["shapes"], seen.rates))
        return
    record = seen.record
    among = (backend for service in record["services"] for backend in service["backends"])
    backends = [backend for backend in among if backend["state"] != "sorry"]
    up = sum(backend["state"] == "up" for backend in backends)
    whole = _totals(seen, record["services"])
    yield Text(
        f"{count(len(record['services']), 'service')}, {up} of {count(len(backends), 'backend')} up, "
        f"{_number(whole.connections)} connections/s, {whole.active:,} active, {octets(whole.bytes)}/s"
    )


def _title(seen: Seen) -> Text:
    record = seen.record
    title = Text.assemble(("markway top", "bold"), f"  {seen.at}  ")
    if seen.problem:
        return title.append(seen.problem, "bold red")
    if record["damage"]:
        return title.append(f"damaged: {record['damage']}", "bold red")
    if not record["in_force"]:
        return title.append("nothing in force", "bold red")
    if record["beside"]:
        return title.append(record["beside"], "bold red")
    title.append(f"program {record['program'][:8]}  ", "dim")
    return title.append(
        f"daemon {record['pid']}" if record["daemon"] else "no daemon", "" if record["daemon"] else "yellow"
    )


def _keys(choice: Choice, room: int, rows: int, *, both: bool) -> Text:
    last = min(rows, choice.first + room)
    where = f"  ↑↓ scroll {choice.first + 1}-{last} of {rows}" if room < rows else ""
    turn = f"  tab {'shapes' if choice.pane == 'services' else 'services'}" if both else ""
    return Text(f"q quit{turn}  s sort: {choice.sort}{where}", "dim")


def _totals(seen: Seen, services: Iterable[Record]) -> _Totals:
    connections, active, octets = 0.0, 0, 0.0
    for service in services:
        for backend in service["backends"]:
            rate = seen.rates.get(f"{service['name']}/{backend['name']}", _RESTING)
            connections += rate.connections or 0.0
            octets += rate.bytes or 0.0
            active += backend["active"]
    return _Totals(connections, active, octets)


def _rows(seen: Seen, sort: str) -> Iterable[Row]:
    def key(service: Record, backends: list[Record]) -> float:
        totals = _totals(seen, [{**service, "backends": backends}])
        return {"connections/s": totals.connections, "active": totals.active, "bytes/s": totals.bytes}.get(sort, 0.0)

    services = sorted(seen.record["services"], key=lambda s: (-key(s, s["backends"]), s["name"]))
    for service in services:
        yield _service_row(seen, service)
        # The sort is stable: backends of the same figure stay in the order of their names.
        for backend in sorted(service["backends"], key=lambda b, s=service: -key(s, [b])):  # type: ignore[misc]
            yield _backend_row(backend, seen.rates.get(f"{service['name']}/{backend['name']}", _RESTING))


def _service_row(seen: Seen, service: Record) -> Row:
    totals = _totals(seen, [service])
    about = f"  {' '.join(service['listeners'])}  {service['policy'] or service['schedule']}"
    cells = {
        "CONN/S": Text(_number(totals.connections), "bold"),
        "ACTIVE": Text(f"{totals.active:,}", "bold"),
        "BYTES/S": Text(octets(totals.bytes), "bold"),
    }
    return Row(cells, Text.assemble((service["name"], "bold"), (about, "dim")))


def _backend_row(backend: Record, rate: Rate) -> Row:
    style = _STYLES.get(backend["state"], "yellow")
    found = backend["checked"]
    answer = checked(backend)
    answer = answer if len(answer) <= _WIDEST_CHECK else f"{answer[: _WIDEST_CHECK - 1]}…"
    loads = backend["reading"] is not None or backend["factor"] < 1
    return Row(
        {
            "BACKEND": Text(f"  {backend['name']}"),
            "STATE": Text(state(backend), style),
            "WEIGHT": Text(weight(backend)),
            "LOAD": Text(load(backend) if loads else "-"),
            "CHECK": Text(answer, "red" if found and not found["well"] else ""),
            "ASKED": Text(f"{backend['asked']:.1%}"),
            "GOT": Text("-" if rate.got is None else f"{rate.got:.1%}"),
            "CONN/S": Text("-" if rate.connections is None else _number(rate.connections)),
            "ACTIVE": Text(f"{backend['active']:,}"),
            "BYTES/S": Text("-" if rate.bytes is None else octets(rate.bytes)),
        }
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"  # noqa: PLR2004
