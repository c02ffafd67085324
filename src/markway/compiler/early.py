"""What is dropped before the kernel makes a connection of it, because its source cannot be where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.names import FAMILIES
from markway.compiler.policies import refusal
from markway.program.nft import Chain, Hook, Match, Rule, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markway.config.firewalling import Zone
    from markway.config.model import SourceRate

SPOOFED = "firewall/spoofed"
"""The chain of what is dropped, and its counter."""

_BEHIND_LISTS = Hook("filter", "prerouting", "-290")
"""Behind the lists (priority raw, -300), for a look-up in them costs less than one in the routes; before connections
are tracked (-200, linux/netfilter_ipv4.h)."""

_UNSPECIFIED = {4: "0.0.0.0", 6: "::"}  # noqa: S104


def early(zones: Sequence[Zone], log: SourceRate | None, *behind: Rule) -> Iterator[Chain]:
    """The chains for zones that must not be forged; `behind` is asked of what is left."""
    devices = dict.fromkeys(device for zone in zones if zone.spoofed for device in zone.devices)
    if not (devices or behind):
        return
    asked: tuple[Rule, ...] = ()
    if devices:
        named = ", ".join(f'"{device}"' for device in devices)
        among = Term(f"{{ {named} }}")
        asked = ((Match(Term("iifname"), "", among), Written("jump spoofed")),)
        yield Chain("spoofed", tuple(_spoofed()))
        yield refusal(SPOOFED, log)
    yield Chain("firewall-early", (*asked, *behind), _BEHIND_LISTS)


def _spoofed() -> Iterator[Rule]:
    """Nobody has the unspecified address yet who asks by DHCP, or whether an address is taken (RFC 4861)."""
    for family in FAMILIES:
        yield (
            Match(Term(f"{family.name} saddr"), "", Term(_UNSPECIFIED[family.version])),
            Written("return"),
        )
    yield (Written(f"fib saddr . iif oif missing goto {SPOOFED}"),)
