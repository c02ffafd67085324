"""Classes ready made: what a shape says that has `preset = "home"`.

`home` is for the uplink of a home with a server. On a slow link a packet of full size takes long (12 ms at
1024 kbit/s), so what people wait for goes before what they do not: by `prio`, and with a rate that it hardly ever needs
to borrow beyond. All may have the whole link when others leave it. Bursts are of one packet, or of 4 ms, for whatever
goes at once is what the others wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markway.config.problems import WrongValue
from markway.config.rates import SLOWEST, parse_bandwidth
from markway.config.schema_disciplines import DisciplineTable
from markway.config.schema_shape import ClassTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.config.schema_shape import ShapeTable

_PACKET = 1600
"""More than the largest packet of Ethernet, with room for its headers."""
_BURSTS = 250
"""A second has so many: as often as a kernel's clock may tick."""
_SLOW = 4_000_000
"""Where codel's 5 ms are less than a few packets take (RFC 8289, 4.4)."""
_USUAL_RATE = 1_000_000

_SMALL = "0-128"
"""An acknowledgement with all its options, a key typed over ssh, a question of DNS."""
_HEAVY = "20m"

_HOME: Mapping[str, tuple[int, dict[str, Any]]] = {
    "interactive": (
        40,
        {
            "prio": 0,
            "match": [
                {"protocol": ["tcp", "udp"], "length": _SMALL},
                {"protocol": ["icmp", "icmpv6"], "length": "0-576"},
                {"port": 53},
                {"protocol": "udp", "port": 123},
                {"dscp": ["ef", "va", "cs5", "cs6", "cs7"]},
                {"protocol": "tcp", "port": 22, "dscp": ["af21", 4]},  # OpenSSH's, of sessions with a terminal
            ],
        },
    ),
    "bulk": (
        5,
        {
            "prio": 7,
            "match": [{"port": ["6881-6999", 51413]}, {"dscp": ["le", "cs1"]}, {"bytes-over": _HEAVY}],
        },
    ),
    "ssh": (10, {"prio": 1, "match": [{"protocol": "tcp", "port": 22}]}),
    "web": (30, {"prio": 2, "match": [{"port": [80, 443]}]}),
    "rest": (15, {"prio": 3}),
}
"""Per cent of the rate, and what else the class says. The order is that of the matches."""


def with_preset(table: ShapeTable, rate: int) -> ShapeTable:
    """The table with what its preset says where it says nothing itself: classes, the default, the burst and the leaf.

    Classes of the file come before those of the preset, and what they are sure of is taken from these; of a class that
    both have, what the file says goes.
    """
    rate = rate or _USUAL_RATE
    burst = max(_PACKET, rate // 8 // _BURSTS)
    given = {name: _rate_of(one) for name, one in table.classes.items() if not one.parent}
    left = max(rate - sum(given.values()), 0)
    whole = sum(percent for name, (percent, _) in _HOME.items() if not given.get(name))
    made = {
        name: ClassTable.model_validate(
            {"rate": max(left * percent // whole, SLOWEST), "ceil": rate, "burst": burst, "cburst": burst, **more}
        )
        for name, (percent, more) in _HOME.items()
    }
    for name, one in table.classes.items():
        if name in made:
            made[name] = made[name].model_copy(update={key: getattr(one, key) for key in one.model_fields_set})
    usual: dict[str, Any] = {"default": "rest", "burst": burst} | ({"leaf": _slow_leaf(rate)} if rate < _SLOW else {})
    said = {key: value for key, value in usual.items() if key not in table.model_fields_set}
    own = {name: one for name, one in table.classes.items() if name not in made}
    return table.model_copy(update={**said, "classes": own | made})


def _rate_of(table: ClassTable) -> int:
    try:
        return 0 if table.rate is None else parse_bandwidth(str(table.rate))
    except WrongValue:  # reported where the class is built
        return 0


def _slow_leaf(rate: int) -> DisciplineTable:
    """fq_codel for less than 4 Mbit/s: time for a packet and a half, and small packets before large ones."""
    target = 1500 * _PACKET * 8 // rate
    options = {"limit": 1000, "target": f"{target}ms", "interval": f"{100 + target}ms", "quantum": 300}
    return DisciplineTable.model_validate({"kind": "fq_codel"} | options)
