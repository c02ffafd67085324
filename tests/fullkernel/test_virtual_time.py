"""Hours, exactly: what a director remembers and for how long, in virtual time.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import flows, in_force, run, seen, write

from markway.kernel.capabilities.network import RIGHT, Network, udp

if TYPE_CHECKING:
    from markway.lab.lab import Lab

pytestmark = pytest.mark.virtual_time

HOUR = 3600.0
STICKY = """
[service.web]
listen = "192.0.2.10:80/tcp"
persist = { key = "source", timeout = "1h" }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
"""


def answer(lab: Lab) -> str:
    [name] = lab.fetch("192.0.2.10:80", 1).answers
    return str(name)


def test_a_source_is_remembered_for_an_hour_after_its_last_connection_and_then_forgotten(pass_time):
    with in_force(STICKY) as lab:
        first = answer(lab)
        for _ in range(5):  # five hours, and never an hour idle
            pass_time(HOUR - 60)
            assert answer(lab) == first
        pass_time(HOUR + 1)
        assert answer(lab) != first  # the round robin went on


def test_the_hour_ends_to_the_second(pass_time):
    with in_force(STICKY) as lab:
        first = answer(lab)
        pass_time(HOUR - 1)
        assert answer(lab) == first
        pass_time(HOUR + 1)
        assert answer(lab) != first


def test_an_idle_udp_flow_is_tracked_for_half_a_minute(pass_time):
    config = STICKY.replace("80/tcp", "80/udp").replace('persist = { key = "source", timeout = "1h" }', "")
    with in_force(config) as lab:
        lab.fetch("192.0.2.10:80", 1, udp=True)
        pass_time(28)
        assert len(flows(lab, 80)) == 1
        pass_time(4)
        assert flows(lab, 80) == []


def test_an_apply_undoes_itself_after_ten_minutes_without_confirmation(pass_time):
    with in_force(STICKY) as lab:
        path = write(lab, STICKY.replace("backend.b", "backend.c"), "next.toml")
        run(lab, "apply", "--confirm", "10m", path)
        pass_time(595)
        assert set(seen(lab, "web")["backends"]) == {"a", "c"}
        pass_time(10)
        assert set(seen(lab, "web")["backends"]) == {"a", "b"}


@pytest.mark.needs("sch_htb")
def test_a_rate_is_a_rate_to_the_microsecond():
    """1 Mbit/s: 125 packets of 1000 octets on the wire take one second."""
    with Network() as network:
        network.tc(
            "qdisc add dev right root handle 1: htb default 2",
            "class add dev right parent 1: classid 1:2 htb rate 1mbit burst 1000 cburst 1000",
        )
        network.passes()  # the neighbours know each other
        with udp(network.right, 9) as receiver, udp(network.left) as sender:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            begun = time.monotonic()
            for _ in range(125):
                sender.sendto(bytes(1000 - 42), (RIGHT, 9))
            for _ in range(125):
                receiver.recv(2048)
            assert time.monotonic() - begun == pytest.approx(1.0, abs=0.02)
