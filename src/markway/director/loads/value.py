"""What all sources share: what is a number."""

from __future__ import annotations

import math
import struct

from markway.director.model import LoadError

_OPAQUE_FLOAT = b"\x9f\x78\x04"  # NET-SNMP-TC's Float, as in laLoadFloat: a tag, a length of 4, IEEE 754
_SHOWN = 40


def number(value: object) -> float:
    """The number that an agent, a JSON document or a program gave, as a number or as text.

    LoadError if it is none, or none that a load can be.
    """
    if isinstance(value, bytes) and value.startswith(_OPAQUE_FLOAT) and len(value) == len(_OPAQUE_FLOAT) + 4:
        (value,) = struct.unpack(">f", value[len(_OPAQUE_FLOAT) :])
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if isinstance(text, str | int | float) and not isinstance(text, bool):
        try:
            found = float(text)
        except (ValueError, OverflowError):
            found = math.nan
        if math.isfinite(found) and found >= 0:
            return found
    shown = text.strip() if isinstance(text, str) else repr(text)
    raise LoadError(f'"{shown[:_SHOWN]}" is no load')
