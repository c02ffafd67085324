"""Sets of addresses against Python's ipaddress: whatever the text list says, the compiled sets hold just that."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address, ip_network, summarize_address_range

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from markway.guard.layouts import Place, changed_by, difference, elements, layout_for
from markway.guard.lists import parse, written
from markway.guard.prefixes import BITS, AddressSet, edit, few_lengths, split

SETTINGS = settings(max_examples=100, deadline=None)
SPARE = 300
KINDS = {4: IPv4Address, 6: IPv6Address}

# Few bits at either end, so that prefixes meet, hold and follow each other.
VERSIONS = st.sampled_from([4, 6])


@st.composite
def addresses(draw, version):
    bits = BITS[version]
    high, low = draw(st.integers(0, 7)), draw(st.integers(0, 63))
    address = high << bits - 3 | low if draw(st.booleans()) else low
    return draw(st.sampled_from([address, address ^ (1 << bits) - 1]))


@st.composite
def entry(draw):
    """One entry as text, and the first and last address that it means."""
    version = draw(VERSIONS)
    kind, bits = KINDS[version], BITS[version]
    one, other = sorted(kind(draw(addresses(version))) for _ in range(2))
    form = draw(st.sampled_from(["address", "prefix", "range"]))
    if form == "prefix":
        length = draw(st.integers(1, bits) | st.integers(bits - 6, bits))
        network = ip_network(f"{one}/{length}", strict=False)
        return f"{one}/{length}", network[0], network[-1]
    if form == "address" or int(other) - int(one) == (1 << bits) - 1:
        return str(one), one, one
    return f"{one}{draw(st.sampled_from(['-', ' - ']))}{other}", one, other


ENTRIES = st.lists(entry(), max_size=12)
REMARKS = st.sampled_from(["", " # x", " ; SBL1", "// 1.2.3.4", "\t"])


def text_of(entries, remark=""):
    return "\r\n".join(f"{text}{remark}" for text, *_ in entries).encode()


def interesting(entries):
    """The ends of all entries, and their neighbours."""
    for _, first, last in entries:
        for number in (int(first), int(last)):
            for near in (number - 1, number, number + 1):
                if 0 <= near < 1 << BITS[first.version]:
                    yield KINDS[first.version](near)


def matched(held, address):
    """Whether the kernel would find the address: one look-up for each set."""
    bits = BITS[address.version]
    return any(
        int(address) >> bits - length << bits - length in firsts
        for (version, length), firsts in held.items()
        if version == address.version
    )


def listed(address, entries):
    return any(first.version == address.version and first <= address <= last for _, first, last in entries)


@SETTINGS
@given(ENTRIES, ENTRIES, REMARKS, st.lists(VERSIONS.flatmap(lambda v: addresses(v).map(KINDS[v])), max_size=5))
def test_the_sets_match_an_address_exactly_when_the_list_does(entries, allowed, remark, more):
    found = parse(text_of(entries, remark))
    assert not found.faults
    assert found.entries == len(entries)
    content = found.content - parse(text_of(allowed)).content
    held = elements(content.spans, layout_for(content, spare=SPARE))
    for address in (*interesting(entries), *interesting(allowed), *more):
        wanted = listed(address, entries) and not listed(address, allowed)
        assert (address in content) == wanted
        assert matched(held, address) == wanted


@SETTINGS
@given(ENTRIES)
def test_merging_finds_the_fewest_prefixes(entries):
    content = parse(text_of(entries)).content
    for version, bits in BITS.items():
        ranges = [summarize_address_range(first, last) for _, first, last in entries if first.version == version]
        fewest = list(collapse_addresses(one for found in ranges for one in found))
        found = split(content.spans[version], bits)
        ours = sorted((first, length) for length, firsts in found.items() for first in firsts)
        assert ours == [(int(one[0]), one.prefixlen) for one in fewest]
        assert content.count(version) == sum(one.num_addresses for one in fewest)


@SETTINGS
@given(ENTRIES)
def test_a_set_written_and_read_is_the_same(entries):
    content = parse(text_of(entries)).content
    assume(all(content.count(version) < 1 << bits for version, bits in BITS.items()))
    assert parse("\n".join(written(content)).encode()).content == content


@SETTINGS
@given(ENTRIES, ENTRIES)
def test_a_union_is_both_lists_in_one(left, right):
    both = parse(text_of(left)).content | parse(text_of(right)).content
    assert both == parse(text_of([*left, *right])).content
    assert not both - both


@settings(SETTINGS, max_examples=40)
@given(ENTRIES, ENTRIES)
def test_a_difference_leads_from_one_content_to_the_other(old, new):
    before, after = parse(text_of(old)).content, parse(text_of(new)).content
    layout = layout_for(before, spare=SPARE)
    assume(layout_for(after, layout) is layout)
    held = {place: set(firsts) for place, firsts in elements(before.spans, layout).items()}
    change = difference(before.spans, after.spans, layout)
    for place, firsts in change.removed.items():
        assert held[place] >= set(firsts)
        held[place] -= set(firsts)
    for place, firsts in change.added.items():
        assert held.setdefault(place, set()).isdisjoint(firsts)
        held[place] |= set(firsts)
    wanted = {place: set(firsts) for place, firsts in elements(after.spans, layout).items()}
    assert {place: firsts for place, firsts in held.items() if firsts} == wanted


@SETTINGS
@given(ENTRIES, entry(), st.booleans())
def test_an_edit_is_what_merging_and_subtracting_come_to(entries, one, add):
    content, other = parse(text_of(entries)).content, parse(one[0].encode()).content
    wanted = content | other if add else content - other
    for version, bits in BITS.items():
        for span in other.spans[version]:
            begin, end, fresh = edit(content.spans[version], span, bits, add=add)
            content.spans[version][begin:end] = fresh
    assert content == wanted


@settings(SETTINGS, max_examples=60)
@given(ENTRIES, entry(), st.booleans())
def test_one_entry_more_or_less_changes_what_a_whole_comparison_finds(entries, one, add):
    content, other = parse(text_of(entries)).content, parse(one[0].encode()).content
    old = AddressSet({version: list(spans) for version, spans in content.spans.items()})
    layout = layout_for(old, spare=SPARE)
    for version in BITS:
        for span in other.spans[version]:
            change = changed_by(content, version, span, layout, add=add)
    assert content == (old | other if add else old - other)
    assume(layout_for(content, layout) is layout)
    assert change is None or change == difference(old.spans, content.spans, layout)


@SETTINGS
@given(st.dictionaries(st.integers(1, 32), st.integers(1, 2000), max_size=10), st.integers(0, 20_000))
def test_lengths_are_as_few_as_the_spare_room_allows(counts, spare):
    def cost(lengths):
        return sum(
            number << min(kept for kept in lengths if kept >= length) - length for length, number in counts.items()
        )

    chosen = few_lengths(counts, 32, spare)
    assert 32 in chosen
    assert cost(chosen) <= sum(counts.values()) + spare
    for left_out in chosen[:-1]:
        fewer = [length for length in chosen if length != left_out]
        assert cost(fewer) > sum(counts.values()) + spare


@SETTINGS
@given(ENTRIES, ENTRIES)
def test_a_layout_stays_while_the_content_fits_and_else_is_another_generation(old, new):
    first = layout_for(parse(text_of(old)).content)
    content = parse(text_of(new)).content
    second = layout_for(content, first)
    assert second is first or second.generation == first.generation + 1
    sizes = dict(second.rooms)
    assert all(len(firsts) <= sizes[place] for place, firsts in elements(content.spans, second).items())


def test_a_list_that_shrinks_gives_its_memory_back():
    large = AddressSet.of(ip_network(f"10.{a}.{b}.0/32") for a in range(16) for b in range(0, 256, 2))
    first = layout_for(large)
    assert dict(first.rooms)[Place(4, 32)] > 2048
    small = AddressSet.of([ip_network("10.0.0.0/32")])
    assert dict(layout_for(small, first).rooms)[Place(4, 32)] < 1024


@pytest.mark.parametrize("text", ["0.0.0.0/1\n128.0.0.0/1", "::/1\n8000::/1"])
def test_all_addresses_in_halves_are_a_set_like_any_other(text):
    content = parse(text.encode()).content
    address = ip_address("255.1.2.3" if "." in text else "ffff::")
    assert address in content
    assert matched(elements(content.spans, layout_for(content)), address)
