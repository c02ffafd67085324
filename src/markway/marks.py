"""The mark: the contract between balancing, shaping, routing, guarding and logging.

    bit 31 ........................................... 0
        [ foreign, never touched ][ uplink ][ class ][ backend ]

Only this module knows the layout. Numbers derive from names and are kept in a registry:
a service that comes or goes renumbers nobody, and the mark of a live connection keeps its
meaning.

Whose bits others use (the fwmark registry, https://github.com/fwmark/registry):
Cilium 8-11, Kubernetes 14-15 (0x4000 masquerade, 0x8000 drop), Calico 16-31 by default,
Weave 17, Tailscale 18-19 (0xc0000). The default mask, 0x0000ffff, starts at bit 0 and
grows upward only as far as the file needs, so a small file shares no bit with any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SMALLEST_WIDTH = 8
"""Bits of the backend field in the smallest file: room to grow without a new layout."""

UPLINK_WIDTH = 4
"""Bits of the uplink field, if there are uplinks at all: 15 of them."""

CLASS_NUMBERS = 0xFFFC
"""How many classes a machine can have: minor numbers of tc(8), but for the few that mean something of their own."""


class MarksError(ValueError):
    """The mask has too few bits for the numbers asked for."""


@dataclass(frozen=True, slots=True)
class Field:
    """Some bits of the mark that hold one number; the bits need not be neighbours."""

    mask: int

    @property
    def bits(self) -> tuple[int, ...]:
        """Each bit of the field as a mask of its own, lowest first."""
        return tuple(1 << bit for bit in range(32) if self.mask >> bit & 1)

    @property
    def others(self) -> int:
        """All bits of a mark but this field's: what a write must leave alone."""
        return self.mask ^ 0xFFFF_FFFF

    def place(self, number: int) -> int:
        """The mark that holds this number, all other bits 0.

        Raises:
            MarksError: the number does not fit.
        """
        if number >> self.mask.bit_count():
            raise MarksError(f"{number} does not fit into mark bits {self.mask:#010x}")
        if self.mask & (self.mask + 1) == 0:
            return number
        return sum(bit for index, bit in enumerate(self.bits) if number >> index & 1)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each number is in the mark; a field of no bits is not needed.

    Class and uplink are of a packet and never saved with its connection, so these two may move.
    """

    backend: Field
    class_: Field = Field(0)
    uplink: Field = Field(0)


class Block(NamedTuple):
    """A run of slots owned by one table: `offset` to `offset + size - 1`."""

    offset: int
    size: int


_NO_BLOCK = Block(0, 0)


@dataclass(frozen=True, slots=True)
class Registry:
    """Which name has which number and which slots; kept on disk between applies.

    `numbers` holds present and retired names; `retired` lists the latter, longest gone first.
    A retired number is given away only when no other is left, since live connections may
    still carry it.
    """

    width: int = SMALLEST_WIDTH
    numbers: Mapping[str, int] = field(default_factory=dict)
    retired: tuple[str, ...] = ()
    blocks: Mapping[str, Block] = field(default_factory=dict)
    next_offset: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    marked: Mapping[str, int] = field(default_factory=dict)
    uplinks: Mapping[str, int] = field(default_factory=dict)

    def layout(self, mask: int) -> Layout:
        """The fields within `mask`: backend from the lowest bit up, uplink from the highest down, class below it.

        Raises:
            MarksError: the mask is too small for all three.
        """
        bits = Field(mask).bits
        above = UPLINK_WIDTH if self.uplinks else 0
        middle = max(self.marked.values(), default=0).bit_length()
        missing = self.width + middle + above - len(bits)
        if missing > 0 and above + middle:
            raise MarksError(
                f"mask {mask:#010x} has {len(bits)} bits, but {self.width} for backends, {middle} for classes and "
                f"{above} for uplinks are needed: mask {_widened(mask, missing):#010x} would do"
            )
        top = len(bits) - above
        return Layout(self.backend_field(mask), Field(sum(bits[top - middle : top])), Field(sum(bits[top:])))

    def backend_field(self, mask: int) -> Field:
        """The backend field in the lowest bits of `mask`."""
        return Field(sum(Field(mask).bits[: self.width]))


def assign(registry: Registry, names: Iterable[str], mask: int) -> Registry:
    """Give every name a number; names that have one keep it.

    Args:
        registry: what was given before.
        names: all names that need a number now; others are retired.
        mask: the bits that Markway may use.

    Raises:
        MarksError: the mask has too few bits.
    """
    wanted = sorted(set(names))
    width = max(registry.width, (2 * len(wanted)).bit_length())
    width = min(width, mask.bit_count())
    if len(wanted) >= 1 << width:
        raise MarksError(
            f"{len(wanted)} backends need {len(wanted).bit_length()} mark bits, "
            f"but mask {mask:#010x} has {mask.bit_count()}"
        )
    present, known_gone = set(wanted), set(registry.retired)
    fitting = {name: number for name, number in registry.numbers.items() if number >> width == 0}
    new = [name for name in wanted if name not in fitting]
    gone = sorted(fitting.keys() - present - known_gone)
    retired = [name for name in chain(registry.retired, gone) if name in fitting and name not in present]
    if not new and width == registry.width and tuple(retired) == registry.retired:
        return registry
    missing = len(fitting) + len(new) - ((1 << width) - 1)
    for name in retired[: max(missing, 0)]:
        del fitting[name]
    retired = retired[max(missing, 0) :]
    taken = set(fitting.values())
    for name in new:
        fitting[name] = number = next(n for n in _preferences(name, width) if n not in taken)
        taken.add(number)
    return replace(registry, width=width, numbers=fitting, retired=tuple(retired))


def reserve(registry: Registry, sizes: Mapping[str, int]) -> Registry:
    """Give every slot table a block of at least its size; a block that is large enough stays."""
    small = {name: size for name, size in sizes.items() if registry.blocks.get(name, _NO_BLOCK).size < size}
    if not small:
        return registry
    blocks, offset = dict(registry.blocks), registry.next_offset
    for name, size in sorted(small.items()):
        blocks[name] = Block(offset, size)
        offset += size
    return replace(registry, blocks=blocks, next_offset=offset)


def grant(before: Mapping[str, int], names: Iterable[str], most: int, what: str) -> Mapping[str, int]:
    """The lowest free numbers from 1 on; names that have one keep it, others lose it.

    What is lost now is given away the next time, if there is enough left: the new is made before the old goes.

    Args:
        before: what was given.
        names: all that need one.
        most: the greatest number.
        what: for people: what is numbered.

    Raises:
        MarksError: there are more names than numbers.
    """
    wanted = set(names)
    if len(wanted) > most:
        raise MarksError(f"there are {len(wanted)} {what}, but numbers for {most} only")
    if wanted == before.keys():
        return before
    kept = {name: number for name, number in before.items() if name in wanted}
    lost = sorted(before[name] for name in before.keys() - wanted)
    taken = set(before.values())
    free = chain((number for number in range(1, most + 1) if number not in taken), lost)
    return kept | dict(zip(sorted(wanted - kept.keys()), free, strict=False))


def release(registry: Registry) -> Registry:
    """Forget the slots of services of which no name has a number any more."""
    known = {name.partition("/")[0] for name in registry.numbers}
    blocks = {name: block for name, block in registry.blocks.items() if name.partition("/")[0] in known}
    return registry if len(blocks) == len(registry.blocks) else replace(registry, blocks=blocks)


def _widened(mask: int, missing: int) -> int:
    """The mask with its lowest unused bits, as many as are missing."""
    return mask | sum(Field(mask ^ 0xFFFF_FFFF).bits[:missing])


def _preferences(name: str, width: int) -> Iterator[int]:
    """All numbers but 0, from one that the name alone decides: machines agree without talking."""
    count = (1 << width) - 1
    start = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) % count
    return (1 + (start + step) % count for step in range(count))
