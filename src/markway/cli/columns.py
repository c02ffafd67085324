"""Tables that fit a screen of any width. Pure: cells in, lines out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_GAP = 2
_NARROWEST = 8


class Row(NamedTuple):
    """One line of a table; `wide`, where there is one, stands in place of the cells before the figures."""

    cells: Mapping[str, Text]
    wide: Text | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """What a table may show, from left to right.

    The first column gives way to the others. `left` are set flush left. A narrow screen does without those in
    `dropped`, first to last; `optional` ones are only there if any cell says more than `-`.
    """

    names: tuple[str, ...]
    left: frozenset[str]
    dropped: tuple[str, ...]
    optional: frozenset[str] = frozenset()

    def fit(self, rows: Sequence[Row], width: int) -> Fitted:
        """The columns that there is room for, and that have anything in them."""
        cells = [row.cells for row in rows if row.wide is None]
        names = [
            n
            for n in self.names
            if n not in self.optional or any(n in c and c[n].plain not in {"", "-"} for c in cells)
        ]
        widths = _natural(rows, self.names)
        for name in self.dropped:
            if _taken(widths, names) <= width:
                break
            if name in names:
                names.remove(name)
        over = _taken(widths, names) - width
        if over > 0:
            widths[self.names[0]] = max(_NARROWEST, widths[self.names[0]] - over)
        return Fitted(self, {name: widths[name] for name in names})


@dataclass(frozen=True, slots=True)
class Fitted:
    """Columns with their widths."""

    columns: Columns
    widths: Mapping[str, int]

    def header(self, style: str = "") -> Text:
        """The names of the columns."""
        return self._joined([self._padded(Text(name), name, width) for name, width in self.widths.items()], style)

    def line(self, row: Row) -> Text:
        """One row."""
        if row.wide is None:
            return self._joined([self._padded(row.cells[name], name, width) for name, width in self.widths.items()])
        figures = [name for name in self.widths if name in row.cells]
        before = [width for name, width in self.widths.items() if name not in row.cells]
        room = sum(before) + _GAP * (len(before) - 1)
        wide = self._padded(row.wide, self.columns.names[0], room)
        return self._joined([wide, *(self._padded(row.cells[n], n, self.widths[n]) for n in figures)])

    def _padded(self, text: Text, name: str, width: int) -> Text:
        padded = cut(text, width)
        if name in self.columns.left:
            padded.pad_right(max(0, width - padded.cell_len))
        else:
            padded.pad_left(max(0, width - padded.cell_len))
        return padded

    def _joined(self, cells: Iterable[Text], style: str = "") -> Text:
        return Text(" " * _GAP, style).join(cells)


def cut(text: Text, width: int) -> Text:
    """The text, no wider than that."""
    shorter = text.copy()
    shorter.truncate(width, overflow="ellipsis")
    return shorter


def octets(value: float) -> str:
    """Bytes in powers of a thousand, three digits: `1.23 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:  # noqa: PLR2004
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def _natural(rows: Sequence[Row], names: Iterable[str]) -> dict[str, int]:
    return {name: max([len(name), *(r.cells[name].cell_len for r in rows if name in r.cells)]) for name in names}


def _taken(widths: Mapping[str, int], names: Sequence[str]) -> int:
    return sum(widths[name] for name in names) + _GAP * (len(names) - 1)
