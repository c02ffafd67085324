"""The connection table of this network namespace, by ctnetlink.

Layout: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING

from markway.config.model import Protocol
from markway.kernel.netlink import Message, attribute, attributes, nested

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from markway.kernel.netlink import Attributes, Netlink

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_TUPLE, _PROTOCOL, _MARK, _ID, _ZONE, _MARK_MASK = 1, 4, 8, 12, 18, 21
_IP, _IP4_SOURCE, _IP_PROTOCOL, _NUMBER = 1, 1, 2, 1
_TCP, _STATE = 1, 1
_INET, _INET6 = 2, 10
_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17}
_AT_ONCE = 1000
_SYN_SENT = 1
_CLOSED = {7, 8}  # TIME_WAIT and CLOSE


def connections_by_mark(netlink: Netlink, mask: int, marks: Collection[int] | None = None) -> Counter[int]:
    """How many open connections carry each mark, of those with any bit of `mask`, or of these `marks` alone.

    Other bits are cut off. A TCP connection that is closed and only waits to be forgotten does not count.
    """
    counts: Counter[int] = Counter()
    if marks is not None and not marks:
        return counts
    for data in netlink.dump(_GET, 0, b"" if marks is None else _alike(mask, marks)):
        parts = attributes(data)
        mark = int.from_bytes(parts.get(_MARK, b"")) & mask
        if mark and (marks is None or mark in marks) and not is_closed(parts):
            counts[mark] += 1
    return counts


def is_closed(parts: Attributes) -> bool:
    """Whether an entry's attributes are those of a TCP connection that only waits to be forgotten."""
    return _state(parts) in _CLOSED


def _state(parts: Attributes) -> int:
    """The state of a TCP connection, 0 for another protocol: enum tcp_conntrack in the kernel."""
    protocol = attributes(parts.get(_PROTOCOL, b""))
    return int.from_bytes(attributes(protocol.get(_TCP, b"")).get(_STATE, b""))


def forget(
    netlink: Netlink,
    mask: int,
    marks: Collection[int],
    protocols: Collection[Protocol],
    *,
    unanswered: bool = False,
) -> int:
    """Remove the connections of some backends from the table; how many.

    A UDP flow is balanced anew with its next packet. Of a TCP connection nothing is left to translate the next packet
    by: the kernel may take it for the first of a new connection (net.netfilter.nf_conntrack_tcp_loose), and whoever
    it is given to resets it; a service with `orphans = "cut"` refuses it itself.

    One dump finds them, and the kernel leaves out of it what has not the bits that all marks share. Each is removed by
    its addresses and its id, so that none is hit that took its place meanwhile (ctnetlink_del_conntrack in
    net/netfilter/nf_conntrack_netlink.c).

    Args:
        netlink: a socket in the namespace of the table.
        mask: the backend field; other bits of a connection's mark may be anything.
        marks: the backends, by mark; 0 is none.
        protocols: which of their connections.
        unanswered: whether TCP connections go too whose SYN was not answered: the client's next SYN chooses anew.

    Raises:
        NetlinkError: the kernel refused.
    """
    wanted = {mark for mark in marks if mark & mask == mark} - {0}
    numbers = {_NUMBERS[protocol] for protocol in protocols}
    if not wanted or not (numbers or unanswered):
        return 0
    found = list(_deletions(netlink, mask, wanted, numbers, unanswered=unanswered))
    parts = (found[at : at + _AT_ONCE] for at in range(0, len(found), _AT_ONCE))
    return len(found) - sum(len(netlink.attempt(part)) for part in parts)


def _deletions(
    netlink: Netlink, mask: int, marks: set[int], numbers: set[int], *, unanswered: bool
) -> Iterator[Message]:
    """A request for each connection of these marks and IP protocols."""
    for data in netlink.dump(_GET, 0, _alike(mask, marks)):
        parts = attributes(data)
        ends = attributes(parts[_TUPLE])
        known = attributes(ends[_IP_PROTOCOL])[_NUMBER][0] in numbers or (unanswered and _state(parts) == _SYN_SENT)
        if known and int.from_bytes(parts.get(_MARK, b"")) & mask in marks:
            family = _INET if _IP4_SOURCE in attributes(ends[_IP]) else _INET6
            names = ((kind, parts[kind]) for kind in (_TUPLE, _ID, _ZONE) if kind in parts)
            yield Message(_DELETE, 0, family, b"".join(_again(kind, value) for kind, value in names))


def _alike(mask: int, marks: Collection[int]) -> bytes:
    """Has the kernel leave out of a dump what has not the bits that all these marks share."""
    alike = mask & ~reduce(or_, marks) | reduce(and_, marks)
    return attribute(_MARK, _word(reduce(and_, marks))) + attribute(_MARK_MASK, _word(alike))


def _again(kind: int, value: bytes) -> bytes:
    return nested(kind, value) if kind == _TUPLE else attribute(kind, value)


def _word(number: int) -> bytes:
    return number.to_bytes(4)
