"""Which hash sets a large list is kept in: one per family and prefix length, with room to grow.

A set of the kernel's is looked up by an address's first bits, so there is a set per prefix length, and each is one more
look-up for every packet. The lengths and sizes are chosen for a content and kept while it fits: another layout means
other sets, filled beside those in force.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from markway.guard.prefixes import BITS, edit, few_lengths, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.guard.prefixes import AddressSet, Spans

SPARE = 32_768
"""Prefixes that a list may have beyond half as many more than needed, if that saves look-ups. Each takes 70 bytes."""

_SMALLEST = 768
_SHRUNK = 16


class Place(NamedTuple):
    """A set: version of IP, and prefix length."""

    version: int
    length: int


class Room(NamedTuple):
    """A set and how many elements it has room for."""

    place: Place
    size: int


Elements: TypeAlias = "Mapping[Place, list[int]]"
"""First addresses of prefixes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The sets of one list. `generation` tells it from the list's earlier ones."""

    rooms: tuple[Room, ...] = ()
    generation: int = 0

    def lengths(self, version: int) -> list[int]:
        """Prefix lengths of a family's sets."""
        return [room.place.length for room in self.rooms if room.place.version == version]


def layout_for(content: AddressSet, before: Layout | None = None, spare: int = SPARE) -> Layout:
    """The layout to keep a content in: the one before if it will do, else a new generation."""
    counts = {
        version: {length: len(firsts) for length, firsts in split(content.spans[version], bits).items()}
        for version, bits in BITS.items()
    }
    if before and _fits(counts, before):
        return before
    rooms: list[Room] = []
    for version, found in counts.items():
        if found:
            lengths = few_lengths(found, BITS[version], sum(found.values()) // 2 + spare)
            needed = _needed(found, lengths)
            rooms += (Room(Place(version, length), _size(needed[length])) for length in lengths)
    return Layout(tuple(rooms), before.generation + 1 if before else 0)


def _needed(counts: Mapping[int, int], lengths: tuple[int, ...]) -> Counter[int]:
    """How many elements each of the lengths gets."""
    needed: Counter[int] = Counter()
    for length, number in counts.items():
        kept = min(one for one in lengths if one >= length)
        needed[kept] += number << kept - length
    return needed


def _fits(counts: Mapping[int, Mapping[int, int]], layout: Layout) -> bool:
    total = 0
    for version, found in counts.items():
        lengths = tuple(layout.lengths(version))
        if found and not lengths:
            return False
        needed = _needed(found, lengths)
        total += needed.total()
        if any(needed[room.place.length] > room.size for room in layout.rooms if room.place.version == version):
            return False
    size = sum(room.size for room in layout.rooms)
    return total > size // _SHRUNK or size <= _SMALLEST * max(1, len(layout.rooms))


def _size(needed: int) -> int:
    """A quarter more at least. Three quarters of a power of two: the kernel makes that power of two buckets.

    nft_hash_buckets in net/netfilter/nft_set_hash.c.
    """
    wanted = max(_SMALLEST, needed + needed // 4)
    power = (wanted * 4 // 3 - 1).bit_length()
    return 3 << power - 2 if 3 << power - 2 >= wanted else 3 << power - 1


def elements(spans: Mapping[int, Spans], layout: Layout) -> dict[Place, list[int]]:
    """Spans of each family as elements of the layout's sets."""
    return {
        Place(version, length): firsts
        for version, found in spans.items()
        for length, firsts in split(found, BITS[version], layout.lengths(version)).items()
    }


class Difference(NamedTuple):
    """Elements that go and come; none of them does both."""

    removed: Elements
    added: Elements

    @property
    def size(self) -> int:
        """How many elements change."""
        return sum(len(firsts) for part in self for firsts in part.values())


def difference(old: Mapping[int, Spans], new: Mapping[int, Spans], layout: Layout) -> Difference:
    """What changes in a layout's sets when some spans of a list give way to others."""
    gone, come = {}, {}
    for version in BITS:
        before, after = set(old[version]), set(new[version])
        gone[version], come[version] = [*(before - after)], [*(after - before)]
    removed, added = elements(gone, layout), elements(come, layout)
    for place in removed.keys() & added.keys():
        out, into = set(removed[place]), set(added[place])
        removed[place], added[place] = [*(out - into)], [*(into - out)]
    return Difference(*({place: sorted(found) for place, found in part.items() if found} for part in (removed, added)))


def changed_by(content: AddressSet, version: int, one: int, layout: Layout, *, add: bool) -> Difference | None:
    """Add a span to a content, or take it away, in place: what that changes in the layout's sets.

    Costs what it touches, in a list of any length. None if it takes another layout, or so many elements that a whole
    comparison is not dearer; the content is changed all the same.
    """
    bits = BITS[version]
    spans = content.spans[version]
    begin, end, fresh = edit(spans, one, bits, add=add)
    touched, spans[begin:end] = spans[begin:end], fresh
    counts = {length: len(firsts) for length, firsts in split([*touched, *fresh], bits).items()}
    lengths = tuple(layout.lengths(version))
    if counts and (not lengths or _needed(counts, lengths).total() > SPARE):
        return None
    nothing: dict[int, Spans] = {number: [] for number in BITS}
    return difference(nothing | {version: touched}, nothing | {version: fresh}, layout)
