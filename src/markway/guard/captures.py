"""Reads captures of packets: the new connections in files of tcpdump and Wireshark.

Formats: pcap (pcap-savefile(5)) and pcapng (draft-ietf-opsawg-pcapng), link types of tcpdump.org/linktypes.html.
"""

# ruff: noqa: PLR2004 - lengths and places of fields are what the formats are made of

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from markway.guard.logs import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

MAGICS = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
"""How a capture begins."""

_LARGEST = 1 << 20  # bytes of a packet or block
_SEEN = 65536
_IP = {0x0800, 0x86DD}
_VLAN = {0x8100, 0x88A8, 0x9100}
_TCP, _FRAGMENT = 6, 44
_OPTIONS = {0, 43, 60}  # RFC 8200, 4.1
_SYN, _ACK = 0x02, 0x10
_SECTION, _INTERFACE, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 3, 6
_HEADERS = {0: 4, 12: 0, 14: 0, 101: 0, 108: 4, 228: 0, 229: 0}  # link types without a protocol of their own: bytes
_ETHERNET, _COOKED, _COOKED2 = 1, 113, 276


class CaptureError(ValueError):
    """It is no capture, or not one that can be read."""


class _Syn(NamedTuple):
    """The first packet of a TCP connection."""

    source: bytes
    destination: bytes
    ports: bytes
    sequence: bytes


def connections(read: Callable[[int], bytes], ports: Container[int] | None = None) -> Iterator[Attempt]:
    """New TCP connections in a capture, by their first packet; the same one sent again is not another.

    A capture that ends in the middle of a packet was cut there, and is read so far.

    Args:
        read: reads that many bytes on, as a file does.
        ports: to which ones; None for all.

    Raises:
        CaptureError: it is no capture.
    """
    seen: OrderedDict[_Syn, None] = OrderedDict()
    for time, link, data in _packets(read):
        syn = _syn(link, data)
        if syn is None or syn in seen:
            continue
        seen[syn] = None
        if len(seen) > _SEEN:
            seen.popitem(last=False)
        if ports is None or int.from_bytes(syn.ports[2:], "big") in ports:
            yield Attempt(time, syn.source, "connection")


def _packets(read: Callable[[int], bytes]) -> Iterator[tuple[float, int, bytes]]:
    """Time, link type and bytes of each packet."""
    magic = read(4)
    if magic not in MAGICS:
        raise CaptureError("it is no capture: it begins like neither pcap nor pcapng")
    if magic == MAGICS[-1]:
        yield from _blocks(read)
        return
    order = ">" if magic[0] == MAGICS[0][0] else "<"
    fraction = 1e-9 if magic in MAGICS[2:4] else 1e-6
    header = read(20)
    if len(header) < 20:
        return
    link = int(struct.unpack(order + "16xI", header)[0]) & 0xFFFF
    while len(record := read(16)) == 16:
        seconds, parts, length, _ = struct.unpack(order + "4I", record)
        if length > _LARGEST:
            raise CaptureError(f"the capture is broken: it has a packet of {length} bytes")
        data = read(length)
        if len(data) < length:
            return
        yield seconds + parts * fraction, link, data


def _blocks(read: Callable[[int], bytes]) -> Iterator[tuple[float, int, bytes]]:
    """The same of pcapng, whose first four bytes were read."""
    order = _byte_order(read)
    interfaces: list[tuple[int, float]] = []
    while len(head := read(8)) == 8:
        kind, length = struct.unpack(order + "II", head)
        if kind == _SECTION:
            order, interfaces = _byte_order(read, head[4:]), []
            continue
        if length % 4 or not 12 <= length <= _LARGEST:
            raise CaptureError(f"the capture is broken: it has a block of {length} bytes")
        body = read(length - 8)
        if len(body) < length - 8:
            return
        if kind == _INTERFACE and length >= 20:
            interfaces.append((struct.unpack_from(order + "H", body)[0], _resolution(body[8:-4], order)))
        elif kind == _PACKET and length >= 32:
            number, high, low, captured = struct.unpack_from(order + "4I", body)
            if number < len(interfaces):
                link, unit = interfaces[number]
                yield (high << 32 | low) * unit, link, body[20 : 20 + captured]


def _byte_order(read: Callable[[int], bytes], length: bytes | None = None) -> str:
    """Read a section's header on from its length."""
    length = length or read(4)
    magic = read(4)
    order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(magic)
    if order is None or len(length) < 4:
        raise CaptureError("the capture is broken: a section has no byte order")
    size = int(struct.unpack(order + "I", length)[0])
    if not 28 <= size <= _LARGEST:
        raise CaptureError(f"the capture is broken: it has a block of {size} bytes")
    read(size - 12)
    return order


def _resolution(options: bytes, order: str) -> float:
    """Seconds of an interface's unit of time, its option if_tsresol."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, at)
        if code == 9 and length >= 1 and at + 4 < len(options):
            value = options[at + 4]
            return float((2 if value & 0x80 else 10) ** -(value & 0x7F))
        at += 4 + length + -length % 4
    return 1e-6


def _syn(link: int, data: bytes) -> _Syn | None:
    start = _network(link, data)
    if start is None or start >= len(data):
        return None
    if data[start] >> 4 == 4:
        header = data[start : start + 20]
        if len(header) < 20 or header[9] != _TCP or int.from_bytes(header[6:8], "big") & 0x1FFF:
            return None
        return _tcp(data, start + (header[0] & 15) * 4, header[12:16], header[16:20])
    if data[start] >> 4 == 6:
        at = _past_options(data, start)
        return None if at is None else _tcp(data, at, data[start + 8 : start + 24], data[start + 24 : start + 40])
    return None


def _network(link: int, data: bytes) -> int | None:
    """Where the IP header begins; None if the packet is of another protocol."""
    if link in _HEADERS:
        return _HEADERS[link]
    if link == _COOKED:
        return 16 if int.from_bytes(data[14:16], "big") in _IP else None
    if link == _COOKED2:
        return 20 if int.from_bytes(data[:2], "big") in _IP else None
    if link != _ETHERNET:
        raise CaptureError(f"captures of link type {link} cannot be read")
    at = 12
    while int.from_bytes(data[at : at + 2], "big") in _VLAN:
        at += 4
    return at + 2 if int.from_bytes(data[at : at + 2], "big") in _IP else None


def _past_options(data: bytes, start: int) -> int | None:
    """Where the TCP header of an IPv6 packet begins; None if it has none, or not its beginning."""
    if len(data) < start + 40:
        return None
    kind, at = data[start + 6], start + 40
    while kind != _TCP:
        if at + 8 > len(data) or kind not in {*_OPTIONS, _FRAGMENT}:
            return None
        if kind == _FRAGMENT and int.from_bytes(data[at + 2 : at + 4], "big") >> 3:
            return None
        kind, at = data[at], at + (8 if kind == _FRAGMENT else 8 * (data[at + 1] + 1))
    return at


def _tcp(data: bytes, at: int, source: bytes, destination: bytes) -> _Syn | None:
    header = data[at : at + 14]
    if len(header) < 14 or header[13] & (_SYN | _ACK) != _SYN:
        return None
    return _Syn(source, destination, header[:4], header[4:8])
