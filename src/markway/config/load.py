"""From the bytes of one or more files to a checked configuration, or to every problem in them."""

from __future__ import annotations

import gc
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tomli

from markway.config.check import check
from markway.config.messages import validate
from markway.config.model import Config
from markway.config.positions import Position, Positions, scan
from markway.config.problems import ConfigError, Finding, Problem, Report, quote, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.config.problems import Path
    from markway.config.schema import File

LARGEST_FILE = 64 * 1024 * 1024  # bytes; a service with four backends takes 250
_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_DEFINED_TWICE = (
    "Cannot overwrite",
    "Cannot declare",
    "Duplicate inline",
    "Cannot redefine",
    "Cannot mutate",
)
_SYNTAX = {
    "Illegal character '\\n'": (
        "the string does not end on its line",
        "close it, or use three quotes for several lines",
    ),
    "Unterminated string": ("the string is never closed", None),
    "Expected \"'''\"": ("the string is never closed", None),
    "Unclosed array": ("the list is never closed", "a ] is missing"),
    "Unclosed inline table": ("the table is not closed here", "a , or } is missing"),
    "Expected '=' after a key in a key/value pair": ("a = is expected after the key", None),
    "Invalid statement": ("this is neither a key nor a table", 'for example [service.web] or mode = "dnat"'),
    "Unescaped '\\' in a string": ("a \\ in a string needs another one before it", "or put the text in single quotes"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration file as it was read: the name to show, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without errors, and what in it is probably not meant, sorted by place.

    `sources` are the files that say so. They are not compared: others may say the same.
    """

    config: Config
    warnings: tuple[Problem, ...]
    sources: tuple[Source, ...] = field(default=(), compare=False)


def load(sources: Sequence[Source]) -> Loaded:
    """Read one file, or the files of a directory as one configuration.

    Args:
        sources: the files; of two that define the same, the first is taken to be right. The caller sorts a
            directory's by name.

    Raises:
        ConfigError: with every problem of every file.
    """
    if not sources:
        raise ConfigError([Problem("markway", 1, 1, "", "there is no configuration file")])
    with _without_collection():
        return _load(sources)


def load_text(text: str, name: str = "markway.toml") -> Loaded:
    """Read one file's text, as `load` does."""
    return load([Source(name, text.encode())])


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the search for reference cycles: among the many values of a large file there are none.

    It takes as long again as the loading itself (10,000 services: 0.7 s).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(sources: Sequence[Source]) -> Loaded:
    report = Report()
    broken: list[Problem] = []
    texts: dict[int, str] = {}
    files: list[tuple[int, File]] = []
    for number, source in enumerate(sources):
        try:
            text = _decode(source)
            raw = _parse(source.name, text)
        except ConfigError as error:
            broken += error.problems
        else:
            texts[number] = text
            files.append((number, validate(number, raw, report)))
    config = check(files, report)
    problems = [*broken, *_located(report.errors, sources, texts)]
    if not problems and config == Config(mask=config.mask, api=config.api):
        hint = "write a table such as [service.web] or [shape.wan]"
        empty = not any(text.strip() for text in texts.values())
        what = "the file is empty" if empty and len(sources) == 1 else "the file asks for nothing"
        problems.append(Problem(sources[0].name, 1, 1, "", what, hint))
    if problems:
        raise ConfigError(problems)
    return Loaded(config, tuple(sorted(_located(report.warnings, sources, texts))), tuple(sources))


def _located(findings: Iterable[Finding], sources: Sequence[Source], texts: dict[int, str]) -> list[Problem]:
    """The findings as problems, with the lines and columns of their places."""
    scanned: dict[int, Positions] = {}

    def find(source: int, path: Path) -> Position:
        if source not in scanned:
            scanned[source] = scan(texts[source])
        return scanned[source].find(path)

    problems = []
    for finding in findings:
        line, column = find(finding.source, finding.at)
        message = finding.message
        if finding.other is not None:
            message += f", at {sources[finding.other.source].name}:{':'.join(map(str, find(*finding.other)))}"
        name = sources[finding.source].name
        problems.append(Problem(name, line, column, show(finding.path), message, finding.suggestion))
    return problems


def _decode(source: Source) -> str:
    """The file's text, with lines ending in LF and without a byte order mark."""
    data = source.data
    if len(data) > LARGEST_FILE:
        what = f"the file has {len(data)} bytes, and at most {LARGEST_FILE} (64 MiB) are read"
        raise ConfigError([Problem(source.name, 1, 1, "", what)])
    encoding = _OTHER_BOMS.get(data[:2])
    if encoding is not None:
        raise ConfigError([Problem(source.name, 1, 1, "", f"the file is {encoding}", "save it as UTF-8")])
    data = data.removeprefix(_BOM)
    nul = data.find(b"\0")
    if nul >= 0:
        raise _not_text(source, nul, "a NUL byte: this is not a text file", None)
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        what = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise _not_text(source, error.start, what, "save the file as UTF-8") from None


def _not_text(source: Source, offset: int, what: str, suggestion: str | None) -> ConfigError:
    data = source.data.removeprefix(_BOM)
    line = data.count(b"\n", 0, offset) + 1
    start = data.rfind(b"\n", 0, offset) + 1
    column = len(data[start:offset].decode(errors="replace")) + 1
    whole = offset + len(source.data) - len(data)
    return ConfigError([Problem(source.name, line, column, "", f"{what} (byte {whole})", suggestion)])


def _parse(name: str, text: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(name, text, error)]) from None
    except RecursionError:
        raise ConfigError([Problem(name, 1, 1, "", "the file is not TOML: it nests too deeply")]) from None
    except ValueError as error:  # a number of thousands of digits
        raise ConfigError([Problem(name, 1, 1, "", f"the file is not TOML: {error}")]) from None


def _syntax_problem(name: str, text: str, error: tomli.TOMLDecodeError) -> Problem:
    """What the parser stopped at, in the operator's words."""
    if error.msg.startswith(_DEFINED_TWICE):
        positions = scan(text[: error.pos])
        path, offset = positions.last
        first, second = positions.find(path), positions.position(offset)
        if first != second:
            what = f"{quote(str(path[-1]))} is already defined, at {name}:{first.line}:{first.column}"
            return Problem(name, second.line, second.column, show(path), what, "keep one of them")
        what = f"{quote(show(path))} is already something else"
        return Problem(name, second.line, second.column, show(path), what)
    column = error.colno - max(0, error.pos - len(text))  # tomli goes past the end behind a last backslash
    if error.msg == "Invalid value":
        return Problem(name, error.lineno, column, "", *_bare_value(text, error.pos))
    message, hint = _SYNTAX.get(error.msg, (f"not TOML: {error.msg}", None))
    return Problem(name, error.lineno, column, "", message, hint)


def _bare_value(text: str, offset: int) -> tuple[str, str | None]:
    match = re.compile(r"[^\s,\]}#]+").match(text, offset)
    if match is None:
        return "a value is missing", None
    return f"{quote(match.group())} is not a value", f"a text needs quotes: {quote(match.group())}"
