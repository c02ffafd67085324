"""The grammar of windows: `2 in 20s`."""

from __future__ import annotations

import re
from functools import lru_cache

from markway.config.guarding import Window
from markway.config.problems import WrongValue, quote
from markway.config.units import parse_timeout

MOST_ATTEMPTS = 100_000

_WINDOW = re.compile(r" *([0-9]{1,18}) +in +(\S.*)")


@lru_cache(maxsize=1 << 8)
def parse_window(text: str) -> Window:
    """`2 in 20s`: more than 2 attempts within 20 seconds are too many; 1 second to 30 days."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise WrongValue(f"{quote(text)} is not a window", 'for example "2 in 20s", when the third attempt is too many')
    count = int(match[1])
    if not 1 <= count <= MOST_ATTEMPTS:
        raise WrongValue(f"{quote(text)}: a window of {count} attempts is impossible", f"1 to {MOST_ATTEMPTS}")
    return Window(count, float(parse_timeout(match[2])))
