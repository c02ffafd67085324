"""What a guard becomes in the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from markway.compiler import Abilities, Asking, compile_config
from markway.compiler.guarding import sets_of
from markway.config.load import load_text
from markway.guard.windows import Action
from markway.marks import Registry

FILE = """
[guard.ssh]
listen = ["22/tcp", "[2001:db8::1]:53/udp"]
prefix = 24
allow = ["192.0.2.0/24"]
[guard.all]
listen = "25"
scope = "all"
refuse = "reset"
ban = { time = "10m" }
"""
LINES = {
    "guard-windows": (
        "ct state established,related,invalid return",
        "ct state untracked meta l4proto != tcp return",
        'iif "lo" return',
        "jump guard/all",
        "tcp dport { 22 } fib daddr type local jump guard/ssh",
        "ip6 daddr 2001:db8::1 udp dport { 53 } jump guard/ssh",
        "tcp dport { 25 } fib daddr type local ct status ! confirmed goto guard/ask",
        "tcp dport { 22 } fib daddr type local ct status ! confirmed goto guard/ask",
        "ip6 daddr 2001:db8::1 udp dport { 53 } ct status ! confirmed goto guard/ask",
    ),
    "guard/all": (
        "ip saddr @guard/all/4 goto guard/all/refuse",
        "ip6 saddr & ffff:ffff:ffff:ffff:: @guard/all/6 goto guard/all/refuse",
    ),
    "guard/all/refuse": (
        "counter name guard/all",
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx type port-unreachable",
    ),
    "guard/ssh": (
        "ip saddr { 192.0.2.0/24 } return",
        (
            "ip saddr & 255.255.255.0 @guard/ssh/4 update @guard/ssh/4 { ip saddr & 255.255.255.0 timeout 600s } "
            "goto guard/ssh/refuse"
        ),
        (
            "ip6 saddr & ffff:ffff:ffff:ffff:: @guard/ssh/6 update @guard/ssh/6 "
            "{ ip6 saddr & ffff:ffff:ffff:ffff:: timeout 600s } goto guard/ssh/refuse"
        ),
    ),
    "guard/ssh/refuse": ("counter name guard/ssh", "drop"),
    "guard/ask": ("meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return", "goto guard/queue"),
    "guard/queue": ("queue flags bypass to 26998",),
}


def test_a_guard_s_chains_and_sets():
    fragment = compile_config(load_text(FILE).config, Registry()).program.fragments["guard/windows"]
    assert {name: chain.lines for name, chain in fragment.chains.items()} == LINES
    assert {*fragment.sets} == {"guard/all/4", "guard/all/6", "guard/ssh/4", "guard/ssh/6"}
    assert all(item.dynamic for item in fragment.sets.values())


def test_a_kernel_with_the_target_alone_is_asked_by_that():
    config = load_text(FILE).config
    program = compile_config(config, Registry(), abilities=Abilities(asking=Asking.TARGET)).program
    assert program.fragments["guard/windows"].chains["guard/queue"].lines == ("xt target NFQUEUE 26998 bypass",)


def test_without_a_guard_there_is_nothing_of_it():
    program = compile_config(load_text("[firewall]\n").config, Registry()).program
    assert "guard/windows" not in program.fragments


@pytest.mark.parametrize(
    "lines", ['slow = true\nban = { time = "10m" }', 'slow = true\nlogs = [{ format = "sshd", file = "/a" }]', ""]
)
def test_only_a_slowing_until_the_source_is_quiet_is_renewed_and_only_by_connections_that_count(lines):
    config = load_text(f'[guard.ssh]\nlisten = "22"\n{lines}').config
    fragment = compile_config(config, Registry()).program.fragments["guard/windows"]
    assert not any("slow" in line for line in fragment.chains["guard/ssh"].lines)
    assert ("guard/ssh/slow/4" in fragment.sets) == bool(lines)


def test_who_is_allowed_renews_nothing():
    config = load_text('[guard.ssh]\nlisten = "22"\nslow = true\nallow = "192.0.2.0/24"').config
    lines = compile_config(config, Registry()).program.fragments["guard/windows"].chains["guard/ssh"].lines
    assert lines[:2] == (
        "ip saddr { 192.0.2.0/24 } return",
        "ip saddr @guard/ssh/slow/4 update @guard/ssh/slow/4 { ip saddr timeout 600s }",
    )


def test_a_banned_source_stays_slowed():
    guard = load_text('[guard.ssh]\nlisten = "22"\nslow = true').config.guards[0]
    assert sets_of(guard, 4) == ("guard/ssh/4", "guard/ssh/slow/4")
    assert sets_of(guard, 6, Action.SLOW) == ("guard/ssh/slow/6",)
    assert sets_of(replace(guard, slow=False), 4) == ("guard/ssh/4",)
