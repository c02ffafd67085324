"""Every refusal of the firewall, word for word: this table is what an operator reads."""

from __future__ import annotations

import pytest
from tests.unit.test_config_refusals import cases, problems

from markway.config.load import Source, load
from markway.config.problems import ConfigError

_NEEDED = ('from = "lan"', 'to = "self"', 'verdict = "accept"')


def policy(lines: str) -> str:
    """A policy whose own lines start at 2; what it needs and they do not say comes behind them."""
    said = {line.partition(" =")[0] for line in lines.split("\n")}
    rest = [line for line in _NEEDED if line.partition(" =")[0] not in said]
    return "\n".join(["[policy.p]", lines, *rest, '[zone.lan]\ndevices = "eth1"\n'])


def said(text: str) -> str:
    return " ".join(problem.removeprefix("m:") for problem in problems(text))


TABLES = r"""
[zone.lan]
    1:7: zone.lan: nothing says who is there (for example devices = "eth0" or networks = "10.0.0.0/8")
[zone.lan]
devices = []
    1:7: zone.lan: nothing says who is there (for example devices = "eth0" or networks = "10.0.0.0/8")
[zone.lan]
devices = "lo"
    2:1: zone.lan.devices: lo leads to this machine itself (that is the zone "self")
[zone.self]
devices = "eth0"
    1:7: zone.self: "self" is this machine, without a table (choose another name)
[zone.any]
devices = "eth0"
    1:7: zone.any: "any" is everywhere but this machine, without a table (choose another name)
[zone.lan]
networks = "10.0.0.1/8"
    2:1: zone.lan.networks: "10.0.0.1/8" has bits set beyond its prefix (did you mean the network "10.0.0.0/8"
        or the address "10.0.0.1"?)
[zone.lan]
networks = "10.0.0.0/8"
spoofed = "drop"
    3:1: zone.lan.spoofed: it is asked by device, and the zone has none (leave it out)
[zone.lan]
devices = "eth0"
spoofed = "reject"
    3:1: zone.lan.spoofed: expected "drop" or "accept", got "reject"
[zone.lan]
devices = "eth*"
    2:1: zone.lan.devices: "eth*" is a pattern, and one device is needed (for example "eth0")
[zone.lan]
device = "eth0"
    2:1: zone.lan: unknown key "device" (did you mean "devices"?)
[zone."Lan 1"]
devices = "eth0"
    1:7: zone."Lan 1": the name "Lan 1" cannot be used: a name is 1 to 63 of a-z, 0-9, _, . and -, and starts
        with a letter or digit (did you mean "lan-1"?)
[zone]
lan = 5
    2:1: zone.lan: expected a table, got the integer 5
[firewall]
log = true
    2:1: firewall.log: nothing says how often (for example log = "10/minute")
[firewall]
log = "10"
    2:1: firewall.log: "10" is not a rate (did you mean "10/second"?)
[firewall]
log = 10
    2:1: firewall.log: expected a rate or false, got the integer 10 (for example log = "5/second burst 20")
[firewall]
icmp = "yes"
    2:1: firewall.icmp: expected true or false, got the string "yes" (for example icmp = false)
[firewall]
lockout = "drop"
    2:1: firewall.lockout: expected "refuse" or "accept", got "drop"
[firewall]
policy = "drop"
    2:1: firewall: unknown key "policy" (there are icmp, dhcp, log and lockout)
[[firewall]]
log = false
    1:3: firewall: expected a table, got a list
"""

