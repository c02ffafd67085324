"""Slot tables: how weights become shares of numbered slots.

A kernel rule draws a slot (`numgen`, `jhash`) and a map turns the slot into a backend.
The tables here are pure functions of names and weights, so two machines with the same
file build the same table.

Sources: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
NSDI 2016, section 3.4; Hamilton's method of largest remainders for the quotas.
"""

from __future__ import annotations

from hashlib import blake2b
from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SMALLEST = 16
LARGEST = 4096
_SMALLEST_HASHED = 512
_SLOTS_PER_BACKEND = 128
_CROWDED = 16


def exact_size(weights: Mapping[str, int]) -> int:
    """Slots that give these weights exactly, where 16 to 4096 slots can.

    The smallest multiple of `sum / gcd` that is at least 16, or 4096.
    """
    divisor = gcd(*weights.values()) if weights else 0
    if divisor == 0:
        return SMALLEST
    period = sum(weights.values()) // divisor
    return min(period * -(-SMALLEST // period), LARGEST)


def steady_size(weights: Mapping[str, int], backends: int, each: int) -> int:
    """Slots of a table whose weights change while it serves: they give the configured weights exactly.

    A size that stays lets the kernel keep its rules; only elements change.

    Args:
        weights: as configured.
        backends: how many there are, also those of weight 0.
        each: slots to have for a backend at least; a share is exact to half of one.
    """
    period = exact_size(weights)
    return min(period * -(-backends * each // period), LARGEST)


def hash_size(backends: int, current: int | None = None) -> int:
    """Slots of a hash schedule over so many backends: a power of two, 512 to 4096.

    A table that exists (`current` slots) keeps its size until it is crowded: another size
    would move most flows, and a removed backend must move only its own.
    """
    if current is not None and (backends * _CROWDED <= current or current == LARGEST):
        return current
    wanted = max(_SMALLEST_HASHED, backends * _SLOTS_PER_BACKEND)
    return min(1 << (wanted - 1).bit_length(), LARGEST)


def quotas(weights: Mapping[str, int], size: int) -> dict[str, int]:
    """Whole slots of `size` for each name: within one slot of its exact share.

    Names of weight 0 get none. All quotas are 0 if all weights are.
    """
    total = sum(weights.values())
    if total == 0:
        return dict.fromkeys(weights, 0)
    shares = {name: divmod(weight * size, total) for name, weight in weights.items()}
    rest = size - sum(whole for whole, _ in shares.values())
    by_remainder = sorted(shares, key=lambda name: (-shares[name][1], name))
    favoured = set(by_remainder[:rest])
    return {name: whole + (name in favoured) for name, (whole, _) in shares.items()}


def interleave(weights: Mapping[str, int], size: int) -> tuple[str, ...]:
    """A table for drawing in order or by chance: each name's slots evenly apart.

    Returns `size` names, or none if all weights are 0.
    """
    turns = (
        ((2 * turn + 1) * size / (2 * quota), name)
        for name, quota in quotas(weights, size).items()
        for turn in range(quota)
    )
    return tuple(name for _, name in sorted(turns))


def maglev(weights: Mapping[str, int], size: int) -> tuple[str, ...]:
    """A table for drawing by hash: a backend that comes or goes moves few slots of the others.

    Each name walks its own permutation of the slots and takes the next free one in its turn;
    turns follow the weights. `size` must be a power of two. Returns `size` names, or none if
    all weights are 0.
    """
    walks = {name: _permutation(name, size) for name, weight in weights.items() if weight}
    table: list[str | None] = [None] * size
    for name in interleave(weights, size):
        table[next(slot for slot in walks[name] if table[slot] is None)] = name
    return tuple(name for name in table if name is not None)


def _permutation(name: str, size: int) -> Iterator[int]:
    """Every slot once, in an order of the name's own.

    Not the paper's fixed step: in tables this small two names with like steps collide all
    along, and a removal then moves up to a fifth of the others' slots (with this, a thirtieth).
    Each line is a bijection on `log2(size)` bits: an odd factor, or a shift folded back.
    """
    digest = blake2b(name.encode(), digest_size=16).digest()
    first, second, third = (int.from_bytes(digest[at : at + 4]) | 1 for at in (0, 4, 8))
    start = int.from_bytes(digest[12:])
    fold = size.bit_length() // 2
    for index in range(size):
        slot = (index * first + start) % size
        slot = (slot ^ slot >> fold) * second % size
        slot = (slot ^ slot >> fold) * third % size
        yield slot ^ slot >> fold
