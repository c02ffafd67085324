"""Dumps of rtnetlink(7): devices, queueing disciplines, classes, filters, routes, rules, as the kernel has them.

Layouts: linux/rtnetlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Self

from markway.kernel.netlink import DUMP, REQUEST, NetlinkError, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = struct.Struct("=IHHII")
_CODE = struct.Struct("=i")
_ERROR, _DONE = 2, 3
_BUFFER = 1 << 18


class Rtnetlink:
    """A netlink socket to the kernel's routing and traffic control, in the network namespace of the thread."""

    def __init__(self) -> None:
        """Open the socket.

        Raises:
            OSError: no permission.
        """
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def dump(self, kind: int, head: bytes) -> Iterator[bytes]:
        """All objects that an RTM_GET message asks for; each with its fixed part before its attributes.

        To be read to the end.

        Args:
            kind: RTM_GETLINK and so on.
            head: the request behind its netlink header: struct ifinfomsg, tcmsg and so on, and attributes if any.

        Raises:
            NetlinkError: the kernel refused.
        """
        self._sequence += 1
        length = _HEADER.size + len(head)
        self._socket.send(_HEADER.pack(length, kind, REQUEST | DUMP, self._sequence, 0) + head)
        while True:
            for answer, data in messages(self._socket.recv(_BUFFER)):
                if answer in {_ERROR, _DONE}:
                    code = -_CODE.unpack_from(data)[0]
                    if code:
                        raise NetlinkError(code, os.strerror(code))
                    return
                yield data
