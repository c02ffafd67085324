"""What is wrong with a configuration, and where: one line a person can act on."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value in a TOML document: keys, and indexes of arrays from 0."""

QUOTED_AT_MOST = 60  # characters of the operator's text that a message repeats


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong or doubtful.

    Args:
        file: the file's name as it was given.
        line: from 1.
        column: from 1, in characters.
        path: the table or key, such as `service.web.backend.a`; empty where it is the file itself.
        message: what is wrong.
        suggestion: what to write instead, or None.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    suggestion: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """As compilers print it: `file:line:column: path: message (suggestion)`."""
        where = f"{self.file}:{self.line}:{self.column}: "
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{where}{path}{self.message}{hint}"

    def as_dict(self) -> dict[str, str | int | None]:
        """The same as plain values, for `--json`."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
            "suggestion": self.suggestion,
        }


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds every reason, sorted by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class WrongValue(ValueError):  # noqa: N818 - it is caught and becomes a Problem
    """A text does not follow its grammar: why, and what would."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion

    @property
    def text(self) -> str:
        """Both, for a command line, where there is no file to point into."""
        return f"{self.message} ({self.suggestion})" if self.suggestion else self.message


class Place(NamedTuple):
    """A path in the file with number `source`."""

    source: int
    path: Path


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose line is not looked up yet.

    `path` is what the message is about and `at` the key it points to. `other` is a second place
    that the message ends with.
    """

    source: int
    path: Path
    message: str
    suggestion: str | None
    at: Path
    other: Place | None = None


@dataclass(slots=True)
class Report:
    """Collects the findings of one reading of all files."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    pruned: set[Place] = field(default_factory=set)

    def error(
        self,
        place: Place,
        message: str,
        suggestion: str | None = None,
        *,
        at: Path | None = None,
        other: Place | None = None,
    ) -> None:
        """Note what makes the configuration unusable."""
        where = place.path if at is None else at
        self.errors.append(Finding(place.source, place.path, message, suggestion, where, other))

    def warning(self, place: Place, message: str, suggestion: str | None = None) -> None:
        """Note what is allowed and probably not meant."""
        self.warnings.append(Finding(place.source, place.path, message, suggestion, place.path))

    def prune(self, source: int, path: Path) -> None:
        """Remember that the value at `path` was wrong and taken out, so that nobody misses it."""
        self.pruned.update(Place(source, path[:length]) for length in range(1, len(path) + 1))

    def missing(self, place: Place, key: str, message: str, suggestion: str) -> None:
        """Note that a needed key is absent, unless it is there and already known to be wrong."""
        if not self.doubtful(place, key):
            self.error(place, message, suggestion)

    def doubtful(self, place: Place, key: str) -> bool:
        """Whether something at or below this key was wrong, so that nothing can be said of what it lacks."""
        return bool(self.pruned) and Place(place.source, (*place.path, key)) in self.pruned


def quote(text: str) -> str:
    """The text in quotes on one line, shortened, with what cannot be seen escaped."""
    shown = text if len(text) <= QUOTED_AT_MOST else text[: QUOTED_AT_MOST - 1] + "…"
    return '"' + "".join(_visible(character) for character in shown) + '"'


def _visible(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def show(path: Path) -> str:
    """The path as the operator would write it: `service.web.listen[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
            text += ("." if text else "") + (part if bare and len(part) <= QUOTED_AT_MOST else quote(part))
    return text


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """A question naming the likeliest of the `known` words, or None."""
    lower = {name.lower(): name for name in known}
    close = get_close_matches(word[:QUOTED_AT_MOST].lower().replace("_", "-"), lower, n=1)
    return f"did you mean {quote(lower[close[0]])}?" if close else None


def listed(words: Sequence[str], last: str = "or") -> str:
    """`a, b or c`."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]
