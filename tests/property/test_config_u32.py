"""Selectors of u32: what is taken means what tc takes it for, and nothing else is taken."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from markway.config.problems import WrongValue
from markway.config.shaping import Key
from markway.config.u32 import check_together, parse_selector

BITS = {"u8": 8, "u16": 16, "u32": 32}
WORDS = st.sampled_from([
    "u8", "u16", "u32", "ip", "ip6", "tcp", "udp", "icmp", "src", "dst", "sport", "dport", "protocol", "tos", "ttl",
    "at", "nexthdr+", "nexthdr+2", "0", "-4", "4", "53", "010", "0xff", "ff", "0x1ffff", "any", "10.0.0.0/8",
    "fd00::/9",
    "nofrag", "ack", "match", "mark", "", "99999999999999999999", "0x", "٣", "\n", "at at", "priority", "flowlabel",
])  # fmt: skip


@st.composite
def patterns(draw):
    """A raw selector and the key that it is."""
    kind = draw(st.sampled_from([*BITS]))
    width = BITS[kind] // 8
    mask = draw(st.integers(0, (1 << BITS[kind]) - 1))
    value = draw(st.integers(0, (1 << BITS[kind]) - 1)) & mask
    behind = draw(st.booleans())
    offset = draw(st.integers(0 if behind else -16 // width, 1500 // width)) * width
    number = draw(st.sampled_from([hex, str]))(value)
    text = f"{kind} {number} {mask:x} at {'nexthdr+' if behind else ''}{offset}"
    return text, Key(width, value, mask, offset, "next" if behind else "ip")


@given(patterns())
def test_a_pattern_is_its_key(pattern):
    text, key = pattern
    assert parse_selector(text).keys == (key,)


@settings(max_examples=500)
@given(st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=30))
@example("u8 0 0 at -")
@example("ip src 10.0.0.0/8 at 16")
@example("tcp")
def test_any_text_is_taken_or_refused_with_a_reason(text):
    try:
        keys = parse_selector(text).keys
    except WrongValue:
        return
    assert keys
    for key in keys:
        assert key.value & ~key.mask == 0
        assert key.mask >> 8 * key.width == 0
        assert key.offset % key.width == 0


@given(st.lists(patterns(), min_size=1, max_size=4), st.binary(min_size=64, max_size=64))
def test_what_is_called_contrary_no_packet_has(written, packet):
    """The other way round: if one packet has all, nothing is called contrary."""
    keys = [key for _, key in written if key.base == "ip" and 0 <= key.offset < 60]
    selectors = []
    for key in keys:
        there = int.from_bytes(packet[key.offset : key.offset + key.width]) & key.mask
        selectors.append(parse_selector(f"u{8 * key.width} {there:#x} {key.mask:#x} at {key.offset}"))
    assert [*check_together(selectors, "ip")] == []


OF_TC = [
    "ip src 10.0.0.0/8", "ip dst any", "ip tos 0x10 0xff", "ip dsfield 0x10 0xfc", "ip precedence 0xa0 0xe0",
    "ip ihl 5 0xf", "ip protocol 17 0xff", "ip nofrag", "ip firstfrag", "ip df", "ip mf", "ip sport 53 0xffff",
    "ip dport 53 0xffff", "ip icmp_type 8 0xff", "ip6 src fd00::/9", "ip6 dst ::/0", "ip6 priority 0xb8 0xfc",
    "ip6 protocol 58 0xff", "ip6 flowlabel 1 0xfffff", "ip6 sport 53 0xffff", "ip6 dport 53 0xffff",
    "ip6 icmp_type 1 0xff", "tcp src 80 0xffff", "tcp dst 80 0xffff", "udp src 53 0xffff", "udp dst 53 0xffff",
    "icmp type 8 0xff", "icmp code 0 0xff",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("tc") is None, reason="no tc here")
@settings(max_examples=50, deadline=None)
@given(patterns().map(lambda pattern: pattern[0]) | st.sampled_from(OF_TC))
def test_tc_takes_what_is_taken(text):
    """tc reads the whole command before it misses the device."""
    assert parse_selector(text).keys
    command = f"tc filter add dev no-such-dev parent 1: protocol ip prio 1 u32 match {text} flowid 1:1"
    answer = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert "Cannot find device" in answer.stderr
    assert "Illegal" not in answer.stderr
