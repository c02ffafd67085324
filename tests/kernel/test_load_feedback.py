"""Load moves new connections away and back: real agents, real work, real connections.

client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c (nginx, snmpd)
"""

from __future__ import annotations

import sys

import pytest
from tests.kernel.daemon import running
from tests.kernel.support import eventually

from markway.lab import snmp

VIP = "192.0.2.10:80"
WEB = """
[service.web]
listen = "192.0.2.10:80/tcp"
load = { snmp = "laLoadInt.1", every = "1s", full = 200 }
backend.a = { address = "192.168.1.11:8080", weight = 2 }
backend.b = { address = "192.168.1.12:8080" }
backend.c = { address = "192.168.1.13:8080" }
"""
COUNT = 1000


def share(net):
    """What part of a thousand new connections `a` gets; none of them fails."""
    tally = net.fetch(VIP, COUNT)
    assert not tally.failed
    return tally.answers["a"] / COUNT


def factor(daemon):
    """What `a`'s load leaves of its weight."""
    changes = daemon.seen("load", "web/a")
    return changes[-1]["data"]["factor"] if changes else 1.0


@pytest.mark.alone
@pytest.mark.real_time
def test_work_on_a_backend_moves_connections_away_and_back(lab):
    """The agents average over 2 s, for those in a hurry; a machine's over a minute."""
    net = lab(WEB)
    for name in "abc":
        snmp.serve(net.host(name), seconds=2)
    with running(net, WEB) as daemon:
        before = share(net)
        with snmp.stress(net.host("a"), 6):
            eventually(lambda: factor(daemon) < 0.25)
            during = share(net)
        eventually(lambda: factor(daemon) > 0.8, 40)
        after = share(net)
    sys.stdout.write(f"\nof new connections a gets {before:.0%}, under load {during:.0%}, after it {after:.0%}\n")
    assert before > 0.45  # half is what its weight asks for
    assert during < 0.3
    assert after > 0.38
