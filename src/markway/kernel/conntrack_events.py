"""Connections that end, told by the kernel as they do; and all that are open, counted in small steps.

Layouts: linux/netfilter/nfnetlink_conntrack.h, linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from collections import Counter
from typing import TYPE_CHECKING, Self

from markway.kernel.conntrack import is_closed
from markway.kernel.netlink import DUMP, Message, attributes, messages, open_socket
from markway.kernel.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

_UPDATE, _DESTROY = 1 << 1, 1 << 2  # NFNLGRP_CONNTRACK_UPDATE and _DESTROY, as groups to bind
_GET, _DELETE = 1 << 8 | 1, 2
_STATUS, _PROTOCOL, _MARK, _IDENTITY = 3, 4, 8, 12
_SEEN_REPLY = 1 << 1  # IPS_SEEN_REPLY
_CLOSED = 7  # TIME_WAIT, and CLOSE behind it: enum tcp_conntrack
_SLOT, _SLOTS = 1024, 64
_ROOM = 1 << 22
_CHUNK = 1 << 14
_REMEMBERED = 1 << 14
"""Closed connections that are known again, at least; each hears its reset in a moment, if ever."""

_HEAD = struct.Struct("=IH")
_ATTRIBUTE = struct.Struct("=HH")
_WORD = struct.Struct("!I")
_ATTACH_FILTER = 26
_STEP = struct.Struct("=HBBI")  # struct sock_filter

# linux/bpf_common.h: registers A and X, and loads from the message.
_A, _X, _MOVE, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x00, 0x01, 0x07, 0x54, 0x15, 0x35, 0x06
_LOAD, _LOAD_FROM_X, _OCTET, _OCTET_FROM_X = 0x20, 0x40, 0x30, 0x50


class Endings:
    """Connections with one of our marks that end: a TCP connection when it is closed, others when they are forgotten.

    What the kernel tells besides does not even wake this process: a filter on the socket keeps it out.
    """

    def __init__(self, mask: int) -> None:
        """Listen from now on, to connections that have a bit of `mask` in their mark."""
        self._mask = mask
        self._socket = open_socket(_ROOM)
        _attach(self._socket, _ending(mask))
        self._socket.bind((0, _UPDATE | _DESTROY))
        self._receiver = Receiver(self._socket, _SLOTS, _SLOT)
        self._closed: set[int] = set()
        self._closed_before: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def serve(self, ended: Callable[[int], None]) -> int:
        """Tell the marks of the connections that have ended, some dozens at most.

        Returns how many messages there were; -1 if the kernel had no room for all that it had to tell.
        """
        receiver = self._receiver
        data, size, mask = receiver.data, receiver.size, self._mask
        try:
            count = receiver.receive()
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return -1
            raise
        attribute_at, word_at = _ATTRIBUTE.unpack_from, _WORD.unpack_from
        for start in range(0, count * size, size):
            length, kind = _HEAD.unpack_from(data, start)
            at, end, identity = start + 20, start + min(length, size), 0
            while at < end:
                wide, what = attribute_at(data, at)
                if what == _IDENTITY:
                    (identity,) = word_at(data, at + 4)
                elif what == _MARK:
                    if kind & 0xFF == _DELETE or self._first(identity):
                        ended(word_at(data, at + 4)[0] & mask)
                    break
                at += wide + 3 & ~3
        return count

    def _first(self, identity: int) -> bool:
        """Whether this connection is closed for the first time: many are reset once they have said good-bye."""
        if identity in self._closed or identity in self._closed_before:
            return False
        if len(self._closed) >= _REMEMBERED:
            self._closed, self._closed_before = set(), self._closed
        self._closed.add(identity)
        return True


class Census:
    """All open connections, counted by mark over many small steps, so that nobody waits for the whole."""

    def __init__(self, mask: int) -> None:
        """Begin; connections count that have a bit of `mask` in their mark."""
        self._mask = mask
        self._counts: Counter[int] = Counter()
        self._socket = open_socket()
        self._socket.setblocking(False)
        self._socket.send(Message(_GET, DUMP, 0, b"").pack(1))

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def step(self) -> Counter[int] | None:
        """Count some more, in a fraction of a millisecond; what was counted, once it is complete."""
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return None
        for kind, payload in messages(data):
            if kind == 3:  # noqa: PLR2004  (NLMSG_DONE)
                return self._counts
            parts = attributes(payload[4:])
            mark = int.from_bytes(parts.get(_MARK, b"")) & self._mask
            if mark and not is_closed(parts):
                self._counts[mark] += 1
        return None


def _attach(opened: socket.socket, program: bytes) -> None:
    code = ctypes.create_string_buffer(program)
    length = len(program) // _STEP.size
    opened.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", length, ctypes.addressof(code)))


def _ending(mask: int) -> bytes:
    """A filter (classic BPF) for messages of the end of a connection with a mark of ours.

    A TCP connection ends once: when it is closed (an update), or when it is forgotten without having been, or at once
    by a reset in place of an answer (nf_conntrack_tcp_packet in net/netfilter/nf_conntrack_proto_tcp.c). An ancillary
    load finds an attribute by its kind (SKF_AD_NLATTR in net/core/filter.c).
    """
    find = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR: from offset A on, of kind X; its offset, or 0
    inside = find + 4  # SKF_AD_NLATTR_NEST: within the attribute at A
    command = 4 if sys.byteorder == "little" else 5
    closed, open_, tell, ignore = 21, 31, 33, 34
    steps = (
        *((_A, 20), (_X, _MARK), (_LOAD, find), (_EQUAL, 0, ignore, 4)),
        *((_MOVE, 0), (_LOAD_FROM_X, 4), (_AND, mask), (_EQUAL, 0, ignore, 8)),
        *((_A, 20), (_X, _PROTOCOL), (_LOAD, find), (_EQUAL, 0, open_, 12)),
        *((_X, 1), (_LOAD, inside), (_EQUAL, 0, open_, 15)),  # CTA_PROTOINFO_TCP
        *((_X, 1), (_LOAD, inside), (_EQUAL, 0, open_, 18)),  # CTA_PROTOINFO_TCP_STATE
        *((_MOVE, 0), (_OCTET_FROM_X, 4), (_AT_LEAST, _CLOSED, closed, open_)),
        *((_OCTET, command), (_EQUAL, _DELETE, 23, tell)),
        *((_A, 20), (_X, _STATUS), (_LOAD, find), (_EQUAL, 0, ignore, 27)),
        *((_MOVE, 0), (_LOAD_FROM_X, 4), (_AND, _SEEN_REPLY), (_EQUAL, 0, tell, ignore)),
        *((_OCTET, command), (_EQUAL, _DELETE, tell, ignore)),
        *((_RETURN, 0xFFFF_FFFF), (_RETURN, 0)),
    )
    return b"".join(
        _STEP.pack(code, *(to - index - 1 for to in jumps or (index + 1, index + 1)), operand)
        for index, (code, operand, *jumps) in enumerate(steps)
    )
