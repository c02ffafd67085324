"""Many netlink messages in one system call: recvmmsg(2), by ctypes, into buffers that are made once."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)
_WAIT_FOR_ONE = 0x10000  # MSG_WAITFORONE
HEADER = struct.Struct("@PIPNPNi0PI0P")  # struct mmsghdr
VECTOR = struct.Struct("@PN")  # struct iovec


class Receiver:
    """Room for `slots` messages of `size` octets each; message `i` begins at `i * size` of `data`."""

    def __init__(self, opened: socket.socket, slots: int, size: int) -> None:
        self.data = bytearray(slots * size)
        self.size = size
        self._number = opened.fileno()
        self._slots = slots
        self._vectors = ctypes.create_string_buffer(slots * VECTOR.size)
        self._headers = ctypes.create_string_buffer(slots * HEADER.size)
        self._pinned = (ctypes.c_char * len(self.data)).from_buffer(self.data)
        start, vectors = ctypes.addressof(self._pinned), ctypes.addressof(self._vectors)
        for index in range(slots):
            VECTOR.pack_into(self._vectors, index * VECTOR.size, start + index * size, size)
            one = vectors + index * VECTOR.size
            HEADER.pack_into(self._headers, index * HEADER.size, 0, 0, one, 1, 0, 0, 0, 0)

    def receive(self, *, wait: bool = False) -> int:
        """Take what is there; how many messages came.

        Args:
            wait: for a first one, as long as the socket's timeout (SO_RCVTIMEO) says.

        Raises:
            OSError: ENOBUFS where the kernel had more to say than room for it; some of it is lost then.
        """
        flags = _WAIT_FOR_ONE if wait else socket.MSG_DONTWAIT
        came: int = _LIBC.recvmmsg(self._number, self._headers, self._slots, flags, None)
        if came < 0:
            code = ctypes.get_errno()
            if code not in {errno.EAGAIN, errno.EINTR}:
                raise OSError(code, os.strerror(code))
            return 0
        return came
