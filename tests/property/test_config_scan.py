"""Every reported position points at its key, however the document writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from markway.config.positions import scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.config.problems import Path

KEYS = st.sampled_from(["a", "b", "c-d", "1", "x y", "ä", "", 'q"q', "d.e", "#", "it's"])
SCALARS = st.sampled_from([
    "1", "-1.5e3", "true", "inf", "1979-05-27 07:32:00", "1979-05-27T07:32:00.5-07:00", "07:32:00", '"x"', '""', "''",
    '"a]#,= \\" b"', "'a\\'", '"""\nk = 1\n[z]\n"""', "'''\nk = '' 1 ]'''", '"""""x"""""', '""""""', "0x1f",
    '"""a\\"""b"""', "''''x''''", '"""\\\\"""',
])  # fmt: skip
BLANKS = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def key_text(draw, key):
    """One part of a key: bare if it can be, or quoted either way."""
    forms = ['"' + key.replace('"', '\\"') + '"']
    if key and key.isascii() and key.replace("-", "").isalnum():
        forms.append(key)
    if "'" not in key:
        forms.append(f"'{key}'")
    return draw(st.sampled_from(forms))


class Writer:
    """Writes a document and notes where it put each key and array element."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.places: dict[Path, int] = {}

    def blank(self) -> None:
        self.text += self.draw(BLANKS)

    def newline(self) -> None:
        self.text += self.draw(st.sampled_from(["\n", "\r\n", " # ] = [x]\n", "\n\n \n"]))

    def key(self, base: Path, parts: Sequence[str]) -> Path:
        path = base
        for number, part in enumerate(parts):
            if number:
                self.blank()
                self.text += "."
                self.blank()
            path = (*path, part)
            if number == len(parts) - 1 or path not in self.places:
                self.places[path] = len(self.text)
            self.text += self.draw(key_text(part))
        return path

    def gap(self) -> None:
        """Between the elements of an array: blanks, comments and lines."""
        self.text += self.draw(st.sampled_from(["", " ", "\n", " # , ] \n ", "\r\n\t"]))

    def value(self, path: Path, depth: int) -> None:
        kind = self.draw(st.sampled_from(["scalar", "array", "table"])) if depth else "scalar"
        if kind == "scalar":
            self.text += self.draw(SCALARS)
        elif kind == "array":
            self.text += "["
            for index in range(self.draw(st.integers(0, 3))):
                self.text += "," if index else ""
                self.gap()
                self.places[*path, index] = len(self.text)
                self.value((*path, index), depth - 1)
                self.gap()
            self.text += "]"
        else:
            self.text += "{"
            self.pairs(path, depth - 1, self.draw(st.lists(KEYS, unique=True, max_size=3)), inline=True)
            self.text += "}"

    def pairs(self, base: Path, depth: int, keys: Sequence[str], *, inline: bool) -> None:
        for number, key in enumerate(keys):
            if inline and number:
                self.text += ","
            self.blank()
            under = self.draw(st.lists(st.just("z"), max_size=2))
            path = self.key(base, [key, *under])
            self.blank()
            self.text += "="
            self.blank()
            self.value(path, depth)
            self.blank()
            if not inline:
                self.newline()


@st.composite
def documents(draw):
    writer = Writer(draw)
    writer.pairs((), 2, [f"top{number}" for number in range(draw(st.integers(0, 2)))], inline=False)
    arrays: dict[tuple[str, str], int] = {}
    for number in range(draw(st.integers(0, 4))):
        name = draw(KEYS)
        if draw(st.booleans()):
            array = ("arrays", name)
            index = arrays.get(array, 0)
            arrays[array] = index + 1
            first = writer.places.get(array)
            writer.blank()
            writer.text += "[["
            writer.blank()
            writer.key((), array)
            writer.places[*array, index] = writer.places[array]
            writer.places[array] = writer.places[array] if first is None else first
            base: Path = (*array, index)
            writer.blank()
            writer.text += "]]"
        else:
            writer.blank()
            writer.text += "["
            base = writer.key((), (f"t{number}", name))
            writer.blank()
            writer.text += "]"
        writer.newline()
        writer.pairs(base, 2, draw(st.lists(KEYS, unique=True, max_size=3)), inline=False)
    return writer.text, writer.places


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield from paths(item, (*path, key))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents())
def test_each_position_points_at_its_key(written):
    text, places = written
    everything = set(paths(tomli.loads(text)))
    assert everything == set(places)
    positions = scan(text)
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    for path in everything:
        line, column = positions.find(path)
        assert starts[line - 1] + column - 1 == places[path], path
