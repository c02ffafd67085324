"""Packets that the rules of this network namespace log to a group (NFLOG): only their marks.

Layout: linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import struct
from errno import ENOBUFS
from typing import TYPE_CHECKING, Self

from markway.kernel.netlink import Message, Netlink, NetlinkError, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIG = 4 << 8 | 1
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5
_BIND = b"\1"
_META = struct.pack("!IBx", 0, 1)  # none of the packet's own bytes
_AT_ONCE = struct.pack("!I", 1)  # else messages are kept back for a second, to come together
_MARK = 2


class Log:
    """The reader of one group. There is one at a time, for as long as its socket is open."""

    def __init__(self, group: int) -> None:
        """Begin to listen, in the network namespace of the thread.

        Raises:
            NetlinkError: EPERM if another listens to the group already, or without CAP_NET_ADMIN.
        """
        self.lost = 0
        """How often messages were lost, as they were not read in time."""
        self._netlink = Netlink()
        wanted = attribute(_COMMAND, _BIND) + attribute(_MODE, _META) + attribute(_THRESHOLD, _AT_ONCE)
        try:
            self._netlink.request(Message(_CONFIG, 0, 0, wanted, resource=group))
        except NetlinkError:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening."""
        self._netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor that is readable when a packet was logged."""
        return self._netlink.fileno()

    def marks(self) -> Iterator[int]:
        """The marks of the packets logged since the last call, all 32 bits; does not wait."""
        while True:
            try:
                for message in self._netlink.unasked():
                    yield int.from_bytes(attributes(message).get(_MARK, b""))
            except NetlinkError as error:
                if error.errno != ENOBUFS:
                    raise
                self.lost += 1
            else:
                return
