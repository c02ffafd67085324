"""Changes of a list by hand, against sets of addresses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markway.config.problems import WrongValue
from markway.guard.lists import entry, spelled
from markway.guard.overlays import Overlay, entries_of, overlay_of, overlay_record
from markway.guard.prefixes import BITS, AddressSet, span

BASES = {4: int(ip_address("192.0.2.0")), 6: int(ip_address("2001:db8::"))}
SOME = st.sets(st.tuples(st.sampled_from([4, 6]), st.integers(0, 15)), max_size=12)
ALL = frozenset((version, number) for version in BITS for number in range(16))


def content(some: set[tuple[int, int]]) -> AddressSet:
    loose: dict[int, list[int]] = {4: [], 6: []}
    for version, number in some:
        address = BASES[version] + number
        loose[version].append(span(address, address, BITS[version]))
    return AddressSet.merge(loose)


@given(SOME, st.lists(st.tuples(st.booleans(), SOME, SOME), max_size=6))
def test_what_was_said_by_hand_last_counts(said, changes):
    """Each change comes with what the source says then."""
    overlay, by_hand = Overlay(), dict[tuple[int, int], bool]()
    for add, some, source in changes:
        if add:
            overlay = overlay.adding(content(some))
            by_hand |= dict.fromkeys(some, True)
        else:
            overlay = overlay.removing(content(some), content(source))
            known = {one for one in some if one in source or by_hand.get(one) is False}
            by_hand = {one: kept for one, kept in by_hand.items() if one not in some} | dict.fromkeys(known, False)
    assert overlay.over(content(said)) == content({one for one in ALL if by_hand.get(one, one in said)})
    assert overlay_of(overlay_record(overlay)) == overlay
    assert not overlay.added & overlay.removed
    assert bool(overlay) == bool(by_hand)


@given(SOME, SOME)
def test_what_two_sets_have_in_common(one, other):
    assert content(one) & content(other) == content(one & other)


@given(st.sampled_from([4, 6]), st.data())
def test_a_span_is_read_as_it_is_spelled(version, data):
    numbers = st.integers(0, (1 << BITS[version]) - 2)
    first, last = sorted((data.draw(numbers), data.draw(numbers)))
    one = span(first, last, BITS[version])
    assert entry(spelled(version, one)) == (version, one, False)


def test_how_spans_are_spelled():
    entries = ["192.0.2.0/25", "192.0.2.130", "192.0.2.132-192.0.2.134", "2001:db8::/48"]
    assert overlay_record(Overlay(entries_of(entries)))["added"] == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "no address"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "every address"),
        ("192.0.2.9-192.0.2.1", "ends before it begins"),
        ("192.0.2.1 192.0.2.2", "no address"),
        ("", "no address"),
    ],
)
def test_what_nobody_can_have_meant(text, message):
    with pytest.raises(WrongValue) as wrong:
        entries_of(["192.0.2.1", text])
    assert message in f"{wrong.value.message} {wrong.value.suggestion}"
    assert f'"{text}"' in wrong.value.message


def test_half_of_all_addresses_is_no_entry():
    with pytest.raises(WrongValue, match="more than half"):
        entries_of(["0.0.0.0/1", "128.0.0.0/1"])
