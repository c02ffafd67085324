"""The throw-away network that a capability is tried in.

    left 10.99.1.2 -- 10.99.1.1 `left` middle `right` 10.99.2.1 -- 10.99.2.2 right

The middle forwards. What is tried is put there, packets are sent from the left, and what comes out on
the right, or is counted on the way, says whether the kernel does it.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Self

from markway.kernel import netns, nft

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT, RIGHT = "10.99.1.2", "10.99.2.2"
NEAR, FAR = "10.99.1.1", "10.99.2.1"
"""The middle's own addresses."""

_ENOUGH = 3.0  # for what must come, on the slowest kernel
_SHORT = 0.2  # for what must not: veth delivers before the sender's call returns, but for a busy softirq
_numbers = count(1)


class Network:
    """Three namespaces in a row, for one probe."""

    def __init__(self) -> None:
        stem = f"mwprobe-{os.getpid()}-{next(_numbers)}"
        self.left, self.middle, self.right = (f"{stem}-{part}" for part in ("left", "middle", "right"))
        self._all = (self.left, self.middle, self.right)

    def __enter__(self) -> Self:
        netns.create(self._all)
        try:
            self._connect()
        except BaseException:
            netns.delete(self._all)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        netns.delete(self._all)

    def _connect(self) -> None:
        lines = []
        for name, own, peer, there in (("left", NEAR, LEFT, self.left), ("right", FAR, RIGHT, self.right)):
            netns.ip(self.middle, [f"link add {name} type veth peer name middle netns {there}"])
            lines += [f"addr add {own}/24 dev {name}", f"link set {name} up"]
            end = ["link set lo up", f"addr add {peer}/24 dev middle", "link set middle up"]
            netns.ip(there, [*end, f"route add default via {own}"])
        netns.ip(self.middle, ["link set lo up", *lines])
        netns.sysctl(self.middle, {"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0"})

    def nft(self, text: str) -> None:
        """Add to the middle's rules; NftError if the kernel refuses."""
        with netns.enter(self.middle):
            nft.run(text)

    def chain(
        self, hook: str, *rules: str, more: str = "", kind: str = "filter", priority: str = "0", family: str = "ip"
    ) -> None:
        """Rules in a base chain of their own; `more` is what they need beside it in their table."""
        base = f"type {kind} hook {hook} priority {priority};"
        body = "\n".join((base, *rules))
        self.nft(f"table {family} t {{\n{more}\nchain {hook.partition(' ')[0]} {{\n{body}\n}}\n}}")

    def tc(self, *lines: str) -> None:
        """Run tc in the middle; NetnsError if the kernel refuses."""
        netns.tc(self.middle, list(lines))

    def ip(self, *lines: str) -> None:
        """Run ip in the middle; NetnsError if the kernel refuses."""
        netns.ip(self.middle, list(lines))

    def class_packets(self, classid: str) -> int:
        """How many packets left by a class of the device `right`."""
        return self._sent("class", rf"class \S+ {classid} ")

    def qdisc_packets(self) -> int:
        """How many packets left by the root qdisc of the device `right`."""
        return self._sent("qdisc", r"qdisc .* root ")

    def device_packets(self, device: str) -> int:
        """How many packets a device of the middle has sent."""
        shown = netns.run(self.middle, ["ip", "-s", "-j", "link", "show", "dev", device]).stdout
        return int(json.loads(shown)[0]["stats64"]["tx"]["packets"])

    def _sent(self, kind: str, which: str) -> int:
        # Not by `tc -j`: iproute2 6.1 writes no JSON for classes.
        shown = netns.run(self.middle, ["tc", "-s", kind, "show", "dev", "right"]).stdout
        found = re.search(rf"^{which}.*\n *Sent \d+ bytes (\d+) pkt", shown, re.MULTILINE)
        return int(found[1]) if found else 0

    def arrived(self, packets: list[tuple[int, int]], to: str = RIGHT, *, patient: bool = False) -> list[int]:
        """Send datagrams from the left to the right; which of them arrived, by their places in the list.

        Args:
            packets: source and destination port of each.
            to: the address they are sent to.
            patient: whether all are expected, so that there is time to wait for them.
        """
        with self.listening(self.right, {port for _, port in packets}) as listeners:
            for number, (source, port) in enumerate(packets):
                with udp(self.left, source) as sender:
                    sender.sendto(b"%d" % number, (to, port))
            return _collected(listeners, len(packets), _ENOUGH if patient else _SHORT)

    def passes(self, port: int = 9, to: str = RIGHT) -> bool:
        """Whether a datagram to this port arrives."""
        return self.arrived([(4000, port)], to, patient=True) == [0]

    def stops(self, port: int = 9) -> bool:
        """Whether a datagram to this port does not arrive."""
        return self.arrived([(4000, port)]) == []

    @contextmanager
    def listening(self, space: str, ports: set[int]) -> Iterator[list[socket.socket]]:
        """Sockets that wait for datagrams."""
        opened = [udp(space, port) for port in sorted(ports)]
        try:
            yield opened
        finally:
            for one in opened:
                one.close()


def udp(space: str, port: int = 0) -> socket.socket:
    """A datagram socket in a namespace."""
    return _bound(space, socket.SOCK_DGRAM, port)


def tcp(space: str, port: int = 0) -> socket.socket:
    """A stream socket in a namespace; the caller's patience is built in."""
    return _bound(space, socket.SOCK_STREAM, port)


def _bound(space: str, kind: socket.SocketKind, port: int) -> socket.socket:
    with netns.enter(space):
        opened = socket.socket(socket.AF_INET, kind)
    opened.settimeout(_ENOUGH)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("", port))
    return opened


def _collected(listeners: list[socket.socket], wanted: int, seconds: float) -> list[int]:
    found: list[int] = []
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ)
        while len(found) < wanted and (left := deadline - time.monotonic()) > 0:
            for ready, _ in selector.select(left):
                found.append(int(ready.fileobj.recv(64)))  # type: ignore[union-attr]
    return sorted(found)
