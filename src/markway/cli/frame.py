"""One frame of `markway top`, for a screen of any size. Pure: a status in, lines out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from markway.cli.common import count
from markway.cli.events import line as event_line
from markway.cli.pace import Rate
from markway.cli.status import checked, load, state, weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Record = dict[str, Any]

SORTS = ("name", "connections/s", "active", "bytes/s")
"""What rows can be sorted by."""

_COLUMNS = ("BACKEND", "STATE", "WEIGHT", "LOAD", "CHECK", "ASKED", "GOT", "CONN/S", "ACTIVE", "BYTES/S")
_LEFT = {"BACKEND", "STATE", "CHECK"}
_DROPPED = ("CHECK", "LOAD", "ASKED", "WEIGHT", "BYTES/S", "GOT", "ACTIVE", "STATE")
"""What a narrow screen does without, first to last."""
_GAP = 2
_NARROWEST_NAME = 8
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


class _Row(NamedTuple):
    cells: dict[str, Text]
    wide: Text | None = None
    """What stands in place of the cells before the figures."""


@dataclass(frozen=True, slots=True)
class _Totals:
    connections: float = 0.0
    active: int = 0
    bytes: float = 0.0
    names: list[str] = field(default_factory=list)


def frame(seen: Seen, choice: Choice, width: int, height: int | None) -> list[Text]:
    """The lines of a frame, none wider than `width`; `height` None is as high as it takes.

    Moves `choice.first` to where there is something to see.
    """
    rows = list(_rows(seen, choice.sort))
    low = height is not None and height < _LOW
    events = [event_line(e, date=False) for e in seen.events[-_EVENTS:]] if height is None or height >= _TALL else []
    head = [] if low else [*_head(seen), Text()]
    keys = [] if low or height is None else [Text()]
    below = [] if low else [*([Text(), *events] if events else []), *keys]
    room = len(rows) if height is None else max(1, height - len(head) - 1 - len(below))
    choice.first = max(0, min(choice.first, len(rows) - room))
    if keys:
        below[-1] = _keys(choice, room, len(rows))
    names = _fitting(rows, width)
    widths = _widths(rows, names, width)
    shown = rows[choice.first : choice.first + room]
    table = [_header(names, widths), *(_line(row, names, widths) for row in shown)]
    blank = [] if height is None else [Text()] * (room - len(shown))
    return [_cut(line, width) for line in (*head, *table, *blank, *below)][:height]


def _head(seen: Seen) -> Iterable[Text]:
    record = seen.record
    among = (backend for service in record["services"] for backend in service["backends"])
    backends = [backend for backend in among if backend["state"] != "sorry"]
    up = sum(backend["state"] == "up" for backend in backends)
    title = Text.assemble(("markway top", "bold"), f"  {seen.at}  ")
    if seen.problem:
        yield title.append(seen.problem, "bold red")
    elif record["damage"]:
        yield title.append(f"damaged: {record['damage']}", "bold red")
    elif not record["in_force"]:
        yield title.append("nothing in force", "bold red")
    else:
        title.append(f"program {record['program'][:8]}  ", "dim")
        yield title.append(
            f"daemon {record['pid']}" if record["daemon"] else "no daemon", "" if record["daemon"] else "yellow"
        )
    whole = _totals(seen, record["services"])
    yield Text(
        f"{count(len(record['services']), 'service')}, {up} of {count(len(backends), 'backend')} up, "
        f"{_number(whole.connections)} connections/s, {whole.active:,} active, {_octets(whole.bytes)}/s"
    )


def _keys(choice: Choice, room: int, rows: int) -> Text:
    last = min(rows, choice.first + room)
    where = f"  ↑↓ scroll {choice.first + 1}-{last} of {rows}" if room < rows else ""
    return Text(f"q quit  s sort: {choice.sort}{where}", "dim")


def _totals(seen: Seen, services: Iterable[Record]) -> _Totals:
    connections, active, octets = 0.0, 0, 0.0
    for service in services:
        for backend in service["backends"]:
            rate = seen.rates.get(f"{service['name']}/{backend['name']}", _RESTING)
            connections += rate.connections or 0.0
            octets += rate.bytes or 0.0
            active += backend["active"]
    return _Totals(connections, active, octets)


def _rows(seen: Seen, sort: str) -> Iterable[_Row]:
    def key(service: Record, backends: list[Record]) -> float:
        totals = _totals(seen, [{**service, "backends": backends}])
        return {"connections/s": totals.connections, "active": totals.active, "bytes/s": totals.bytes}.get(sort, 0.0)

    services = sorted(seen.record["services"], key=lambda s: (-key(s, s["backends"]), s["name"]))
    for service in services:
        yield _service_row(seen, service)
        # The sort is stable: backends of the same figure stay in the order of their names.
        for backend in sorted(service["backends"], key=lambda b, s=service: -key(s, [b])):  # type: ignore[misc]
            yield _backend_row(backend, seen.rates.get(f"{service['name']}/{backend['name']}", _RESTING))


def _service_row(seen: Seen, service: Record) -> _Row:
    totals = _totals(seen, [service])
    about = f"  {' '.join(service['listeners'])}  {service['policy'] or service['schedule']}"
    cells = {
        "CONN/S": Text(_number(totals.connections), "bold"),
        "ACTIVE": Text(f"{totals.active:,}", "bold"),
        "BYTES/S": Text(_octets(totals.bytes), "bold"),
    }
    return _Row(cells, Text.assemble((service["name"], "bold"), (about, "dim")))


def _backend_row(backend: Record, rate: Rate) -> _Row:
    style = _STYLES.get(backend["state"], "yellow")
    found = backend["checked"]
    answer = checked(backend)
    answer = answer if len(answer) <= _WIDEST_CHECK else f"{answer[: _WIDEST_CHECK - 1]}…"
    loads = backend["reading"] is not None or backend["factor"] < 1
    return _Row(
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
            "BYTES/S": Text("-" if rate.bytes is None else _octets(rate.bytes)),
        }
    )


def _fitting(rows: Sequence[_Row], width: int) -> list[str]:
    """The columns that there is room for, and that have anything in them."""
    cells = [row.cells for row in rows if row.wide is None]
    names = [n for n in _COLUMNS if n not in {"LOAD", "CHECK"} or any(c[n].plain != "-" for c in cells)]
    for name in _DROPPED:
        if sum(_natural(rows, names).values()) + _GAP * (len(names) - 1) <= width:
            break
        if name in names:
            names.remove(name)
    return names


def _natural(rows: Sequence[_Row], names: Sequence[str]) -> dict[str, int]:
    return {name: max([len(name), *(r.cells[name].cell_len for r in rows if name in r.cells)]) for name in names}


def _widths(rows: Sequence[_Row], names: Sequence[str], width: int) -> dict[str, int]:
    """As wide as the cells; the first column has what a wide screen has left, or must do with less."""
    widths = _natural(rows, names)
    over = sum(widths.values()) + _GAP * (len(names) - 1) - width
    if over > 0:
        widths["BACKEND"] = max(_NARROWEST_NAME, widths["BACKEND"] - over)
    return widths


def _header(names: Sequence[str], widths: Mapping[str, int]) -> Text:
    return _joined([_padded(Text(name), name, widths[name]) for name in names], "reverse")


def _line(row: _Row, names: Sequence[str], widths: Mapping[str, int]) -> Text:
    if row.wide is None:
        return _joined([_padded(row.cells[name], name, widths[name]) for name in names])
    figures = [name for name in names if name in row.cells]
    before = [name for name in names if name not in row.cells]
    room = sum(widths[name] for name in before) + _GAP * (len(before) - 1)
    return _joined([_padded(row.wide, "BACKEND", room), *(_padded(row.cells[n], n, widths[n]) for n in figures)])


def _joined(cells: Iterable[Text], style: str = "") -> Text:
    return Text(" " * _GAP, style).join(cells)


def _padded(text: Text, name: str, width: int) -> Text:
    padded = _cut(text, width)
    if name in _LEFT:
        padded.pad_right(max(0, width - padded.cell_len))
    else:
        padded.pad_left(max(0, width - padded.cell_len))
    return padded


def _cut(text: Text, width: int) -> Text:
    shorter = text.copy()
    shorter.truncate(width, overflow="ellipsis")
    return shorter


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"  # noqa: PLR2004


def _octets(value: float) -> str:
    """Bytes in powers of a thousand, three digits: `1.23 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
