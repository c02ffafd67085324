"""The grammar of durations, rates, masks and names.

Every function takes the operator's text and returns a value, or raises `WrongValue` saying what to write.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from markway.config.model import SourceRate
from markway.config.problems import WrongValue, did_you_mean, quote

HOUR = 3600
DAY = 24 * HOUR
LONGEST_TIMEOUT = 30 * DAY
LARGEST_RATE = 1_000_000
DEFAULT_BURST = 5  # nft's own, nft(8) "LIMIT STATEMENT"
LARGEST_MASK = 0xFFFF_FFFF
RATE_UNITS = ("second", "minute", "hour")

_UNITS = {  # systemd.time(7), "PARSING TIME SPANS", up to weeks
    "us": Fraction(1, 1_000_000), "usec": Fraction(1, 1_000_000), "µs": Fraction(1, 1_000_000),
    "ms": Fraction(1, 1000), "msec": Fraction(1, 1000),
    "s": Fraction(1), "sec": Fraction(1), "second": Fraction(1), "seconds": Fraction(1),
    "m": Fraction(60), "min": Fraction(60), "minute": Fraction(60), "minutes": Fraction(60),
    "h": Fraction(3600), "hr": Fraction(3600), "hour": Fraction(3600), "hours": Fraction(3600),
    "d": Fraction(DAY), "day": Fraction(DAY), "days": Fraction(DAY),
    "w": Fraction(7 * DAY), "week": Fraction(7 * DAY), "weeks": Fraction(7 * DAY),
}  # fmt: skip
_SPAN = re.compile(r"[ \t]*([0-9]{1,12}(?:\.[0-9]{1,9})?)[ \t]*([^0-9 \t.]*)")
_LONGEST_SPAN = 100  # characters
_RATE = re.compile(r"([0-9]{1,18}) */ *([A-Za-z]+)(?: +burst +([0-9]{1,18})(?: +packets)?)?")
_MASK = re.compile(r"0[xX][0-9a-fA-F](?:_?[0-9a-fA-F])*")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_LONGEST_NAME = 63


@lru_cache(maxsize=1 << 10)
def parse_timeout(text: str) -> int:
    """A time span as systemd writes it (`10m`, `1h 30min`): whole seconds, 1 second to 30 days."""
    span = parse_span(text)
    if span.denominator != 1:
        raise WrongValue(f"{quote(text)} is not a whole number of seconds", 'the shortest timeout is "1s"')
    seconds = int(span)
    if seconds < 1:
        raise WrongValue(f"{quote(text)} is shorter than one second: nothing would be remembered", "1s to 30d")
    if seconds > LONGEST_TIMEOUT:
        raise WrongValue(
            f"{quote(text)} is longer than 30 days: the kernel would remember every client of that time",
            "1s to 30d",
        )
    return seconds


@lru_cache(maxsize=1 << 10)
def parse_interval(text: str) -> float:
    """A time span between two looks at something: seconds, 50 milliseconds to 1 day."""
    span = parse_span(text)
    if not Fraction(1, 20) <= span <= DAY:
        raise WrongValue(f"{quote(text)} is too {'short' if span < 1 else 'long'}", "50ms to 1d")
    return float(span)


def parse_notice(text: str) -> float:
    """How long before it happens something is told: seconds, 1 hour to 1 year."""
    span = parse_span(text)
    if not HOUR <= span <= 365 * DAY:
        raise WrongValue(f"{quote(text)} is too {'short' if span < DAY else 'long'}", "1h to 365d")
    return float(span)


def parse_span(text: str) -> Fraction:
    """A time span of any length: seconds."""
    total = Fraction(0)
    at = 0
    stripped = text.rstrip(" \t")
    if not stripped or len(stripped) > _LONGEST_SPAN:
        raise WrongValue(f"{quote(text)} is not a duration", 'for example "90s", "10m" or "1h 30min"')
    while at < len(stripped):
        match = _SPAN.match(stripped, at)
        if match is None:
            raise WrongValue(f"{quote(text)} is not a duration", 'for example "90s", "10m" or "1h 30min"')
        if not match[2]:
            raise WrongValue(f"{quote(text)} has no unit", f"did you mean {quote(stripped + 's')}?")
        if match[2] not in _UNITS:
            raise _no_such_unit(text, match[2])
        total += Fraction(match[1]) * _UNITS[match[2]]
        at = match.end()
    return total


def _no_such_unit(text: str, unit: str) -> WrongValue:
    what = f"{quote(text)} has the unknown unit {quote(unit)}"
    if unit == "M":
        return WrongValue(what, 'minutes are "m" or "min"')
    lower = unit.lower()
    return WrongValue(what, f"did you mean {quote(lower)}?" if lower in _UNITS else "the units are s, m, h, d and w")


@lru_cache(maxsize=1 << 10)
def parse_rate(text: str) -> SourceRate:
    """`10/second`, `100/minute burst 20`; without a burst, nft's 5."""
    match = _RATE.fullmatch(text)
    if match is None:
        hint = f"did you mean {quote(text + '/second')}?" if text.isdigit() else None
        raise WrongValue(f"{quote(text)} is not a rate", hint or 'for example "10/second" or "100/minute burst 20"')
    count, unit = int(match[1]), match[2]
    burst = DEFAULT_BURST if match[3] is None else int(match[3])
    if unit not in RATE_UNITS:
        right = next((known for known in RATE_UNITS if known.startswith(unit.lower().removesuffix("s"))), None)
        hint = f"did you mean {quote(right)}?" if right else did_you_mean(unit, RATE_UNITS)
        raise WrongValue(f"{quote(unit)} is not a unit of a rate", hint or "second, minute or hour")
    for what, value in (("rate", count), ("burst", burst)):
        if not 1 <= value <= LARGEST_RATE:
            raise WrongValue(f"{quote(text)}: a {what} of {value} is impossible", f"1 to {LARGEST_RATE}")
    return SourceRate(count, unit, burst)


def parse_mask(value: str | int) -> int:
    """The bits Markway may use, 1 to 0xffffffff: a number or its hexadecimal text."""
    if isinstance(value, str):
        if _MASK.fullmatch(value) is None:
            right = f"0x{value}" if _MASK.fullmatch(f"0x{value}") else "0x0000ffff"
            hint = f"did you mean {quote(right)}?" if right.endswith(value) else f"for example {quote(right)}"
            raise WrongValue(f"{quote(value)} is not a hexadecimal number", hint)
        if len(value) > len("0x") + 16:
            raise WrongValue(f"{quote(value)} is wider than a mark, which has 32 bits", "1 to 0xffffffff")
        value = int(value, 16)
    if value == 0:
        raise WrongValue("a mask of 0 leaves no bit for the backends' numbers", 'for example "0x0000ffff"')
    if value < 0:
        raise WrongValue(f"a mask cannot be negative, like {value}", "1 to 0xffffffff")
    if value > LARGEST_MASK:
        raise WrongValue(f"0x{value:x} is wider than a mark, which has 32 bits", "1 to 0xffffffff")
    return value


def wrong_name(name: str) -> WrongValue | None:
    """Why the kernel's objects cannot carry this name; None if they can."""
    if _NAME.fullmatch(name):
        return None
    slug = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()[: 4 * _LONGEST_NAME]).lstrip("-_.")
    slug = slug[:_LONGEST_NAME].rstrip("-_.")
    return WrongValue(
        f"the name {quote(name)} cannot be used: a name is 1 to {_LONGEST_NAME} of a-z, 0-9, _, . and -, "
        "and starts with a letter or digit",
        f"did you mean {quote(slug)}?" if slug else 'for example "web-1"',
    )
