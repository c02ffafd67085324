"""The grammar of rates of bits and of sizes, in the units of tc(8).

Every function takes the operator's text and returns a number, or raises `WrongValue` saying what to write.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from markway.config.problems import WrongValue, did_you_mean, quote

SLOWEST, FASTEST = 8, 10**13
"""Bits per second: the kernel counts in bytes, and no faster link is for sale."""
LARGEST_SIZE = 0xFFFF_FFFF
"""Bytes: the kernel's field."""

_NUMBER = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)[ \t]*([A-Za-z/]*)")
_PREFIXES = {"": 1, "k": 1000, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_RATES = {
    f"{prefix}{unit}": scale * bits
    for prefix, scale in (_PREFIXES | _BINARY).items()
    for unit, bits in (("bit", 1), ("bps", 8))
}
_SIZES = {
    "": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30,
    "kbit": 1 << 7, "mbit": 1 << 17, "gbit": 1 << 27,
}  # fmt: skip
_SHOWN = (("gbit", 10**9), ("mbit", 10**6), ("kbit", 1000), ("bit", 1))
_MEGABITS = re.compile(r"[KMGT]bps")
_PER_SECOND = re.compile(r"([kmgt]?)(?:b|bits?)/s(?:ec)?", re.IGNORECASE)


@lru_cache(maxsize=1 << 10)
def parse_bandwidth(text: str) -> int:
    """Bits per second: `1024kbit`, `1.5mbit`, `100kbps` (bytes per second); a number alone is bits.

    See tc(8), "PARAMETERS", and get_rate64 in lib/utils_math.c of iproute2, which takes capitals for small letters.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise WrongValue(f"{quote(text)} is not a rate of bits", 'for example "1024kbit" or "20mbit"')
    number, unit = match[1], match[2]
    if _MEGABITS.fullmatch(unit):
        bits = f"{number}{unit[0].lower()}bit"
        hint = f"did you mean {quote(bits)}? For bytes, write {quote(number + unit.lower())}"
        raise WrongValue(f"{quote(unit)} could be bits or bytes: tc takes it for bytes", hint)
    scale = 1 if not unit else _RATES.get(unit.lower())
    if scale is None:
        raise WrongValue(f"{quote(text)} has the unknown unit {quote(unit)}", _unit_hint(number, unit))
    rate = int(Fraction(number) * scale)
    if not SLOWEST <= rate <= FASTEST:
        raise WrongValue(f"{quote(text)} is too {'slow' if rate < SLOWEST else 'fast'}", "8bit to 10tbit")
    return rate


def _unit_hint(number: str, unit: str) -> str:
    per_second = _PER_SECOND.fullmatch(unit)
    if per_second is not None:
        return f"did you mean {quote(f'{number}{per_second[1].lower()}bit')}?"
    if unit.lower() in _PREFIXES:
        return f"did you mean {quote(f'{number}{unit.lower()}bit')}?"
    return did_you_mean(unit, [*_RATES]) or "there are bit, kbit, mbit and gbit, and of bytes kbps and mbps"


@lru_cache(maxsize=1 << 10)
def parse_size(text: str) -> int:
    """Bytes: `15k`, `1600`, `2mb`; k is 1024, as tc(8) has it."""
    match = _NUMBER.fullmatch(text)
    scale = None if match is None else _SIZES.get(match[2].lower())
    if match is None or scale is None:
        what = "is not a size" if match is None else f"has the unknown unit {quote(match[2])}"
        raise WrongValue(f"{quote(text)} {what}", 'for example "1600", "15k" or "2mb"')
    size = int(Fraction(match[1]) * scale)
    if not 1 <= size <= LARGEST_SIZE:
        raise WrongValue(f"{quote(text)} is too {'small' if size < 1 else 'large'}", "1 byte to 4 GiB")
    return size


def show_bandwidth(rate: int) -> str:
    """Bits per second as an operator writes them."""
    unit, scale = next((unit, scale) for unit, scale in _SHOWN if rate % scale == 0)
    return f"{rate // scale}{unit}"
