"""What u32 filters take and what they leave: the examples of the classic guides, and each form of a selector.

Of tc-u32(8) and of the Linux Advanced Routing & Traffic Control HOWTO, 12.1. A near miss differs in one thing.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tests.kernel.packets import ACK, FIN, ICMP, ICMPV6, PSH, RST, SYN, TCP, UDP, Packet

NOP = b"\x01\x01\x01\x01"
"""Options of IPv4 that shift what is behind the header by four bytes."""
six = partial(Packet, source="fd00::1", destination="fd00::2")


class Case(NamedTuple):
    """One filter: its selectors, packets that it takes, packets that it leaves."""

    name: str
    selectors: tuple[str, ...]
    taken: tuple[Packet, ...]
    left: tuple[Packet, ...]
    protocol: str = "ip"


CASES = (
    Case(
        "tos",
        ("ip tos 0x10 0xff",),
        (Packet(tos=0x10), Packet(UDP, tos=0x10)),
        (Packet(), Packet(tos=0x11), Packet(tos=0x08), Packet(tos=0x90)),
    ),
    Case(
        "ttl",
        ("ip ttl 64 0xff",),
        (Packet(ttl=64), Packet(UDP, ttl=64)),
        (Packet(ttl=63), Packet(ttl=65), Packet(ttl=0), Packet(ttl=192), Packet(ttl=63, tos=64)),
    ),
    Case("ttl by its place", ("u8 64 0xff at 8",), (Packet(ttl=64),), (Packet(ttl=63), Packet(ttl=1, tos=64))),
    Case(
        "ack",
        ("ip protocol 6 0xff", "u8 0x10 0xff at nexthdr+13"),
        (Packet(flags=ACK), Packet(flags=ACK, options=NOP), Packet(flags=ACK, options=NOP * 10)),
        (
            Packet(),
            Packet(flags=SYN | ACK),
            Packet(flags=ACK | PSH),
            Packet(UDP, payload=bytes(5) + b"\x10" + bytes(6)),
            Packet(options=NOP, flags=SYN),
        ),
    ),
    Case(
        "ack among others",
        ("ip protocol 6 0xff", "u8 0x10 0x10 at nexthdr+13"),
        (Packet(flags=ACK), Packet(flags=SYN | ACK), Packet(flags=ACK | PSH | FIN)),
        (Packet(), Packet(flags=RST), Packet(flags=0xEF)),
    ),
    Case(
        "small acks",
        ("ip protocol 6 0xff", "u8 0x05 0x0f at 0", "u16 0x0000 0xffc0 at 2", "u8 0x10 0xff at 33"),
        (Packet(flags=ACK), Packet(flags=ACK, payload=bytes(23))),
        (Packet(flags=ACK, payload=bytes(24)), Packet(flags=SYN), Packet(flags=ACK, options=NOP)),
    ),
    Case(
        "destination by its place",
        ("u32 0x0a010000 0xffff0000 at 16",),
        (Packet(destination="10.1.0.0"), Packet(destination="10.1.255.255")),
        (
            Packet(destination="10.2.0.0"),
            Packet(destination="11.1.0.0"),
            Packet(source="10.1.0.1"),
            Packet(options=b"\x0a\x01\0\0"),
        ),
    ),
    Case(
        "destination",
        ("ip dst 10.1.0.0/16",),
        (Packet(destination="10.1.200.3"),),
        (Packet(destination="10.0.255.255"), Packet(destination="10.2.0.0"), Packet(source="10.1.0.1")),
    ),
    Case(
        "source",
        ("ip src 192.168.7.9/32",),
        (Packet(source="192.168.7.9"),),
        (Packet(source="192.168.7.8"), Packet(source="192.168.6.9"), Packet(destination="192.168.7.9")),
    ),
    Case(
        "dns over tcp",
        ("ip protocol 6 0xff", "tcp dst 53 0xffff"),
        (Packet(dport=53), Packet(dport=53, options=NOP)),
        (Packet(UDP, dport=53), Packet(dport=54), Packet(sport=53), Packet(dport=53 + 256)),
    ),
    Case(
        "dns over udp",
        ("ip protocol 17 0xff", "udp dst 53 0xffff"),
        (Packet(UDP, dport=53), Packet(UDP, dport=53, options=NOP)),
        (Packet(dport=53), Packet(UDP, sport=53), Packet(UDP, dport=52)),
    ),
    Case(
        "source port",
        ("ip protocol 6 0xff", "tcp src 80 0xffff"),
        (Packet(sport=80), Packet(sport=80, options=NOP)),
        (Packet(dport=80), Packet(UDP, sport=80), Packet(sport=81)),
    ),
    Case(
        "ports by the ip header",
        ("ip protocol 17 0xff", "ip sport 1024 0xfc00", "ip dport 53 0xffff"),
        (Packet(UDP, sport=1024, dport=53), Packet(UDP, sport=2047, dport=53)),
        (
            Packet(UDP, sport=1023, dport=53),
            Packet(UDP, sport=2048, dport=53),
            Packet(UDP, sport=1024, dport=54),
            Packet(sport=1024, dport=53),
        ),
    ),
    Case(
        "precedence",
        ("ip precedence 0xa0 0xe0",),
        (Packet(tos=0xA0), Packet(tos=0xBC)),
        (Packet(tos=0x80), Packet(tos=0xC0), Packet(tos=0x05)),
    ),
    Case(
        "icmp type",
        ("ip protocol 1 0xff", "ip icmp_type 8 0xff"),
        (Packet(ICMP, kind=(8, 0)), Packet(ICMP, kind=(8, 3))),
        (Packet(ICMP, kind=(0, 0)), Packet(ICMP, kind=(0, 8)), Packet(UDP, sport=0x0800)),
    ),
    Case(
        "icmp type and code",
        ("ip protocol 1 0xff", "icmp type 3 0xff", "icmp code 4 0xff"),
        (Packet(ICMP, kind=(3, 4)), Packet(ICMP, kind=(3, 4), options=NOP)),
        (Packet(ICMP, kind=(3, 3)), Packet(ICMP, kind=(4, 3)), Packet(sport=0x0304)),
    ),
    Case(
        "u16",
        ("u16 0x0a01 0xff01 at 16",),
        (Packet(destination="10.1.7.7"), Packet(destination="10.255.7.7")),
        (Packet(destination="10.2.7.7"), Packet(destination="11.1.7.7")),
    ),
    Case(
        "header length",
        ("u8 0x46 0xff at 0",),
        (Packet(options=NOP),),
        (Packet(), Packet(options=NOP * 2)),
    ),
    Case(
        "u32 behind the header",
        ("ip protocol 17 0xff", "u32 0xfa000035 0xff00ffff at nexthdr+0"),
        (Packet(UDP, sport=0xFA11, dport=53), Packet(UDP, sport=0xFA00, dport=53, options=NOP)),
        (Packet(UDP, sport=0xFB11, dport=53), Packet(UDP, sport=0xFA11, dport=52), Packet(sport=0xFA11, dport=53)),
    ),
    Case(
        "several",
        ("ip src 10.0.0.0/8", "ip dst 10.9.0.0/16", "ip tos 0x08 0x1e", "ip protocol 6 0xff", "tcp dst 20 0xffff"),
        (Packet(destination="10.9.1.1", tos=0x08, dport=20), Packet(destination="10.9.1.1", tos=0xC9, dport=20)),
        (
            Packet(source="11.0.0.1", destination="10.9.1.1", tos=0x08, dport=20),
            Packet(destination="10.8.1.1", tos=0x08, dport=20),
            Packet(destination="10.9.1.1", tos=0x10, dport=20),
            Packet(UDP, destination="10.9.1.1", tos=0x08, dport=20),
            Packet(destination="10.9.1.1", tos=0x08, dport=21),
        ),
    ),
    Case(
        "all of ip",
        ("u32 0 0",),
        (Packet(), Packet(UDP), Packet(ICMP)),
        (
            six(
                TCP,
            ),
            six(
                UDP,
            ),
        ),
    ),
    Case(
        "ip6 destination",
        ("ip6 dst fd00:1::/32",),
        (Packet(source="fd00::1", destination="fd00:1::7"), Packet(UDP, source="::1", destination="fd00:1:2::")),
        (six(), Packet(source="fd00:1::7", destination="fd00::1"), Packet()),
        "ipv6",
    ),
    Case(
        "ip6 source",
        ("ip6 src fd00::1/128",),
        (six(),),
        (Packet(source="fd00::3", destination="fd00::1"), Packet(source="fd00::1:1", destination="fd00::1")),
        "ipv6",
    ),
    Case(
        "ip6 protocol and port",
        ("ip6 protocol 6 0xff", "ip6 dport 22 0xffff"),
        (
            six(
                dport=22,
            ),
        ),
        (
            six(
                UDP,
                dport=22,
            ),
            six(
                sport=22,
            ),
            Packet(dport=22),
        ),
        "ipv6",
    ),
    Case(
        "ip6 traffic class",
        ("ip6 priority 0xb8 0xff",),
        (
            six(
                tos=0xB8,
            ),
        ),
        (
            six(
                tos=0xBA,
            ),
            six(
                tos=0x8B,
            ),
            Packet(tos=0xB8),
        ),
        "ipv6",
    ),
    Case(
        "ip6 icmp",
        ("ip6 protocol 58 0xff", "ip6 icmp_type 128 0xff"),
        (six(ICMPV6, kind=(128, 0)),),
        (
            six(ICMPV6, kind=(129, 0)),
            six(
                UDP,
                sport=0x8000,
            ),
        ),
        "ipv6",
    ),
)
