"""What zones and policies mean."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from markway.config.firewalling import Firewalling, Policy, Verdict, Zone
from markway.config.load import load_text
from markway.config.model import PortRange, SourceRate
from markway.config.shaping import Match

LOG = SourceRate(10, "minute", 5)


def firewalling(text: str) -> Firewalling:
    return load_text(text).config.firewalling


def test_a_file_that_says_nothing_of_it_has_none():
    assert firewalling('[shape.wan]\ndevice = "eth0"\nrate = "1mbit"') == Firewalling()


def test_zones():
    found = firewalling('[zone.b]\ndevices = ["eth1", "eth1"]\n[zone.a]\nnetworks = ["10.0.0.0/9", "10.128.0.0/9"]')
    assert found == Firewalling(
        (Zone("b", ("eth1",)), Zone("a", (), (ip_network("10.0.0.0/8"),), spoofed=False)), log=LOG
    )


@pytest.mark.parametrize("text", ["[firewall]", '[policy.p]\nfrom = "any"\nto = "self"\nverdict = "accept"'])
def test_a_policy_or_the_table_closes_what_is_not_opened(text: str):
    assert firewalling(text).closed


def test_an_uplink_lets_packets_come_in_by_any_device():
    uplink = "[uplink.dsl]\ntable = 100\n"
    assert not firewalling(uplink + '[zone.a]\ndevices = "eth0"').zones[0].spoofed
    assert firewalling(uplink + '[zone.a]\ndevices = "eth0"\nspoofed = "drop"').zones[0].spoofed


def test_policies_are_in_the_order_of_the_file():
    found = firewalling("""
[zone.lan]
devices = "eth1"
[policy.ssh]
from = ["lan", "any"]
to = "self"
match = { destination-port = 22, protocol = "tcp" }
verdict = "accept"
rate = "10/second burst 20"
max-connections = 20
[policy.all]
from = "self"
to = "lan"
verdict = "reject"
[policy.more]
from = "any"
to = "any"
verdict = "drop"
log = "1/hour"
""")
    match = Match(protocol=("tcp",), destination_port=(PortRange(22, 22),))
    assert found.policies == (
        Policy(
            "ssh", ("lan", "any"), ("self",), Verdict.ACCEPT, (match,), None, SourceRate(10, "second", 20), 20,
        ),
        Policy("all", ("self",), ("lan",), Verdict.REJECT, (), LOG),
        Policy("more", ("any",), ("any",), Verdict.DROP, (), SourceRate(1, "hour", 5)),
    )  # fmt: skip


def test_nothing_is_logged():
    closed = '[firewall]\nlog = false\nicmp = false\nlockout = "accept"\n'
    found = firewalling(closed + '[policy.p]\nfrom = "any"\nto = "any"\nverdict = "drop"')
    assert (found.log, found.policies[0].log, found.icmp, found.refuse_lockout) == (None, None, False, False)
