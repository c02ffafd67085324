"""What guards have in the kernel: whom they keep out, and what that refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markway.compiler.guarding import banned_set, guard_name
from markway.kernel import bans
from markway.kernel.table import Count, read_counters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markway.config.guarding import Guard
    from markway.kernel.netlink import Netlink


class GuardSeen(NamedTuple):
    """One guard, how many sources it keeps out by the version of their addresses, and the packets that it refused."""

    guard: Guard
    banned: Mapping[int, int]
    refused: Count


def observe_guards(netlink: Netlink, guards: Sequence[Guard]) -> list[GuardSeen]:
    """Look at guards that are in force.

    Raises:
        NetlinkError: the kernel refused.
    """
    counters = read_counters(netlink) if guards else {}
    return [
        GuardSeen(
            guard,
            {version: bans.count(netlink, banned_set(guard.name, version)) for version in (4, 6)},
            counters.get(guard_name(guard.name), Count(0, 0)),
        )
        for guard in guards
    ]
