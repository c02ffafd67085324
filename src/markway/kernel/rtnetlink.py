"""What rtnetlink(7) tells of devices, queueing disciplines, classes, filters, routes and rules.

Layouts: linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from markway.kernel.netlink import DUMP, REQUEST, NetlinkError, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = struct.Struct("=IHHII")
_CODE = struct.Struct("=i")
_ERROR, _DONE = 2, 3
_ECHO = 8
_BUFFER = 1 << 18
_SOL_NETLINK, _STRICT = 270, 12
_GROUPS = (1, 4, 7, 8, 11, 19)  # RTNLGRP_LINK, TC, IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE


class Rtnetlink:
    """A netlink socket to the kernel's routing and traffic control, in the network namespace of the thread."""

    def __init__(self) -> None:
        """Open the socket.

        Raises:
            OSError: no permission.
        """
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        with suppress(OSError):  # kernels before 4.20 show all there is
            self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
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
        self._send(kind, DUMP, head)
        while True:
            for answer, data in messages(self._socket.recv(_BUFFER)):
                if answer in {_ERROR, _DONE}:
                    code = -_CODE.unpack_from(data)[0]
                    if code:
                        raise NetlinkError(code, os.strerror(code))
                    return
                yield data

    def get(self, kind: int, head: bytes) -> bytes | None:
        """One object that an RTM_GET message asks for, with its fixed part; None if it is not there.

        Args:
            kind: RTM_GETLINK and so on.
            head: as for `dump`.
        """
        self._send(kind, _ECHO, head)  # before 6.8, an answer about traffic control was meant for all but who asked
        for answer, data in messages(self._socket.recv(_BUFFER)):
            if answer not in {_ERROR, _DONE}:
                return data
        return None

    def _send(self, kind: int, flags: int, head: bytes) -> None:
        self._sequence += 1
        length = _HEADER.size + len(head)
        try:
            self._socket.send(_HEADER.pack(length, kind, REQUEST | flags, self._sequence, 0) + head)
        except OSError as error:
            raise NetlinkError(error.errno, error.strerror) from error


class Stir:
    """Hears whether anybody changes devices, traffic control, routes or rules in the thread's network namespace."""

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            OSError: no permission.
        """
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, sum(1 << group - 1 for group in _GROUPS)))
        self._socket.setblocking(False)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def heard(self) -> bool:
        """Whether anything was changed since this was asked last."""
        found = False
        while True:
            try:
                self._socket.recv(_BUFFER)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than there was room for
                    raise
            found = True