IN_POLICY = r"""
from = "wan"
    2:1: policy.p.from: there is no zone "wan" (did you mean "lan"?)
from = "self"
    1:9: policy.p: what this machine tells itself always passes (name another zone in from or to)
from = []
    2:1: policy.p.from: an empty list is nowhere (for example from = "any")
from = 5
    2:1: policy.p.from: expected a string or a list of strings, got the integer 5 (for example from = "lan")
to = "lna"
    2:1: policy.p.to: there is no zone "lna" (did you mean "lan"?)
verdict = "allow"
    2:1: policy.p.verdict: expected "accept", "drop" or "reject", got "allow"
verdict = "drop"
rate = "1/second"
    3:1: policy.p.rate: only what is accepted is limited (leave it out)
verdict = "reject"
max-connections = 5
    3:1: policy.p.max-connections: only what is accepted is limited (leave it out)
rate = "1/day"
    2:1: policy.p.rate: "day" is not a unit of a rate (second, minute or hour)
max-connections = 0
    2:1: policy.p.max-connections: expected an integer from 1 to 4294967295, got the integer 0 (for example
        max-connections = 20)
log = true
    2:1: policy.p.log: nothing says how often (for example log = "10/minute")
match = {}
    2:1: policy.p.match: nothing is asked for: every packet would match (for example { protocol = "tcp" })
match = []
    2:1: policy.p.match: an empty list matches nothing (for example { protocol = "tcp" })
match = { service = "web" }
    2:11: policy.p.match.service: services are open by themselves (their own allow and deny say to whom)
    2:11: policy.p.match.service: there is no service "web"
match = { user = 1000 }
    2:11: policy.p.match.user: what comes in has no socket here whose owner could be asked for (it is for from
        = "self")
match = { outgoing-device = "eth0" }
    2:11: policy.p.match.outgoing-device: what is for this machine leaves by no device (leave it out)
from = "self"
to = "lan"
match = { incoming-device = "eth0" }
    4:11: policy.p.match.incoming-device: what this machine sends came in by no device (leave it out)
match = { protocol = "tpc" }
    2:11: policy.p.match.protocol: "tpc" is no protocol (did you mean "tcp"?)
synproxy = true
    2:1: policy.p.synproxy: it is for TCP, and nothing says which ports (for example match = { protocol =
        "tcp", destination-port = 80 })
synproxy = true
match = { protocol = ["tcp", "udp"], destination-port = 80 }
    3:1: policy.p.match: synproxy is for TCP only (write protocol = "tcp")
synproxy = true
match = { destination-port = 80 }
    3:1: policy.p.match: synproxy is for TCP only (write protocol = "tcp")
synproxy = true
max-connections = 5
match = { protocol = "tcp", destination-port = 80, state = "new", nft = "ip ttl 5" }
    3:1: policy.p.max-connections: a connection is counted before its handshake, which synproxy answers (leave
        one of the two out)
    4:52: policy.p.match.state: it cannot be asked of a handshake that synproxy answers (leave it out)
    4:67: policy.p.match.nft: it cannot be asked of a handshake that synproxy answers (leave it out)
synproxy = true
from = ["lan", "self"]
to = "any"
match = { protocol = "tcp" }
    2:1: policy.p.synproxy: the handshakes of this machine are its own (leave "self" out of from)
verdict = "drop"
synproxy = true
    3:1: policy.p.synproxy: only what is accepted is limited (leave it out)
zone = "lan"
    2:1: policy.p: unknown key "zone" (there are from, to, match, verdict, log, rate, max-connections and
        synproxy)
"""


@pytest.mark.parametrize(("text", "says"), cases(TABLES))
def test_a_zone_or_the_firewall(text: str, says: str):
    assert said(text) == says


@pytest.mark.parametrize(("lines", "says"), cases(IN_POLICY))
def test_a_policy(lines: str, says: str):
    assert said(policy(lines)) == says


def test_what_a_policy_needs():
    assert problems("[policy.p]") == [
        'm:1:9: policy.p: nothing says what becomes of it (for example verdict = "accept")',
        'm:1:9: policy.p: nothing says where it comes from (for example from = "any")',
        'm:1:9: policy.p: nothing says where it goes (for example to = "any")',
    ]


def test_what_two_files_define():
    texts = ('[firewall]\n[zone.lan]\ndevices = "eth1"\n', "[firewall]\nlog = false\n[zone.lan]\ndevices = 'eth2'\n")
    with pytest.raises(ConfigError) as caught:
        load([Source(name, text.encode()) for name, text in zip("ab", texts, strict=True)])
    assert [str(problem) for problem in caught.value.problems] == [
        "b:1:2: firewall: [firewall] is already defined, at a:1:2",
        'b:3:7: zone.lan: zone "lan" is already defined, at a:2:7',
    ]
