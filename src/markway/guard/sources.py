"""Whom an address counts for: its source network, or nobody."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markway.config.guarding import Guard
    from markway.config.model import Network

IPV4_BYTES = 4
IPV6_BYTES = 16
_OCTETS = {str(number).encode(): number for number in range(256)}
_LONGEST_TEXT = 64  # characters; the longest address has 45, and a zone may follow


def packed(text: bytes) -> bytes | None:
    """An address as a log has it, in 4 or 16 bytes; None if it is none.

    A zone (`%eth0`) is left out, and an IPv4 address inside an IPv6 one (RFC 4291, 2.5.5.2) taken out.
    """
    try:  # four numbers, in a fifth of the time of ipaddress's own parser
        one, two, three, four = text.split(b".")
        return bytes((_OCTETS[one], _OCTETS[two], _OCTETS[three], _OCTETS[four]))
    except (KeyError, ValueError):
        return _packed6(text) if b":" in text and len(text) <= _LONGEST_TEXT else None


@lru_cache(maxsize=1 << 12)
def _packed6(text: bytes) -> bytes | None:
    try:
        address = IPv6Address(text.decode("ascii"))
    except ValueError:  # of which UnicodeDecodeError is one
        return None
    return (address.ipv4_mapped or address).packed


class Sources:
    """Makes keys of sources from addresses, for one guard."""

    def __init__(self, guard: Guard) -> None:
        """Prepare masks."""
        self._prefixes = {IPV4_BYTES: guard.prefix, IPV6_BYTES: guard.prefix6}
        self._masks = {size: _mask(size, length) for size, length in self._prefixes.items()}
        self._whole = {size for size, length in self._prefixes.items() if length == size * 8}
        self._allowed: dict[int, list[tuple[int, int]]] = {IPV4_BYTES: [], IPV6_BYTES: []}
        for network in guard.allow:
            size = network.max_prefixlen // 8
            self._allowed[size].append((int(network.netmask), int(network.network_address)))

    def key(self, address: bytes) -> bytes | None:
        """The source network of an address (its first, in as many bytes); None if the guard allows it anything."""
        size = len(address)
        if self._allowed[size]:
            number = int.from_bytes(address, "big")
            if any(number & mask == network for mask, network in self._allowed[size]):
                return None
        return self.first(address)

    def first(self, address: bytes) -> bytes:
        """The first address of its source network, allowed or not."""
        size = len(address)
        if size in self._whole:
            return address
        return (int.from_bytes(address, "big") & self._masks[size]).to_bytes(size, "big")

    def network(self, key: bytes) -> Network:
        """What a key stands for; also one of another prefix, as the kernel has it after a change of the file."""
        whole = (self.first(key), self._prefixes[len(key)])
        return IPv4Network(whole) if len(key) == IPV4_BYTES else IPv6Network(whole)


def _mask(size: int, length: int) -> int:
    bits = size * 8
    return (1 << bits) - (1 << bits - length)
