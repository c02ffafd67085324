"""Just enough netlink: messages, attributes, transactions and dumps.

Layouts: linux/netlink.h and linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Attributes: TypeAlias = dict[int, bytes]

REQUEST, ACK, DUMP, CREATE = 0x1, 0x4, 0x300, 0x400
NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct("!BBH")
_ANSWER = struct.Struct("=i8xI4x")  # an error's code, and of the message that it answers the sequence number
_ERROR, _DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NETFILTER = 12
_NFTABLES = 10
_BUFFER = 1 << 20


class NetlinkError(OSError):
    """The kernel answered a request with an error."""


@dataclass(frozen=True, slots=True)
class Message:
    """One nfnetlink message: `kind` is subsystem and command; `family` an NFPROTO number.

    `resource` is the group or queue that it is about, where there are any.
    """

    kind: int
    flags: int
    family: int
    payload: bytes
    resource: int = 0

    def pack(self, sequence: int) -> bytes:
        """The message as it goes over the socket."""
        length = _HEADER.size + _FAMILY.size + len(self.payload)
        head = _HEADER.pack(length, self.kind, self.flags | REQUEST, sequence, 0)
        resource = _NFTABLES if self.kind <= _BATCH_END else self.resource
        return head + _FAMILY.pack(self.family, 0, resource) + self.payload


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def attributes(data: bytes) -> Attributes:
    """The attributes in `data` by kind; of a repeated kind, the last."""
    return dict(each(data))


def each(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of every attribute in `data`."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:  # noqa: PLR2004
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


def open_socket(room: int | None = None) -> socket.socket:
    """A netlink socket to netfilter, in the network namespace of the thread, with `room` octets for what is unread.

    Raises:
        OSError: the kernel has no nfnetlink, or no permission.
    """
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    if room is not None:
        opened.setsockopt(socket.SOL_SOCKET, 33, room)  # SO_RCVBUFFORCE
    return opened


class Netlink:
    """A netlink socket to netfilter, in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        """Open the socket.

        Raises:
            OSError: the kernel has no nfnetlink, or no permission.
        """
        self._socket = open_socket(1 << 25)
        self._socket.setsockopt(socket.SOL_SOCKET, 32, 1 << 25)  # SO_SNDBUFFORCE
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def transaction(self, messages: Sequence[Message]) -> None:
        """Send nftables messages as one batch, which the kernel takes whole or not at all.

        Raises:
            NetlinkError: the kernel refused; nothing was changed.
        """
        frame = [
            Message(_BATCH_BEGIN, 0, 0, b""),
            *messages,
            Message(_BATCH_END, ACK, 0, b""),
        ]
        first = self._sequence + 1
        packed = b"".join(message.pack(first + index) for index, message in enumerate(frame))
        self._sequence = first + len(frame)
        self._send(packed)
        self._acknowledged()

    def request(self, message: Message) -> None:
        """Send one message and wait until the kernel has done what it says.

        Raises:
            NetlinkError: the kernel refused.
        """
        self._sequence += 1
        self._send(replace(message, flags=message.flags | ACK).pack(self._sequence))
        self._acknowledged()

    def attempt(self, requests: Sequence[Message]) -> list[int]:
        """Have the kernel carry out messages one by one, whatever becomes of the others; the errors there were.

        Raises:
            NetlinkError: they could not be sent.
        """
        if not requests:
            return []
        *others, last = requests
        first = self._sequence + 1
        self._sequence += len(requests)
        acknowledged = (*others, replace(last, flags=last.flags | ACK))
        self._send(b"".join(message.pack(first + index) for index, message in enumerate(acknowledged)))
        errors = []
        while True:
            for kind, payload in messages(self._socket.recv(_BUFFER)):
                if kind == _ERROR:
                    code, sequence = _ANSWER.unpack_from(payload)
                    errors += [-code] if code else []
                    if sequence == self._sequence:
                        return errors

    def fileno(self) -> int:
        """The socket's descriptor, to wait for what comes unasked."""
        return self._socket.fileno()

    def unasked(self) -> Iterator[bytes]:
        """What has come unasked, each as the bytes of its attributes; does not wait.

        Raises:
            NetlinkError: ENOBUFS if some is lost, as more came than there was room for; there may be more to read.
        """
        while True:
            try:
                data = self._socket.recv(_BUFFER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise NetlinkError(error.errno, error.strerror) from error
            for kind, payload in messages(data):
                if kind > _BATCH_END:
                    yield payload[_FAMILY.size :]

    def check(self, messages: Sequence[Message]) -> None:
        """Send nftables messages as a batch without an end, which the kernel tries and then takes back.

        Raises:
            NetlinkError: the kernel would refuse it.
        """
        *others, last = messages
        frame = [Message(_BATCH_BEGIN, 0, 0, b""), *others, replace(last, flags=last.flags | ACK)]
        first = self._sequence + 1
        self._sequence = first + len(frame)
        self._send(b"".join(message.pack(first + index) for index, message in enumerate(frame)))
        self._acknowledged()

    def _send(self, packed: bytes) -> None:
        try:
            self._socket.send(packed)
        except OSError as error:
            raise NetlinkError(error.errno, error.strerror) from error

    def _acknowledged(self) -> None:
        """Wait for all answers: a refused batch has one for each message at fault, and perhaps none for its end."""
        errors: list[bytes] = []
        while not errors or self._pending():
            errors += (payload for kind, payload in messages(self._socket.recv(_BUFFER)) if kind == _ERROR)
        for payload in errors:
            _raise(payload)

    def _pending(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def dump(self, kind: int, family: int, payload: bytes = b"") -> Iterator[bytes]:
        """All objects of a kind; each as the bytes of its attributes. To be read to the end.

        Raises:
            NetlinkError: the kernel refused, as when the table is not there.
        """
        self._sequence += 1
        self._send(Message(kind, DUMP, family, payload).pack(self._sequence))
        while True:
            for answer, data in messages(self._socket.recv(_BUFFER)):
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    _raise(data)
                yield data[_FAMILY.size :]

    def get(self, kind: int, family: int, payload: bytes = b"") -> bytes:
        """One object, as the bytes of its attributes.

        Raises:
            NetlinkError: the kernel refused, as when it is not there.
        """
        self._sequence += 1
        self._send(Message(kind, 0, family, payload).pack(self._sequence))
        for answer, data in messages(self._socket.recv(_BUFFER)):
            if answer == _ERROR:
                _raise(data)
            return data[_FAMILY.size :]
        return b""


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of every message in what one call received."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def _raise(payload: bytes) -> None:
    code = -struct.unpack_from("=i", payload)[0]
    if code:
        raise NetlinkError(code, os.strerror(code))
