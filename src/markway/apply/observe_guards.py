"""What guards have in the kernel: whom they keep out, and what that refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markway.compiler.guarding import banned_set, guard_name, slow_set
from markway.kernel import bans
from markway.kernel.table import Count, read_counters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markway.config.guarding import Guard
    from markway.kernel.netlink import Netlink


class GuardSeen(NamedTuple):
    """One guard, how many sources it bans and slows by the version of their address, and what it refused."""

    guard: Guard
    banned: Mapping[int, int]
    slowed: Mapping[int, int]
    """Without those who are banned."""
    refused: Count


def observe_guards(netlink: Netlink, guards: Sequence[Guard]) -> list[GuardSeen]:
    """Look at guards that are in force.

    Raises:
        NetlinkError: the kernel refused.
    """
    counters = read_counters(netlink) if guards else {}
    return [_seen(netlink, guard, counters.get(guard_name(guard.name), Count(0, 0))) for guard in guards]


def _seen(netlink: Netlink, guard: Guard, refused: Count) -> GuardSeen:
    banned = {version: bans.count(netlink, banned_set(guard.name, version)) for version in (4, 6)}
    slowed = {
        version: max(0, bans.count(netlink, slow_set(guard.name, version)) - number) if guard.slow else 0
        for version, number in banned.items()
    }
    return GuardSeen(guard, banned, slowed, refused)
