"""Counts in words, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def count(number: int, noun: str) -> str:
    """`1 service`, `2 services`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {f'{noun[:-1]}ie' if noun.endswith('y') else f'{noun}e' if noun.endswith('s') else noun}s"


def held(names: Mapping[str, Collection[str]]) -> str:
    """What there is, of the names by noun: `2 services, 1 shape`; nothing is said of what there is none of.

    A name with a slash is not the file's: a firewall's own reason to drop.
    """
    own = {noun: sum("/" not in name for name in found) for noun, found in names.items()}
    told = [count(number, noun) for noun, number in own.items() if number]
    return ", ".join(told) or ("a firewall" if any(names.values()) else count(0, "service"))
