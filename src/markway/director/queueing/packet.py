"""The headers of a first packet, from the octets that the queue copies."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

IP, IP6 = socket.AF_INET, socket.AF_INET6
TCP, UDP = 6, 17

_PORTS = struct.Struct("!HH")
_SHORT_IP, _FIXED_IP6 = 20, 40
_FRAGMENT = 44
_EXTENSIONS = {0, 43, _FRAGMENT, 60}
"""Hop-by-hop options, routing, fragment, destination options (RFC 8200)."""


class Ends(NamedTuple):
    """Who speaks to whom; addresses as octets."""

    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


def ends(family: int, data: bytearray, at: int, end: int) -> Ends | None:
    """Both ends of a packet of TCP or UDP in `data[at:end]`; None if it is of neither, or cut off before its ports."""
    if family == IP and end - at >= _SHORT_IP:
        ports, protocol = at + (data[at] & 0xF) * 4, data[at + 9]
        source, destination = bytes(data[at + 12 : at + 16]), bytes(data[at + 16 : at + 20])
    elif family == IP6 and end - at >= _FIXED_IP6:
        ports, protocol = _behind_extensions(data, at + _FIXED_IP6, end, data[at + 6])
        source, destination = bytes(data[at + 8 : at + 24]), bytes(data[at + 24 : at + 40])
    else:
        return None
    if protocol not in {TCP, UDP} or ports + 4 > end:
        return None
    source_port, destination_port = _PORTS.unpack_from(data, ports)
    return Ends(protocol, source, source_port, destination, destination_port)


def _behind_extensions(data: bytearray, at: int, end: int, header: int) -> tuple[int, int]:
    while header in _EXTENSIONS and at + 2 <= end:
        header, length = data[at], 8 if header == _FRAGMENT else 8 + data[at + 1] * 8
        at += length
    return at, header
