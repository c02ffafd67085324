"""Sets of addresses as large lists need them: merged, taken from each other, compared, split by prefix length.

A million prefixes are a million of Python's `ipaddress` objects, or a list of integers and thirty times as fast. A
*span* is one integer: the first address of a range in the upper half, the last in the lower. The spans of a set are
sorted, and neither overlap nor touch, so that equal sets are equal lists.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Spans: TypeAlias = list[int]
"""Not to be changed by whom it is given to."""
Split: TypeAlias = dict[int, list[int]]
"""By prefix length, the first addresses of the prefixes that long."""

BITS = {4: 32, 6: 128}
"""Of an address, by version of IP."""


def span(first: int, last: int, bits: int) -> int:
    """The range from `first` to `last`, both included."""
    return first << bits | last


def ends(one: int, bits: int) -> tuple[int, int]:
    """First and last address of a span."""
    return one >> bits, one & ((1 << bits) - 1)


def merged(spans: Iterable[int], bits: int) -> Spans:
    """Any spans as the spans of a set."""
    low = (1 << bits) - 1
    found: Spans = []
    first, last = 0, -2
    for one in sorted(spans):
        begin = one >> bits
        if begin > last + 1:
            found.append(first << bits | last)
            first, last = begin, one & low
        elif (end := one & low) > last:
            last = end
    found.append(first << bits | last)
    return found[1:]  # the first stands for what was before all


def subtracted(spans: Spans, taken: Spans, bits: int) -> Spans:
    """The addresses of one set that another does not have."""
    if not taken:
        return spans
    low = (1 << bits) - 1
    found: Spans = []
    at = 0
    for one in spans:
        first, last = one >> bits, one & low
        while at < len(taken) and taken[at] & low < first:
            at += 1
        here = at
        while here < len(taken) and (begin := taken[here] >> bits) <= last:
            if begin > first:
                found.append(first << bits | begin - 1)
            first = (taken[here] & low) + 1
            here += 1
        if first <= last:
            found.append(first << bits | last)
    return found


def holds(spans: Spans, address: int, bits: int) -> bool:
    """Whether a set has the address."""
    return holding(spans, address, bits) is not None


def holding(spans: Spans, address: int, bits: int) -> int | None:
    """The span of a set that has the address; None if none does."""
    low = (1 << bits) - 1
    at = bisect_right(spans, span(address, low, bits)) - 1
    return spans[at] if at >= 0 and spans[at] & low >= address else None


def common(spans: Spans, one: int, bits: int) -> Spans:
    """What a set has of a span; costs what it touches."""
    begin, end, _ = edit(spans, one, bits, add=False)
    return subtracted([one], subtracted([one], spans[begin:end], bits), bits)


class Edit(NamedTuple):
    """One span added or taken: `spans[begin:end]` becomes `fresh`."""

    begin: int
    end: int
    fresh: Spans


def edit(spans: Spans, one: int, bits: int, *, add: bool) -> Edit:
    """What becomes of a set with one more span, or without it; costs what it touches."""
    first, last = ends(one, bits)
    begin = bisect_left(spans, first << bits)
    while begin and ends(spans[begin - 1], bits)[1] >= first - 1:
        begin -= 1
    end = bisect_right(spans, span(last + 1, (1 << bits) - 1, bits))
    touched = spans[begin:end]
    return Edit(begin, end, merged([*touched, one], bits) if add else subtracted(touched, [one], bits))


def split(spans: Iterable[int], bits: int, lengths: Collection[int] | None = None) -> Split:
    """The fewest prefixes that make up a set, with no other lengths than these.

    Args:
        spans: of the set.
        bits: of an address.
        lengths: those allowed, all of them if None; an address's own is always allowed.
    """
    low = (1 << bits) - 1
    allowed = range(bits + 1) if lengths is None else {*lengths, bits}
    by_host = [max(host for host in range(up_to + 1) if bits - host in allowed) for up_to in range(bits + 1)]
    found: Split = {length: [] for length in sorted(allowed)}
    single = found[bits].append
    for one in spans:
        first, last = one >> bits, one & low
        if first == last:
            single(first)
            continue
        while first <= last:
            aligned = (first & -first).bit_length() - 1 if first else bits
            host = by_host[min(aligned, (last - first + 1).bit_length() - 1)]
            found[bits - host].append(first)
            first += 1 << host
    return {length: firsts for length, firsts in found.items() if firsts}


def few_lengths(counts: dict[int, int], bits: int, spare: int) -> tuple[int, ...]:
    """The fewest prefix lengths that a set can be split into with `spare` more prefixes than needed.

    Every length costs each packet a look-up, a prefix more only memory. A prefix of a length that is left out is split
    into prefixes of the next.

    Args:
        counts: how many prefixes there are of each length, at best.
        bits: of an address; prefixes that long are always among the lengths.
        spare: how many more there may be.
    """
    present = sorted({*counts, bits})
    budget = sum(counts.values()) + spare
    # best[j] is the least number of prefixes that the first j lengths come to, if the j-th is kept, and what is kept.
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    while len(present) not in best or best[len(present)][0] > budget:
        longer: dict[int, tuple[int, tuple[int, ...]]] = {}
        for kept in range(1, len(present) + 1):
            length, cost = present[kept - 1], 0
            for before in range(kept - 1, -1, -1):
                cost += counts.get(present[before], 0) << length - present[before]
                if cost > budget:
                    break
                if before in best:
                    total, chosen = best[before]
                    found = total + cost, (*chosen, length)
                    longer[kept] = min(longer.get(kept, found), found)
        best = longer
    return best[len(present)][1]


@dataclass(frozen=True, slots=True)
class AddressSet:
    """Addresses of both families, by version of IP."""

    spans: dict[int, Spans] = field(default_factory=lambda: {4: [], 6: []})

    @classmethod
    def of(cls, networks: Iterable[IPv4Network | IPv6Network]) -> AddressSet:
        """The addresses of some networks."""
        loose: dict[int, Spans] = {4: [], 6: []}
        for network in networks:
            bits = BITS[network.version]
            loose[network.version].append(span(int(network[0]), int(network[-1]), bits))
        return cls.merge(loose)

    @classmethod
    def merge(cls, loose: dict[int, Spans]) -> AddressSet:
        """The addresses of any spans."""
        return cls({version: merged(loose.get(version, []), bits) for version, bits in BITS.items()})

    def __or__(self, other: AddressSet) -> AddressSet:
        return self.merge({version: self.spans[version] + other.spans[version] for version in BITS})

    def __sub__(self, other: AddressSet) -> AddressSet:
        taken = other.spans
        return AddressSet({v: subtracted(self.spans[v], taken[v], bits) for v, bits in BITS.items()})

    def __and__(self, other: AddressSet) -> AddressSet:
        """Cheap if this one has few spans, however many the other has."""
        spans = self.spans.items()
        return AddressSet(
            {v: [part for one in few for part in common(other.spans[v], one, BITS[v])] for v, few in spans}
        )

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        return holds(self.spans[address.version], int(address), BITS[address.version])

    def __bool__(self) -> bool:
        return any(self.spans.values())

    def count(self, version: int) -> int:
        """How many addresses of a family there are."""
        bits = BITS[version]
        low = (1 << bits) - 1
        return sum((one & low) - (one >> bits) + 1 for one in self.spans[version])
