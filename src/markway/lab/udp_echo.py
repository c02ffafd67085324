"""A UDP server for a lab's backends: answers its name to every datagram, from the address it was asked at.

`python -m markway.lab.udp_echo 53=a 5353=other` returns when the ports are open; the server goes on in
the background. Only the standard library's light modules are imported: many of these start at once.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from contextlib import suppress

IP_PKTINFO = 8  # linux/in.h; Python names it from 3.12 on
SO_RCVBUFFORCE = 33  # asm-generic/socket.h: beyond net.core.rmem_max
_PACKET_INFO = {
    socket.AF_INET: (socket.IPPROTO_IP, IP_PKTINFO, IP_PKTINFO),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO),
}
_BUFFER = 4 << 20  # bytes; the usual 208 KiB lose datagrams when a thousand come at once
_BURST = 64  # datagrams of one socket before the next socket's turn


def main(argv: list[str]) -> int:
    """Open PORT=ANSWER for each argument on every address of both families, then serve in the background."""
    answers: dict[int, bytes] = {}
    sockets: dict[int, socket.socket] = {}
    try:
        for argument in argv:
            port, _, answer = argument.partition("=")
            for family in _PACKET_INFO:
                opened = _open(family, int(port))
                sockets[opened.fileno()] = opened
                answers[opened.fileno()] = answer.encode()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{argument}: {error}\n")
        return 1
    _detach()
    _serve(sockets, answers)
    return 0


def _open(family: socket.AddressFamily, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    level, option, _ = _PACKET_INFO[family]
    opened.setsockopt(level, option, 1)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
    opened.bind(("", port))
    opened.setblocking(False)
    return opened


def _detach() -> None:
    if os.fork():
        os._exit(0)  # the ports are open: whoever started us need not wait longer
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)


def _serve(sockets: dict[int, socket.socket], answers: dict[int, bytes]) -> None:
    # Unbounded by intent: a server ends when the lab ends it.
    poll = select.epoll()
    for descriptor in sockets:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            with suppress(OSError):  # nothing left to read, or the asker cannot be reached
                for _ in range(_BURST):
                    _answer(sockets[descriptor], answers[descriptor])


def _answer(asked: socket.socket, answer: bytes) -> None:
    _, ancillary, _, peer = asked.recvmsg(2048, 128)
    level, _, kind = _PACKET_INFO[asked.family]
    reply = [
        (level, kind, _reply_info(data, asked.family))
        for its_level, its_kind, data in ancillary
        if (its_level, its_kind) == (level, kind)
    ]
    asked.sendmsg([answer], reply, 0, peer)


def _reply_info(data: bytes, family: int) -> bytes:
    # struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr }: the source to use is spec_dst, the
    # address asked at is addr. in6_pktinfo { in6_addr addr; int ifindex } has one address for both. No
    # device: the route decides.
    if family == socket.AF_INET:
        return bytes(4) + data[8:12] + bytes(4)
    return data[:16] + bytes(4)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
