"""Probes of what marks, uplinks and realms need."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from markway.kernel.capabilities.feature import Feature
from markway.kernel.capabilities.network import RIGHT, udp

if TYPE_CHECKING:
    from markway.kernel.capabilities.network import Network

_MARKED, _PLAIN = 9, 10
"""Ports: packets to the first are to be treated otherwise than those to the second."""

_NOWHERE = ("rule add fwmark 5/0xff lookup 105", "route add blackhole default table 105")


def _rule_mark(network: Network) -> bool:
    network.ip(*_NOWHERE)
    network.chain("prerouting", f"udp dport {_MARKED} meta mark set 5", priority="mangle")
    return network.stops(_MARKED) and network.passes(_PLAIN)


def _route_output(network: Network) -> bool:
    network.ip(*_NOWHERE)
    network.chain("output", f"udp dport {_MARKED} meta mark set 5", kind="route", priority="mangle")
    with network.listening(network.right, {_MARKED, _PLAIN}) as (marked, plain), udp(network.middle) as sender:
        with suppress(OSError):  # the sender is told that its packet has no route
            sender.sendto(b"0", (RIGHT, _MARKED))
        sender.sendto(b"0", (RIGHT, _PLAIN))
        plain.recv(64)  # so the other has had its time
        marked.setblocking(False)
        try:
            marked.recv(64)
        except BlockingIOError:
            return True
    return False


def _realm(network: Network) -> bool:
    network.ip(f"route add {RIGHT}/32 dev right realm 5")
    network.chain("forward", f"udp dport {_MARKED} rt classid 5 drop", f"udp dport {_PLAIN} rt classid 6 drop")
    return network.stops(_MARKED) and network.passes(_PLAIN)


def _ct_bytes(network: Network) -> bool:
    network.chain("forward", "ct bytes > 40 drop")  # each datagram has 29
    return network.arrived([(4000, _PLAIN), (4000, _PLAIN), (4001, _PLAIN)]) == [0, 2]


FEATURES = (
    Feature(
        "rule_mark",
        "routing by mark",
        "marked packets take another table's route",
        "nothing: uplinks need it",
        _rule_mark,
    ),
    Feature(
        "nft_route_output",
        "nft route chain",
        "a packet made here takes another route once it is marked",
        "only forwarded packets change their uplink",
        _route_output,
    ),
    Feature("nft_realm", "nft realm of a route", "packets of a realm are dropped", "tc route", _realm),
    Feature(
        "ct_bytes",
        "bytes of a connection",
        "a flow's second packet is dropped, being beyond its bytes",
        "nothing: bytes-over needs it",
        _ct_bytes,
    ),
)
