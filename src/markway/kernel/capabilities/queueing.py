"""Probes of traffic control: qdiscs, classifiers and actions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from markway.kernel.capabilities.feature import Feature
from markway.kernel.capabilities.network import RIGHT

if TYPE_CHECKING:
    from markway.kernel.capabilities.network import Network

_MARKED, _PLAIN = 9, 10
"""Ports: packets to the first are to be classified, to the second not."""

_FAST = "rate 10mbit"
_ALL = "u32 match u32 0 0"


def _classes(network: Network, *filters: str) -> None:
    """Classes 1:2 and 1:3 on the way out; what no filter takes goes to 1:3."""
    network.tc(
        "qdisc add dev right root handle 1: htb default 3",
        f"class add dev right parent 1: classid 1:2 htb {_FAST}",
        f"class add dev right parent 1: classid 1:3 htb {_FAST}",
        *(f"filter add dev right parent 1: protocol ip prio 1 {one}" for one in filters),
    )


def _split(network: Network) -> bool:
    """Whether of two packets to each port exactly those to the first go to class 1:2."""
    packets = [(4000, _MARKED), (4000, _MARKED), (4000, _PLAIN), (4000, _PLAIN)]
    arrived = network.arrived(packets, patient=True)
    return len(arrived) == len(packets) and network.class_packets("1:2") == 2  # noqa: PLR2004


def _shapes(qdisc: str, network: Network) -> bool:
    """Whether a rate holds back all but the first of many packets."""
    network.tc(f"qdisc add dev right root {qdisc}")
    return len(network.arrived([(4000, 9)] * 100)) < 50  # noqa: PLR2004


def _forwards(qdisc: str, network: Network) -> bool:
    """Whether packets pass, counted by this qdisc."""
    network.tc(f"qdisc add dev right root {qdisc}")
    before = network.qdisc_packets()
    return len(network.arrived([(4000, 9)] * 3, patient=True)) == 3 and network.qdisc_packets() >= before + 3  # noqa: PLR2004


def _htb(network: Network) -> bool:
    network.tc(
        "qdisc add dev right root handle 1: htb default 2",
        "class add dev right parent 1: classid 1:2 htb rate 8kbit burst 1600 cburst 1600",
    )
    return 0 < len(network.arrived([(4000, 9)] * 100)) < 50 and network.class_packets("1:2") > 0  # noqa: PLR2004


def _prio(network: Network) -> bool:
    network.tc("qdisc add dev right root handle 1: prio bands 3 priomap 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2")
    return network.passes() and network.class_packets("1:3") >= 1


def _netem(network: Network) -> bool:
    passed = network.passes()
    network.tc("qdisc add dev right root netem loss 100%")
    return passed and network.stops()


def _priority(network: Network) -> bool:
    _classes(network)
    network.chain("forward", f"udp dport {_MARKED} meta priority set 1:2")
    return _split(network)


def _classified(filters: str, network: Network) -> bool:
    _classes(network, filters)
    return _split(network)


def _by_mark(filters: str, network: Network) -> bool:
    network.chain("forward", f"udp dport {_MARKED} meta mark set 0x10")
    return _classified(filters, network)


def _by_route(network: Network) -> bool:
    _classes(network, "route to 5 classid 1:2")
    network.chain("prerouting", f"udp dport {_MARKED} meta mark set 5", priority="mangle")
    network.ip("rule add fwmark 5 lookup 105", f"route add {RIGHT}/32 dev right realm 5 table 105")
    return _split(network)


def _matchall(network: Network) -> bool:
    _classes(network, "matchall classid 1:2")
    return network.passes() and network.class_packets("1:2") == 1


# Load the destination port behind headers of 14, 20 and 2 bytes; take the packet if it is ours.
_BYTECODE = f"4,40 0 0 36,21 0 1 {_MARKED},6 0 0 4294967295,6 0 0 0"


def _gact(network: Network) -> bool:
    network.tc(
        "qdisc add dev left ingress",
        f"filter add dev left parent ffff: protocol ip prio 1 u32 match ip dport {_MARKED} 0xffff action drop",
    )
    return network.stops(_MARKED) and network.passes(_PLAIN)


def _police(network: Network) -> bool:
    network.tc(
        "qdisc add dev left ingress",
        f"filter add dev left parent ffff: protocol ip prio 1 {_ALL} police rate 8kbit burst 1600 drop flowid :1",
    )
    return 0 < len(network.arrived([(4000, 9)] * 100)) < 90  # noqa: PLR2004


def _ifb(network: Network) -> bool:
    network.ip("link add copy type ifb", "link set copy up")
    network.tc(
        "qdisc add dev left ingress",
        f"filter add dev left parent ffff: protocol ip prio 1 {_ALL} action mirred egress redirect dev copy",
    )
    return network.passes() and network.device_packets("copy") >= 1


def _connmark(network: Network) -> bool:
    network.tc(
        "qdisc add dev left ingress",
        f"filter add dev left parent ffff: protocol ip prio 1 {_ALL} action connmark",
    )
    network.chain("forward", "meta mark 7 drop", "ct mark set 7")
    return network.arrived([(4000, 9), (4000, 9), (4001, 9)]) == [0, 2]


_MARKS = "nft sets the packet's priority, which htb reads as its class"
_ADDRESSES = "u32 on addresses and ports"

FEATURES = (
    Feature(
        "sch_htb", "tc htb", "a class of 8 kbit/s holds packets back and counts them", "nothing: shaping needs it", _htb
    ),
    Feature(
        "sch_tbf",
        "tc tbf",
        "8 kbit/s hold packets back",
        "htb with one class",
        partial(_shapes, "tbf rate 8kbit burst 1600 latency 50ms"),
    ),
    Feature(
        "sch_cake",
        "tc cake",
        "1 kbit/s holds packets back",
        "htb with fq_codel or sfq below it",
        partial(_shapes, "cake bandwidth 1kbit"),
    ),
    Feature("sch_netem", "tc netem", "a loss of 100 % stops a packet", "nothing: only tests want it", _netem),
    Feature(
        "sch_sfq",
        "tc sfq",
        "packets pass, and it counts them",
        "fq_codel, else pfifo",
        partial(_forwards, "sfq perturb 10"),
    ),
    Feature(
        "sch_fq_codel",
        "tc fq_codel",
        "packets pass, and it counts them",
        "sfq, else pfifo",
        partial(_forwards, "fq_codel"),
    ),
    Feature("sch_fq", "tc fq", "packets pass, and it counts them", "fq_codel, else pfifo", partial(_forwards, "fq")),
    Feature(
        "sch_prio", "tc prio", "a packet leaves by the band of its priority", "htb classes of different prio", _prio
    ),
    Feature(
        "priority_class",
        "nft priority to htb class",
        "packets with the priority 1:2 leave by class 1:2",
        "tc fw, else u32 on addresses",
        _priority,
    ),
    Feature(
        "cls_u32",
        "tc u32",
        "packets to one port leave by their class",
        _MARKS,
        partial(_classified, f"u32 match ip dport {_MARKED} 0xffff flowid 1:2"),
    ),
    Feature(
        "cls_u32_mark",
        "tc u32 match mark",
        "marked packets leave by their class, and no others",
        _MARKS,
        partial(_by_mark, "u32 match mark 0x10 0xff flowid 1:2"),
    ),
    Feature(
        "cls_fw",
        "tc fw",
        "marked packets leave by their class, and no others",
        _MARKS,
        partial(_by_mark, "handle 0x10 fw flowid 1:2"),
    ),
    Feature("cls_route", "tc route", "packets of a realm leave by their class", _MARKS, _by_route),
    Feature(
        "cls_flower",
        "tc flower",
        "packets to one port leave by their class",
        _ADDRESSES,
        partial(_classified, f"flower ip_proto udp dst_port {_MARKED} classid 1:2"),
    ),
    Feature("cls_matchall", "tc matchall", "every packet leaves by its class", "u32 match u32 0 0", _matchall),
    Feature(
        "cls_bpf",
        "tc bpf (classic)",
        "packets to one port leave by their class",
        _ADDRESSES,
        partial(_classified, f"bpf bytecode '{_BYTECODE}' flowid 1:2"),
    ),
    Feature(
        "act_gact",
        "tc drop on arrival (gact)",
        "packets to one port are dropped on arrival",
        "nft ingress of a device",
        _gact,
    ),
    Feature("act_police", "tc police", "8 kbit/s drop most of many packets on arrival", "nft limit", _police),
    Feature(
        "ifb",
        "tc ingress, mirred and ifb",
        "a packet on arrival goes through the other device",
        "shaping downloads on the LAN side's way out",
        _ifb,
    ),
    Feature(
        "act_connmark",
        "tc connmark",
        "on arrival a packet gets its connection's mark",
        "shaping downloads on the LAN side's way out",
        _connmark,
    ),
)
