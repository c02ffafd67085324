"""Classes ready made."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from markway.config.schema_shape import ClassTable

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKET = 1514
"""The largest packet of Ethernet with its header, as the kernel counts it."""
_PART = Fraction(1, 500)
"""Of a second: what may pass at once."""
_SMALL = "0-128"
_HEAVY = "20m"

DEFAULT = {"home": "rest"}


def _home() -> dict[str, tuple[int, dict[str, Any]]]:
    interactive = [
        {"protocol": "tcp", "length": _SMALL},
        {"protocol": "udp", "length": _SMALL},
        {"port": 53},
        {"port": 123, "protocol": "udp"},
        {"protocol": "icmp", "length": "0-576"},
        {"protocol": "icmpv6", "length": "0-576"},
        {"dscp": ["ef", "va", "cs5", "cs6", "cs7"]},
        {"port": 22, "protocol": "tcp", "dscp": ["af21", "cs2", 4]},
    ]
    bulk = [{"port": ["6881-6999", 51413]}, {"dscp": ["le", "cs1"]}, {"bytes-over": _HEAVY}]
    return {
        "interactive": (40, {"prio": 0, "match": interactive}),
        "bulk": (5, {"prio": 7, "match": bulk}),
        "ssh": (10, {"prio": 1, "match": [{"port": 22, "protocol": "tcp"}]}),
        "web": (30, {"prio": 2, "match": [{"port": [80, 443]}]}),
        "rest": (15, {"prio": 3}),
    }


_PRESETS = {"home": _home}


def preset_classes(name: str, rate: int, own: Mapping[str, ClassTable]) -> dict[str, ClassTable]:
    """The file's own classes, then those of the preset; of one that both have, what the file says goes first."""
    made: dict[str, ClassTable] = {}
    burst = max(_PACKET + 86, int(rate * _PART / 8))
    for key, (percent, more) in _PRESETS[name]().items():
        share = max(rate * percent // 100, 8)
        whole = {
            "rate": share, "ceil": max(rate, 8), "burst": burst, "cburst": burst,
            "quantum": min(max(share // 80, _PACKET), 60_000), **more,
        }  # fmt: skip
        table = ClassTable.model_validate(whole)
        if key in own:
            table = table.model_copy(update={field: getattr(own[key], field) for field in own[key].model_fields_set})
        made[key] = table
    return {key: table for key, table in own.items() if key not in made} | made
