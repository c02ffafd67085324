"""What is foreseen of a connection, where the kernel is not asked; where it is: tests/kernel/test_firewall.py."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from markway.config.firewalling import Verdict
from markway.config.load import load_text
from markway.guard.lockout import Connection, decision


def policy(name: str, verdict: str, match: str = "") -> str:
    return f'[policy.{name}]\nfrom = "any"\nto = "self"\nverdict = "{verdict}"\nmatch = {{ {match or "family = 4"} }}\n'


def ssh(text: str, device: str = "eth0") -> tuple[Verdict, tuple[str | int, ...]]:
    connection = Connection(device, ip_address("198.51.100.7"), ip_address("192.0.2.1"), 22)
    return decision(load_text(text).config, connection)


def test_where_nothing_is_closed_all_is_open():
    assert ssh('[zone.a]\ndevices = "eth0"') == (Verdict.ACCEPT, ())


def test_what_cuts_is_told():
    assert ssh("[firewall]") == (Verdict.DROP, ("firewall",))
    assert ssh(policy("web", "accept", "destination-port = 80")) == (Verdict.DROP, ("policy", "web"))
    assert ssh(policy("no", "reject")) == (Verdict.REJECT, ("policy", "no"))
    assert ssh("[firewall]", "lo")[0] is Verdict.ACCEPT


@pytest.mark.parametrize("unsure", ["source-port = 1024", 'nft = "ip ttl 5"', 'dscp = "ef"', "mark = 1", "port = 5000"])
def test_what_cannot_be_foreseen_does_not_let_in_and_does_refuse(unsure: str):
    assert ssh(policy("in", "accept", unsure))[0] is Verdict.DROP
    assert ssh(policy("no", "drop", unsure) + policy("in", "accept")) == (Verdict.DROP, ("policy", "no"))


def test_who_is_slowed_cannot_be_foreseen():
    guard = '[guard.ssh]\nlisten = "22"\nslow = true\n'
    assert ssh(guard + policy("in", "accept", 'guard = "ssh"'))[0] is Verdict.DROP
    assert ssh(guard + policy("no", "drop", 'guard = "ssh"') + policy("in", "accept"))[0] is Verdict.DROP


@pytest.mark.parametrize("other", ['protocol = "udp"', "family = 6", 'state = "established"', "bytes-over = 1"])
def test_what_it_is_not_does_not_matter(other: str):
    assert ssh(policy("no", "drop", other) + policy("in", "accept")) == (Verdict.ACCEPT, ("policy", "in"))


def test_a_service_says_whom_it_lets_in():
    service = '[service.s]\nlisten = "192.0.2.1:22"\nbackend.a = { address = "10.0.0.1:22" }\n'
    assert ssh("[firewall]\n" + service)[0] is Verdict.ACCEPT
    denied = service.replace("backend", 'deny = "198.51.100.0/24"\nrefuse = "drop"\nbackend')
    assert ssh(denied) == (Verdict.DROP, ("service", "s", "deny"))
    allowed = service.replace("backend", 'allow = "10.0.0.0/8"\nbackend')
    assert ssh(allowed) == (Verdict.REJECT, ("service", "s", "allow"))
