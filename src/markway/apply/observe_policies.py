"""What the kernel counted at policies and at other reasons to drop, beside what the program asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markway.kernel.table import Count, read_counters

if TYPE_CHECKING:
    from markway.kernel.netlink import Netlink
    from markway.program.model import PolicyEntry, Program


class PolicySeen(NamedTuple):
    """One policy, the packets that it decided, and those of sources that had too much; None without a limit."""

    entry: PolicyEntry
    counted: Count
    over: Count | None


def observe_policies(netlink: Netlink, program: Program) -> list[PolicySeen]:
    """Read the counters of all policies of a program that is in force.

    Raises:
        NetlinkError: the kernel refused.
    """
    found = read_counters(netlink) if program.policies else {}
    nothing = Count(0, 0)
    return [
        PolicySeen(entry, found.get(entry.counter, nothing), found.get(entry.over, nothing) if entry.over else None)
        for entry in program.policies
    ]
