"""The fewest steps from one program to another, and what they mean to the users of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from markway.compiler import compile_config
from markway.config.load import load_text
from markway.kernel.table import decode, encode
from markway.marks import Registry
from markway.program.diff import diff, phases
from markway.program.impact import impacts

if TYPE_CHECKING:
    from markway.program.model import Program


def compiled(text: str, registry: Registry = Registry()):  # noqa: B008 - frozen
    return compile_config(load_text(text, "test.toml").config, registry)


def two(weights: str = "11", lines: str = "") -> str:
    text = f'[service.web]\nlisten = "192.0.2.10:80"\n{lines}\n'
    for number, (name, weight) in enumerate(zip("ab", weights, strict=True)):
        text += f'backend.{name} = {{ address = "192.168.1.1{number}:80", weight = {weight} }}\n'
    return text


OTHER = '[service.other]\nlisten = "192.0.2.11:80"\nbackend.z.address = "192.168.1.10:81"\n'


def between(old: Program, new: Program) -> dict[str, list[str]]:
    return phases(diff(old, new))


def test_an_element_that_two_services_ask_for_stays_while_one_does():
    both = compiled(two() + OTHER)
    web = compiled(two(), both.registry)
    taken = between(both.program, web.program)["take"]
    assert not any("hairpin4" in line for line in taken)
    gone = between(both.program, compiled(OTHER, both.registry).program)["take"]
    assert any("hairpin4" in line and "192.168.1.11" in line and "192.168.1.10" not in line for line in gone)


def test_a_service_that_leaves_takes_all_of_its_own_along():
    both = compiled(two(lines='source-rate = "5/second"') + OTHER)
    less = between(both.program, compiled(OTHER, both.registry).program)
    assert "delete chain inet markway service/web/ip" in less["drop"]
    assert "delete set inet markway rate4/web/5-second-5" in less["drop"]
    assert not any("other" in line for phase in less.values() for line in phase if "web" not in line)


def test_there_and_back_is_nothing():
    one = compiled(two())
    other = compiled(two("31", 'persist = { timeout = "1m" }') + OTHER, one.registry)
    back = compiled(two(), other.registry)
    assert back.program.id == one.program.id
    assert not diff(one.program, back.program)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [("11", "31", 1 / 4), ("11", "01", 1 / 2), ("12", "12", None), ("12", "24", None)],
)
def test_the_share_that_moves_is_what_the_shares_differ_by(before, after, moved):
    one = compiled(two(before))
    other = compiled(two(after), one.registry)
    found = impacts(diff(one.program, other.program))
    shares = [impact.moved for impact in found if impact.moved]
    assert shares == ([pytest.approx(moved)] if moved else [])


def test_what_moves_of_a_hash_is_counted_slot_by_slot():
    one = compiled(two("11", 'schedule = "source-hash"'))
    other = compiled(two("10", 'schedule = "source-hash"'), one.registry)
    [impact] = impacts(diff(one.program, other.program))
    assert impact.moved == pytest.approx(1 / 2)
    assert impact.why == ("weight of b 1 → 0",)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("mark", "0x0000002a"),
        ("ipv4_addr", "192.0.2.1"),
        ("ipv6_addr", "2001:db8::1"),
        ("inet_proto", "tcp"),
        ("inet_proto", "udp"),
        ("inet_proto", "icmpv6"),
        ("inet_service", "65535"),
        ("classid", "4d57:fffe"),
    ],
)
def test_a_value_travels_to_the_kernel_and_back(kind, value):
    assert decode(kind, encode(kind, value)) == value


def test_an_unknown_kind_is_said():
    with pytest.raises(ValueError, match="no encoding for nft type ether_addr"):
        encode("ether_addr", "x")
