"""Elements with a timeout in sets of our table: who is banned, and for how much longer.

Layouts: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from markway.kernel import prefix_sets
from markway.kernel.netlink import CREATE, Message, NetlinkError, attribute, attributes, each, nested, text
from markway.kernel.table import INET, NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.kernel.netlink import Netlink

_TABLES = 10 << 8
_NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT, _GET_SET = (_TABLES | number for number in (12, 13, 14, 10))
_GET_TABLE = _TABLES | 1
_EXCLUSIVE = 0x200
_KEY, _TIMEOUT, _EXPIRATION = 1, 4, 5
_TABLE_HANDLE, _SET_HANDLE = 4, 16
_LONGEST = 100 * 365 * 86400.0
"""Seconds: the kernel counts nanoseconds in 64 bits."""
_AT_ONCE = 500
"""Elements to a message: an attribute holds 64 KiB at most."""


def ban(netlink: Netlink, name: str, key: bytes, seconds: float) -> None:
    """Put a source into a set for so long from now on, whether it is there or not.

    Raises:
        NetlinkError: the kernel refused: there is no such set (ENOENT), or it is full (ENFILE).
    """
    added = _message(_NEW_ELEMENT, CREATE | _EXCLUSIVE, name, _timed(key, seconds))
    try:
        netlink.transaction([added])
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        netlink.transaction([_message(_DELETE_ELEMENT, 0, name, _bare(key)), added])


def ban_all(netlink: Netlink, name: str, wanted: Mapping[bytes, float]) -> None:
    """Put many sources into a set, in one transaction; none of them is there: newer kernels give these another time.

    Raises:
        NetlinkError: the kernel refused, as when the set is full; nothing was changed.
    """
    elements = [_timed(key, seconds) for key, seconds in wanted.items()]
    chunks = range(0, len(elements), _AT_ONCE)
    if elements:
        netlink.transaction([_message(_NEW_ELEMENT, CREATE, name, *elements[at : at + _AT_ONCE]) for at in chunks])


def unban(netlink: Netlink, name: str, key: bytes) -> bool:
    """Take a source out of a set; whether it was there.

    Raises:
        NetlinkError: the kernel refused.
    """
    try:
        netlink.transaction([_message(_DELETE_ELEMENT, 0, name, _bare(key))])
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def left(netlink: Netlink, name: str, key: bytes) -> float | None:
    """The seconds for which a source is banned yet; None if it is not.

    Raises:
        NetlinkError: the kernel refused.
    """
    try:
        found = netlink.get(_GET_ELEMENT, INET, text(1, NAME) + text(2, name) + nested(3, _bare(key)))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return next((seconds for _, seconds in _elements(found)), None)


def banned(netlink: Netlink, name: str) -> dict[bytes, float]:
    """Everybody in a set, with the seconds for which they are banned yet.

    Raises:
        NetlinkError: the kernel refused; there is no such set (ENOENT).
    """
    request = text(1, NAME) + text(2, name)
    return {key: seconds for data in netlink.dump(_GET_ELEMENT, INET, request) for key, seconds in _elements(data)}


def count(netlink: Netlink, name: str) -> int:
    """How many are in a set; 0 if there is no such set. One whose time is up may be among them for a second.

    Raises:
        NetlinkError: the kernel refused.
    """
    try:
        told = prefix_sets.count(netlink, name)
        if told is not None:
            return told
        dump = netlink.dump(_GET_ELEMENT, INET, text(1, NAME) + text(2, name))
        return sum(1 for data in dump for _ in each(attributes(data).get(3, b"")))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return 0
        raise


def handle(netlink: Netlink, name: str) -> tuple[int, int] | None:
    """The kernel's numbers of our table and of a set in it, others if it was made anew; None if there is none.

    Raises:
        NetlinkError: the kernel refused.
    """
    try:
        table = netlink.get(_GET_TABLE, INET, text(1, NAME))
        found = netlink.get(_GET_SET, INET, text(1, NAME) + text(2, name))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return int.from_bytes(attributes(table)[_TABLE_HANDLE]), int.from_bytes(attributes(found)[_SET_HANDLE])


def _elements(data: bytes) -> Iterator[tuple[bytes, float]]:
    for _, packed in each(attributes(data).get(3, b"")):
        parts = attributes(packed)
        milliseconds = int.from_bytes(parts.get(_EXPIRATION) or parts.get(_TIMEOUT, b""))
        yield attributes(parts[_KEY])[1], milliseconds / 1000


def _message(kind: int, flags: int, name: str, *elements: bytes) -> Message:
    return Message(kind, flags, INET, text(1, NAME) + text(2, name) + nested(3, *elements))


def _bare(key: bytes) -> bytes:
    return nested(1, nested(_KEY, attribute(1, key)))


def _timed(key: bytes, seconds: float) -> bytes:
    milliseconds = max(1, round(min(seconds, _LONGEST) * 1000))
    return nested(1, nested(_KEY, attribute(1, key)), attribute(_TIMEOUT, milliseconds.to_bytes(8)))
