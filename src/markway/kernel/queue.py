"""A queue of packets that wait for a verdict of this process (nfnetlink_queue), in batches.

Layouts: linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Self

from markway.kernel.netlink import ACK, REQUEST, NetlinkError, attribute, open_socket
from markway.kernel.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 256
"""Packets that may wait, if nothing else is said; those beyond go on unanswered. A hung worker holds so many up."""

PATIENCE = 0.1
"""Seconds that `receive` waits at most."""

DROP = -1
"""Of a packet that goes nowhere; in the place of a mark."""

BATCH = 64
"""Packets answered together at most."""

_COPIED = 128
"""Octets of a packet that are looked at: the headers of IPv6, a few extensions, ports."""

_SLOT = 512
_PACKET, _VERDICT, _CONFIG = 3 << 8, 3 << 8 | 1, 3 << 8 | 2
_DROPPED, _ACCEPT = 0, 1
_HEAD = struct.Struct("=IHHIIBB")
_ATTRIBUTE = struct.Struct("=HH")
_WORD = struct.Struct("!I")
_ID, _MARK, _PAYLOAD = 1, 3, 10
_TO_VERDICT, _TO_MARK = 24, 36
_ANSWER = struct.Struct("!II")  # a verdict, and the packet's number

_BIND, _COPY_PACKET, _FAIL_OPEN, _GSO = 1, 2, 1, 4
_NO_ENOBUFS = 5


class PacketQueue:
    """Packets of one queue of this network namespace."""

    def __init__(self, number: int, length: int = LENGTH) -> None:
        """Take the queue over; `length` packets may wait.

        Raises:
            NetlinkError: EPERM where another process has it, or this one may not.
        """
        self._socket = open_socket(1 << 22)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, round(PATIENCE * 1e6)))
        self._socket.setsockopt(270, _NO_ENOBUFS, 1)  # SOL_NETLINK: what found no room has gone on already
        self._receiver = Receiver(self._socket, BATCH, _SLOT)
        self._answers = bytearray(_template(number) * BATCH)
        self._sent = [memoryview(self._answers)[: count * (_TO_MARK + 4)] for count in range(BATCH + 1)]
        try:
            self._configure(number, length)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the queue back; the kernel drops the packets that still wait, and their senders send again."""
        self._socket.close()

    def _configure(self, number: int, length: int) -> None:
        """All in one message: until a queue is told to copy packets it drops them."""
        options = (
            (1, struct.pack("!BxH", _BIND, 0)),
            (2, struct.pack("!IB", _COPIED, _COPY_PACKET)),
            (3, _WORD.pack(length)),
            (4, _WORD.pack(_FAIL_OPEN | _GSO)),  # which flags,
            (5, _WORD.pack(_FAIL_OPEN | _GSO)),  # and their values
        )
        body = b"".join(attribute(kind, value) for kind, value in options)
        head = _HEAD.pack(20 + len(body), _CONFIG, REQUEST | ACK, 1, 0, 0, 0) + struct.pack("!H", number)
        self._socket.send(head + body)
        answer = self._socket.recv(4096)
        code = -struct.unpack_from("=i", answer, 16)[0]
        if code:
            raise NetlinkError(code, f"queue {number} is another process's, or this one may not have it")

    def receive(self, *, wait: bool) -> int:
        """Take the packets that wait now, `BATCH` at most; if there are none, `wait` for one for a while (`PATIENCE`).

        Returns how many messages came; `answer` must be next. One call to wait and to take: a first packet costs its
        client the time that this process needs.
        """
        return self._receiver.receive(wait=wait)

    def answer(self, came: int, decide: Callable[[int, int, bytearray, int, int], int]) -> int:
        """Answer the packets that were received; how many there were.

        Args:
            came: what `receive` returned.
            decide: is called with a packet's address family, its mark, and where its octets are: a buffer, the
                offsets of the first and behind the last. It returns the mark that the packet goes on with, or `DROP`.
        """
        receiver = self._receiver
        data, size, answers = receiver.data, receiver.size, self._answers
        attribute_at, word_at = _ATTRIBUTE.unpack_from, _WORD.unpack_from
        put_word, put_answer = _WORD.pack_into, _ANSWER.pack_into
        answered = to = 0
        for start in range(0, came * size, size):
            length, message, _, _, _, family, _ = _HEAD.unpack_from(data, start)
            if message != _PACKET:
                continue  # a verdict came too late
            at, end, mark, identity = start + 20, start + length, 0, 0
            payload = last = end
            while at < end:
                wide, kind = attribute_at(data, at)
                if kind == _PAYLOAD:
                    payload, last = at + 4, at + wide
                    break
                if kind == _MARK:
                    (mark,) = word_at(data, at + 4)
                elif kind == _ID:
                    (identity,) = word_at(data, at + 4)
                at += wide + 3 & ~3
            decided = decide(family, mark, data, payload, last)
            if decided == DROP:
                put_answer(answers, to + _TO_VERDICT, _DROPPED, identity)
            else:
                put_answer(answers, to + _TO_VERDICT, _ACCEPT, identity)
                put_word(answers, to + _TO_MARK, decided)
            to += _TO_MARK + 4
            answered += 1
        if answered:
            self._socket.send(self._sent[answered])
        return answered


def _template(number: int) -> bytes:
    """A verdict whose packet and mark are to be filled in: NFQA_VERDICT_HDR and NFQA_MARK."""
    head = _HEAD.pack(_TO_MARK + 4, _VERDICT, REQUEST, 0, 0, 0, 0) + struct.pack("!H", number)
    return head + attribute(2, struct.pack("!II", _ACCEPT, 0)) + attribute(_MARK, _WORD.pack(0))
