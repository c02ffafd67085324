"""What a saturated uplink does to DNS and ssh: a slow modem with a long queue behind the director's eth0.

director eth0 ==== bridge ==== modem ---- client1
ports 443, 6881 ... upload     slow and   uploads arrive, DNS is asked,
DNS asks, ssh echoes           queueing   ssh types
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from markway.kernel import netns
from markway.lab.round_trips import RoundTrips, ask_all
from markway.lab.topology import SWITCH, namespace
from markway.lab.transfers import Path, Transfer, single_packets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

MODEM = 1_100_000
"""Bits per second of the modem: some more than what a shape in front of it should be set to."""
QUEUE = 192 * 1024
"""Bytes that the modem lets wait: more than a second, as they do."""
UPLOADS = (443, 6881, 8000, 8001)
"""The ports that the director sends from: web, BitTorrent and others."""

_DNS, _SSH = 53, 22
_BUFFER = 1 << 20  # nobody but the queues shall bound what is under way
_WARM_UP = 4.0  # seconds until the queues are as they will be


@contextmanager
def modem(lab: Lab, rate: int = MODEM, queue: int = QUEUE) -> Iterator[None]:
    """Let what goes to client1 pass a slow device with a long queue, until the block ends."""
    devices = [(host, device) for host in lab.topology.hosts for device in host.devices]
    port = next(number for number, (host, _) in enumerate(devices) if host == lab.clients[0].host)
    switch = namespace(lab.name, SWITCH)
    netns.tc(switch, [f"qdisc add dev port{port} root tbf rate {rate}bit burst 2k limit {queue}"])
    try:
        yield
    finally:
        netns.tc(switch, [f"qdisc del dev port{port} root"])


def loaded_round_trips(lab: Lab, count: int, every: float) -> dict[str, list[float]]:
    """Seconds of round trips through the modem during uploads that fill it, of "dns" and "ssh"."""
    client, director = lab.clients[0], lab.director
    single_packets(lab)
    home, away = director.address(4), client.address(4)
    with modem(lab), ExitStack() as stack:
        trips = {
            "dns": RoundTrips(Path(director.namespace, client.namespace, away, _DNS), udp=True),
            "ssh": RoundTrips(Path(client.namespace, director.namespace, home, _SSH)),
        }
        for port in UPLOADS:
            path = Path(client.namespace, director.namespace, home, port)
            stack.enter_context(Transfer(path, buffer=_BUFFER))
        time.sleep(_WARM_UP)
        return dict(zip(trips, ask_all(list(trips.values()), count, every), strict=True))
