"""Where each key of a TOML document stands.

The parser (tomli) drops positions. This scanner runs only when there is something to point at, on text
that the parser has read, so it checks nothing; where it understands no further, it stops.
Grammar: https://toml.io/en/v1.0.0, and the multi-line inline tables of 1.1 that tomli reads.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import tomli

if TYPE_CHECKING:
    from markway.config.problems import Path

_BLANK = re.compile(r"[ \t]*")
_SKIP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_SCALAR = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})'''
    r"|'''.*?'''(?:'{0,2})"
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'"""
    r"""|\d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}#]*"""
    r"""|[^\s,\[\]{}#"']+""",
    re.DOTALL,
)


class Position(NamedTuple):
    """A line and a column, both from 1; columns count characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Positions:
    """The places of a document's keys and array elements.

    `last` is the key read last, with its own place: where a parser stopped at a key that was there
    before, that is the second one.
    """

    offsets: dict[Path, int]
    line_ends: list[int]
    last: tuple[Path, int]

    def find(self, path: Path) -> Position:
        """The place of `path`, or of the nearest table around it; the file's start for the empty path."""
        for length in range(len(path), 0, -1):
            offset = self.offsets.get(path[:length])
            if offset is not None:
                return self.position(offset)
        return Position(1, 1)

    def position(self, offset: int) -> Position:
        """The line and column of a character."""
        line = bisect_left(self.line_ends, offset)
        return Position(line + 1, offset - (self.line_ends[line - 1] if line else -1))


def scan(text: str) -> Positions:
    """Find every key and array element of a TOML document.

    A key is found where it is first written, a table at its own header if it has one. Line ends may be LF or
    CRLF.
    """
    scanner = _Scanner(text)
    scanner.document()
    line_ends = [match.start() for match in re.finditer("\n", text)]
    return Positions(scanner.offsets, line_ends, scanner.last)


class _Stop(Exception):  # noqa: N818 - not an error: the end of what is understood
    pass


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.offsets: dict[Path, int] = {}
        self.implied: set[Path] = set()
        self.lengths: dict[Path, int] = {}  # of the arrays of tables
        self.last: tuple[Path, int] = ((), 0)

    def document(self) -> None:
        """Read headers and pairs to the end."""
        table: Path = ()
        try:
            self.take(_SKIP)
            while self.pos < len(self.text):
                if self.text[self.pos] == "[":
                    table = self.header()
                else:
                    self.pair(table)
                self.take(_SKIP)
        except _Stop:
            return

    def take(self, pattern: re.Pattern[str]) -> str:
        """Read what the pattern matches here."""
        match = pattern.match(self.text, self.pos)
        if match is None:
            raise _Stop
        self.pos = match.end()
        return match.group()

    def expect(self, character: str) -> None:
        """Read one character, with the blanks around it."""
        self.take(_BLANK)
        if not self.text.startswith(character, self.pos):
            raise _Stop
        self.pos += len(character)
        self.take(_BLANK)

    def header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]`; return the table that the following pairs are in."""
        array = self.text.startswith("[[", self.pos)
        self.expect("[[" if array else "[")
        path, offset = self.key((), array=array)
        if array:
            index = self.lengths.get(path, 0)
            self.lengths[path] = index + 1
            path = (*path, index)
            self.offsets[path] = offset
        self.expect("]]" if array else "]")
        return path

    def key(self, base: Path, *, array: bool = False) -> tuple[Path, int]:
        """Read a dotted key below `base`; note the place of each part, and return the last's."""
        path = base
        while True:
            offset = self.pos
            path = (*path, self.part())
            dot = _DOT.match(self.text, self.pos)
            if dot is None:
                self.note(path, offset)
                if not array and path in self.lengths:
                    path = (*path, self.lengths[path] - 1)
                return path, offset
            self.pos = dot.end()
            if path not in self.offsets:
                self.offsets[path] = offset
                self.implied.add(path)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)

    def part(self) -> str:
        """Read one bare or quoted part of a key."""
        text = self.take(_KEY)
        if text[0] not in "\"'":
            return text
        if "\\" not in text:
            return text[1:-1]
        try:
            return str(tomli.loads(f"key = {text}")["key"])
        except tomli.TOMLDecodeError:
            raise _Stop from None

    def note(self, path: Path, offset: int) -> None:
        """Keep the first place where a key is written itself, and not only on the way to another."""
        self.last = (path, offset)
        if path not in self.offsets or path in self.implied:
            self.offsets[path] = offset
            self.implied.discard(path)

    def pair(self, table: Path) -> None:
        """Read `key = value` below `table`."""
        path, _ = self.key(table)
        self.expect("=")
        self.value(path)

    def value(self, path: Path) -> None:
        """Read one value, noting what is inside arrays and inline tables (a loop: they nest deeply)."""
        around: list[tuple[Path, int | None]] = []  # arrays with their next index, tables with None
        while True:
            opening = self.text[self.pos : self.pos + 1]
            if opening in {"[", "{"}:
                self.pos += 1
                around.append((path, 0 if opening == "[" else None))
            else:
                self.take(_SCALAR)
            if not self.element_follows(around):
                return
            outer, index = around[-1]
            if index is None:
                path, _ = self.key(outer)
                self.expect("=")
            else:
                path = (*outer, index)
                self.offsets[path] = self.pos
                around[-1] = (outer, index + 1)

    def element_follows(self, around: list[tuple[Path, int | None]]) -> bool:
        """Read to the next element of the innermost open array or table, closing those that end here."""
        while around:
            self.take(_SKIP)
            character = self.text[self.pos : self.pos + 1]
            if character == ",":
                self.pos += 1
            elif character in {"]", "}"}:
                self.pos += 1
                around.pop()
            elif character:
                return True
            else:
                raise _Stop
        return False
