"""What the probes say of a kernel is what its packets do; the full kernel lacks nothing."""

from __future__ import annotations

import os

import pytest

from markway.kernel import netns
from markway.kernel.capabilities import FEATURES, Answer, probe
from markway.kernel.capabilities.network import Network

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.alone,  # a probe gives packets a fifth of a second
]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in FEATURES])
def test_a_feature_that_a_kernel_has_is_found_again(name):
    for _ in range(5):  # a busy machine may be late
        finding = probe(FEATURES[name])
        if finding.answer is Answer.YES:
            break
    assert finding.answer is Answer.YES, finding.why


def test_a_probe_leaves_no_namespace():
    probe(FEATURES["ct_mark"])
    assert netns.names(f"mwprobe-{os.getpid()}-") == []


def test_without_a_rule_every_packet_of_a_probe_arrives():
    with Network() as network:
        packets = [(port, 9) for port in range(4000, 4100)]
        assert network.arrived(packets, patient=True) == list(range(100))


@pytest.mark.needs("sch_htb")
def test_a_mark_filter_is_called_ignored_where_it_takes_unmarked_packets_or_no_marked_ones():
    found = probe(FEATURES["cls_u32_mark"])
    with Network() as network:
        network.tc(
            "qdisc add dev right root handle 1: htb default 3",
            "class add dev right parent 1: classid 1:2 htb rate 10mbit",
            "class add dev right parent 1: classid 1:3 htb rate 10mbit",
            "filter add dev right parent 1: protocol ip prio 1 u32 match mark 0x10 0xff flowid 1:2",
        )
        network.chain("forward", "udp dport 9 meta mark set 0x10")
        network.arrived([(4000, 10)] * 5, patient=True)
        unmarked = network.class_packets("1:2")
        network.arrived([(4000, 9)] * 5, patient=True)
        marked = network.class_packets("1:2") - unmarked
    assert found.answer is (Answer.YES if (unmarked, marked) == (0, 5) else Answer.IGNORED)
