"""Shapes and marking rules as `markway status` and `markway top` show them. Pure: a status in, lines out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from markway.cli.columns import Columns, Row, octets
from markway.cli.pace import Rate
from markway.config.rates import show_bandwidth
from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Record = dict[str, Any]

SORTS = ("tree", "rate", "backlog", "dropped")
"""What classes of one parent can be sorted by in `top`."""

COLUMNS = Columns(
    ("CLASS", "CLASSID", "PRIO", "LEAF", "RATE", "CEIL", "NOW", "SENT", "PACKETS", "DROPPED", "OVERLIMITS", "BACKLOG",
     "BORROWED", "LENT"),
    left=frozenset({"CLASS", "CLASSID", "LEAF"}),
    dropped=("LENT", "CLASSID", "PRIO", "LEAF", "PACKETS", "OVERLIMITS", "BORROWED", "SENT", "BACKLOG", "DROPPED"),
    optional=frozenset({"LEAF", "LENT"}),
)  # fmt: skip
LIVE = Columns(
    ("CLASS", "ASKED AND GOT", "NOW", "RATE", "CEIL", "PACKETS/S", "BACKLOG", "DROPPED", "BORROWED"),
    left=frozenset({"CLASS", "ASKED AND GOT"}),
    dropped=("BORROWED", "PACKETS/S", "DROPPED", "BACKLOG", "CEIL", "ASKED AND GOT", "RATE"),
)
MARKS = Columns(
    ("MARK", "CLASS", "UPLINK", "ON", "PACKETS", "BYTES"),
    left=frozenset({"MARK", "CLASS", "UPLINK", "ON"}),
    dropped=("ON", "BYTES"),
    optional=frozenset({"CLASS", "UPLINK"}),
)
_BAR = 20
_NO_RATE = Rate()
FOLD = 40
"""Classes of one shape that `status` shows of itself."""


def bandwidth(rate: float) -> str:
    """Bits per second as they were measured, three digits: `1.33mbit`."""
    for unit in ("bit", "kbit", "mbit"):
        if rate < 999.5:  # noqa: PLR2004
            return f"{rate:.0f}{unit}" if unit == "bit" else f"{rate:.3g}{unit}"
        rate /= 1000
    return f"{rate:,.3g}gbit"


def about(shape: Record) -> str:
    """How a shape is done: `eth0 egress by htb at 1024kbit`."""
    rate = f" at {show_bandwidth(shape['rate'])}" if shape["rate"] else ""
    where = "" if shape["acts_on"] == shape["device"] else f", on {shape['acts_on']}"
    return f"{shape['device']} {shape['direction']} by {shape['discipline']}{rate}{where}"


def trouble(shape: Record) -> str:
    """Why a shape is not there; empty if it is."""
    if shape["state"] == "absent":
        return f"{shape['device']} is absent" + (": the shape waits for it" if shape["optional"] else "")
    return (
        f"no discipline of ours on {shape['acts_on']}: mend it with markway apply" if shape["state"] == "lost" else ""
    )


def whole(shape: Record) -> str:
    """What all of a shape has sent."""
    now = "" if shape["now"] is None else f"{bandwidth(shape['now'])} now, "
    waits = f", {octets(shape['backlog'])} waiting" if shape["backlog"] else ""
    sent = f"{octets(shape['sent'])} sent in {count(shape['packets'], 'packet')}"
    return f"{now}{sent}, {shape['dropped']:,} dropped{waits}"


def table(shape: Record, limit: int | None = FOLD) -> tuple[list[Row], int]:
    """A row for each class of a tree, and how many that leaves out: of more than `limit`, the busiest are shown."""
    shown = shape["classes"] if limit is None else _busiest(shape["classes"], limit)
    return [_row(depth, one) for depth, one in _tree(shown)], len(shape["classes"]) - len(shown)


def live(shapes: Iterable[Record], rates: Mapping[str, Rate], sort: str) -> Iterator[Row]:
    """A row for each shape and each of its classes, as they are now."""
    for shape in shapes:
        yield _shape_row(shape, rates)
        for depth, one in () if trouble(shape) else _tree(shape["classes"], _key(shape, rates, sort)):
            yield _live_row(depth, one, rates.get(f"{shape['name']}:{one['name']}", _NO_RATE))


def mark_rows(marks: Iterable[Record]) -> list[Row]:
    """A row for each marking rule."""
    return [
        Row(
            {
                "MARK": Text(mark["name"]),
                "CLASS": Text(mark["class"] or "-"),
                "UPLINK": Text(mark["uplink"] or "-"),
                "ON": Text(" ".join(mark["on"])),
                "PACKETS": Text(f"{mark['packets']:,}"),
                "BYTES": Text(octets(mark["bytes"])),
            }
        )
        for mark in marks
    ]


def head(shapes: Sequence[Record], rates: Mapping[str, Rate]) -> str:
    """All shapes in a line."""
    classes = sum(len(shape["classes"]) for shape in shapes)
    now = sum(_now(shape, rates.get(f"{shape['name']}:", _NO_RATE)) for shape in shapes)
    waits = sum(shape["backlog"] for shape in shapes)
    return f"{count(len(shapes), 'shape')}, {count(classes, 'class')}, {bandwidth(now)}, {octets(waits)} waiting"


def _tree(classes: Sequence[Record], key: Callable[[Record], float] | None = None) -> Iterator[tuple[int, Record]]:
    """Every class below its parent, with its depth; of one parent, those of the greatest key first."""
    below: dict[str, list[Record]] = {}
    for one in classes:
        below.setdefault(one["parent"], []).append(one)
    if key:
        for found in below.values():
            found.sort(key=key, reverse=True)
    waiting = [(0, one) for one in reversed(below.get("", ()))]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        waiting += [(depth + 1, child) for child in reversed(below.get(one["name"], ()))]


def _busiest(classes: Sequence[Record], limit: int) -> Sequence[Record]:
    if len(classes) <= limit:
        return classes
    named = {one["name"]: one for one in classes}
    kept: set[str] = set()
    moved = [one for one in classes if one["sent"] or one["backlog"] or one["default"]]
    for one in sorted(moved, key=lambda c: (c["now"] or 0, c["backlog"], c["sent"]), reverse=True):
        line = {one["name"]}
        parent = one["parent"]
        while parent:
            line.add(parent)
            parent = named[parent]["parent"]
        if len(kept | line) <= limit:
            kept |= line
    return [one for one in classes if one["name"] in kept]


def rows_of(classes: Sequence[Record]) -> list[Row]:
    """A row for each class, below its parent: what is asked of it."""
    return [Row(_asked(depth, one)) for depth, one in _tree(classes)]


def _asked(depth: int, one: Record) -> dict[str, Text]:
    return {
        "CLASS": _name(depth, one),
        "CLASSID": Text(one["classid"]),
        "PRIO": Text(str(one["prio"])),
        "LEAF": Text(one["leaf"] or "-"),
        "RATE": Text(show_bandwidth(one["rate"]) if one["rate"] else "-"),
        "CEIL": Text(show_bandwidth(one["ceil"]) if one["ceil"] else "-"),
    }


def _row(depth: int, one: Record) -> Row:
    got = {
        "NOW": Text("-" if one["now"] is None else bandwidth(one["now"])),
        "SENT": Text(octets(one["sent"])),
        "BACKLOG": Text(octets(one["backlog"])),
        "LENT": Text(f"{one['lent']:,}" if one["lent"] else "-"),
    }
    figures = {name.upper(): Text(f"{one[name]:,}") for name in ("packets", "dropped", "overlimits", "borrowed")}
    return Row(_asked(depth, one) | got | figures)


def _name(depth: int, one: Record) -> Text:
    return Text.assemble("  " * depth, one["name"], (" (default)", "dim") if one["default"] else "")


def _shape_row(shape: Record, rates: Mapping[str, Rate]) -> Row:
    wrong = trouble(shape)
    if wrong:
        return Row({}, Text.assemble((shape["name"], "bold"), ("  " + wrong, "bold red")))
    rate = rates.get(f"{shape['name']}:", _NO_RATE)
    now = _now(shape, rate)
    cells = {
        "NOW": Text(bandwidth(now), "bold"),
        "RATE": Text(show_bandwidth(shape["rate"]) if shape["rate"] else "-", "bold"),
        "CEIL": Text(""),
        "PACKETS/S": Text(_packets(rate), "bold"),
        "BACKLOG": Text(octets(shape["backlog"]), "bold"),
        "DROPPED": Text(f"{shape['dropped']:,}", "bold"),
        "BORROWED": Text(""),
    }
    where = f"  {shape['device']} {shape['direction']} by {shape['discipline']}"
    return Row(cells, Text.assemble((shape["name"], "bold"), (where, "dim")))


def _live_row(depth: int, one: Record, rate: Rate) -> Row:
    now = _now(one, rate)
    return Row(
        {
            "CLASS": _name(depth + 1, one),
            "ASKED AND GOT": _bar(now, one["rate"], one["ceil"]),
            "NOW": Text(bandwidth(now)),
            "RATE": Text(show_bandwidth(one["rate"]) if one["rate"] else "-"),
            "CEIL": Text(show_bandwidth(one["ceil"]) if one["ceil"] else "-"),
            "PACKETS/S": Text(_packets(rate)),
            "BACKLOG": Text(octets(one["backlog"]), "yellow" if one["backlog"] else ""),
            "DROPPED": Text(f"{one['dropped']:,}"),
            "BORROWED": Text(f"{one['borrowed']:,}"),
        }
    )


def _bar(now: float, rate: int, ceil: int) -> Text:
    """What is used of the ceil; `│` is the rate, and what is beyond it is borrowed."""
    if not ceil:
        return Text("-")
    used, asked = (min(_BAR, round(_BAR * value / ceil)) for value in (now, rate))
    within, beyond = min(used, asked), max(used - asked, 0)
    bar = Text().append("█" * within, "green").append("·" * (asked - within), "dim")
    if asked < _BAR:
        bar.append("│", "bold").append("█" * beyond, "yellow").append("·" * (_BAR - asked - beyond), "dim")
    return bar


def _now(of: Record, rate: Rate) -> float:
    """Bits per second between the last looks; the kernel's own figure before there are two."""
    return (of["now"] or 0) if rate.bytes is None else 8 * rate.bytes


def _packets(rate: Rate) -> str:
    return "-" if rate.connections is None else f"{rate.connections:,.0f}"


def _key(shape: Record, rates: Mapping[str, Rate], sort: str) -> Callable[[Record], float] | None:
    def now(one: Record) -> float:
        return _now(one, rates.get(f"{shape['name']}:{one['name']}", _NO_RATE))

    found: dict[str, Callable[[Record], float]] = {
        "rate": now,
        "backlog": lambda one: float(one["backlog"]),
        "dropped": lambda one: float(one["dropped"]),
    }
    return found.get(sort)
