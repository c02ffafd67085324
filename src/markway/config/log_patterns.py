"""The operator's own words for a log: a regular expression for its failures, and the form of its times.

Every function takes the operator's text and returns a value, or raises `WrongValue` saying what to write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from markway.config.problems import WrongValue, quote

LONGEST_PATTERN = 1000  # characters
MOST_REPEATS = 6
"""How many repeats without an end may try again when the rest does not fit."""

MOST_TIMES = 3
"""How often a group with such a repeat in it may be repeated."""

_DIRECTIVES = {
    "a": r"\w+", "A": r"\w+", "b": r"\w+", "B": r"\w+", "d": r"[ \d]?\d", "e": r"[ \d]?\d", "f": r"\d{1,6}",
    "H": r"\d\d?", "I": r"\d\d?", "j": r"\d{1,3}", "m": r"\d\d?", "M": r"\d\d?", "p": r"\w+",
    "s": r"\d{1,12}(?:\.\d{1,9})?", "S": r"\d\d?", "y": r"\d\d", "Y": r"\d{4}", "z": r"Z|[+-]\d\d:?\d\d", "%": "%",
}  # fmt: skip
_NUMBERED = re.compile(r"\\[xuUN0-9]")  # a character by its number or name
_BOUNDS = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
_OPENING = re.compile(r"\((?:\?(?:P<\w+>|P=\w+|[aiLmsux-]+:|\(\w+\)|[:>=!]|<[=!]|#[^)]*))?")


@lru_cache(maxsize=64)
def parse_pattern(text: str) -> re.Pattern[str]:
    """A regular expression (Python's) for whole lines, with the group `address`.

    A line comes from strangers, so an expression is refused that takes exponential time for some: a repeat without end
    around another repeat or around alternatives.
    """
    if len(text) > LONGEST_PATTERN:
        raise WrongValue(f"the pattern has {len(text)} characters", f"{LONGEST_PATTERN} are the most")
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise WrongValue(f"{quote(text)} is no regular expression: {error}", "see Python's re") from None
    if "address" not in compiled.groupindex:
        raise WrongValue(
            f"{quote(text)} has no group called address",
            r'put (?P<address>\S+) where the line has it, as in ".* failed for .* from (?P<address>\S+)"',
        )
    if compiled.flags & re.VERBOSE:
        raise WrongValue(f"{quote(text)} sets the flag x", "write the pattern without blanks and comments")
    if hazard := _Scan(text).hazard:
        raise WrongValue(f"{quote(text)} {hazard[0]}", hazard[1])
    return compiled


def needle(pattern: re.Pattern[str]) -> str:
    """The longest text that every matching line has in it, as far as that is easily seen; may be empty."""
    if pattern.flags & re.IGNORECASE or _NUMBERED.search(pattern.pattern):
        return ""
    return _Scan(pattern.pattern).literal


@lru_cache(maxsize=64)
def parse_date_form(text: str) -> re.Pattern[str]:
    """What a time looks like that is written in this form: strptime's, or `%s` for seconds since 1970."""
    parts = re.split(r"%(.?)", text, flags=re.DOTALL)
    for letter in parts[1::2]:
        if letter not in _DIRECTIVES:
            raise WrongValue(f"{quote(text)} has %{letter}, which is not known", 'for example "%Y-%m-%d %H:%M:%S"')
    if "s" in parts[1::2] and text != "%s":
        raise WrongValue(f"{quote(text)} has more than %s", '"%s" stands alone')
    return re.compile(
        "".join(f"(?:{_DIRECTIVES[part]})" if odd % 2 else re.escape(part) for odd, part in enumerate(parts))
    )


@dataclass
class _Part:
    """What a piece of a pattern may do when the rest does not fit."""

    varies: bool = False  # it fits in more than one way
    endless: bool = False  # it has a repeat without end
    shut: bool = False  # a group that is never tried again: atomic, or looks around
    choice: bool = False  # alternatives at its top


@dataclass
class _Scan:
    """Reads a pattern once, from left to right; `re` has accepted it."""

    text: str
    literal: str = ""
    hazard: tuple[str, str] | None = None
    open: list[_Part] = field(default_factory=lambda: [_Part()])

    def __post_init__(self) -> None:
        at, run, repeats = 0, "", 0
        while at < len(self.text):
            at, piece, letter = self._piece(at)
            if piece is None:
                run = self._ended(run)
                continue
            at, least, most, possessive = _repeat(self.text, at)
            self._judge(piece, least, most, possessive=possessive)
            repeats += most is None and not possessive
            if len(self.open) > 1 or not letter or (least, most) != (1, 1):
                run = self._ended(run)
            else:
                run += letter
        self._ended(run)
        if self.open[0].choice:
            self.literal = ""
        if repeats > MOST_REPEATS and not self.hazard:
            self.hazard = (
                f"has {repeats} repeats without an end, of which some lines can take all combinations",
                r"add a + to those that need not try again, as in \S++",
            )

    def _ended(self, run: str) -> str:
        self.literal = max(self.literal, run, key=len)
        return ""

    def _piece(self, at: int) -> tuple[int, _Part | None, str]:
        """Where the next piece ends, what it is (None if it opens or parts a group), and its letter if it is one."""
        char = self.text[at]
        if char == "\\":
            letter = self.text[at + 1]
            return at + 2, _Part(), "" if letter.isalnum() else letter
        if char == "[":
            return _class_end(self.text, at), _Part(), ""
        if char == "(":
            opening = _OPENING.match(self.text, at)
            assert opening is not None  # noqa: S101 - it begins with the parenthesis
            self.open.append(_Part(shut=opening[0][2:3] in {">", "=", "!", "<"}))
            return opening.end(), None, ""
        if char == ")":
            return at + 1, self.open.pop(), ""
        if char == "|":
            self.open[-1].choice = self.open[-1].varies = True
            return at + 1, None, ""
        return at + 1, _Part(), "" if char in ".^$" else char

    def _judge(self, piece: _Part, least: int, most: int | None, *, possessive: bool) -> None:
        """Refuse what can be split in exponentially many ways, and tell the group around it."""
        if piece.shut or possessive:
            return
        if (most is None and piece.varies) or (piece.endless and (most or 0) > MOST_TIMES):
            self.hazard = (
                "repeats a part that itself repeats or has alternatives: some lines would take for ever",
                "add a + to one of the two repeats, as in (?:[a-z]++ )* or (?:a|b)*+",
            )
        self.open[-1].varies |= piece.varies or least != most
        self.open[-1].endless |= piece.endless or most is None


def _repeat(text: str, at: int) -> tuple[int, int, int | None, bool]:
    """Where a quantifier ends, its bounds (None: no end), and whether it never tries again."""
    least, most = 1, 1
    end: int | None = 1
    bounds = _BOUNDS.match(text, at)
    char = text[at : at + 1]
    if char in {"*", "+", "?"} and char:
        least, end, at = (1 if char == "+" else 0), (1 if char == "?" else None), at + 1
    elif bounds and (bounds[1] or bounds[2]):
        least = int(bounds[1] or 0)
        most = int(bounds[3]) if bounds[3] else least
        end = None if bounds[2] and not bounds[3] else most
        at = bounds.end()
    else:
        return at, 1, 1, False
    suffix = text[at : at + 1]
    return at + (suffix in {"?", "+"} and bool(suffix)), least, end, suffix == "+"


def _class_end(text: str, at: int) -> int:
    at += 2 if text[at + 1] == "^" else 1
    first = True
    while text[at] != "]" or first:
        first = False
        at += 2 if text[at] == "\\" else 1
    return at + 1
