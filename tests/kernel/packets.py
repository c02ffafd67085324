"""Packets byte by byte, for filters that look at any of them; they leave by a device past routing and netfilter."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterable

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_PROTOCOLS = {4: 0x0800, 6: 0x86DD}  # linux/if_ether.h


@dataclass(frozen=True, slots=True)
class Packet:
    """What a packet says; checksums are left out, for no filter looks at them.

    `tos` is IPv6's traffic class too, `ttl` its hop limit. `kind` is ICMP's type and code. `options` are bytes of IPv4
    options, in fours.
    """

    protocol: int = TCP
    source: str = "10.0.0.1"
    destination: str = "10.0.0.2"
    sport: int = 4000
    dport: int = 9
    tos: int = 0
    ttl: int = 17
    flags: int = SYN
    kind: tuple[int, int] = (8, 0)
    options: bytes = b""
    payload: bytes = b""

    @property
    def version(self) -> int:
        """Of IP."""
        return ip_address(self.source).version

    def __bytes__(self) -> bytes:
        """From the network header on."""
        inner = self._transport() + self.payload
        ends = ip_address(self.source).packed + ip_address(self.destination).packed
        if self.version == 6:
            first = 6 << 28 | self.tos << 20
            return struct.pack("!IHBB", first, len(inner), self.protocol, self.ttl) + ends + inner
        words = 5 + len(self.options) // 4
        total = 4 * words + len(inner)
        head = struct.pack("!BBHHHBBH", 0x40 | words, self.tos, total, 0x1234, 0, self.ttl, self.protocol, 0)
        return head + ends + self.options + inner

    def _transport(self) -> bytes:
        ports = struct.pack("!HH", self.sport, self.dport)
        if self.protocol == TCP:
            return ports + struct.pack("!IIBBHHH", 1, 2, 5 << 4, self.flags, 1000, 0, 0)
        if self.protocol == UDP:
            return ports + struct.pack("!HH", 8 + len(self.payload), 0)
        return struct.pack("!BBHI", *self.kind, 0, 0)


def send(space: str, device: str, packets: Iterable[Packet]) -> None:
    """Queue packets at a device of a namespace."""
    with netns.enter(space):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with opened:
        for packet in packets:
            opened.sendto(bytes(packet), (device, _PROTOCOLS[packet.version], 0, 0, b"\x02\0\0\0\0\x01"))
