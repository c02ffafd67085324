"""The connection table of this network namespace, by ctnetlink.

Layout: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from markway.kernel.netlink import attributes

if TYPE_CHECKING:
    from markway.kernel.netlink import Attributes, Netlink

_GET = 1 << 8 | 1
_PROTOCOL, _TCP, _STATE, _MARK = 4, 1, 1, 8
_CLOSED = {7, 8}  # TIME_WAIT and CLOSE


def connections_by_mark(netlink: Netlink, mask: int) -> Counter[int]:
    """How many open connections carry each mark, of those with any bit of `mask`.

    Other bits are cut off. A TCP connection that is closed and only waits to be forgotten does not count.
    """
    counts: Counter[int] = Counter()
    for data in netlink.dump(_GET, 0):
        parts = attributes(data)
        mark = int.from_bytes(parts.get(_MARK, b"")) & mask
        if mark and not is_closed(parts):
            counts[mark] += 1
    return counts


def is_closed(parts: Attributes) -> bool:
    """Whether an entry's attributes are those of a TCP connection that only waits to be forgotten."""
    return _state(parts) in _CLOSED


def _state(parts: Attributes) -> int:
    """The state of a TCP connection, 0 for another protocol: enum tcp_conntrack in the kernel."""
    protocol = attributes(parts.get(_PROTOCOL, b""))
    return int.from_bytes(attributes(protocol.get(_TCP, b"")).get(_STATE, b""))
