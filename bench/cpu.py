"""The director's own CPU for a new connection and for a later packet, without clients and servers."""

from __future__ import annotations

import gc
import os
import re
import time
from dataclasses import dataclass, field

from bench.generator import ACK, DROP, SYN, Flow, Generator, ipv4, packet
from bench.topology import CLIENT_MAC, SERVER_MAC, Namespace

CHUNK = 2048
NEW_FLOWS = 16 * CHUNK
LATER_FLOWS = CHUNK
LATER_PASSES = 16
ENTRY = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


@dataclass
class Sample:
    """Microseconds of CPU, one figure per round."""

    new: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """A director and the flows that are to be sent through it."""

    director: Namespace
    flows: list[Flow]
    seconds: float = 1.0  # after which a sample of a slow contender ends

    def overhead(self, generator: Generator) -> float:
        """Measure what a packet costs that never reaches the director."""
        with self.director.inside():
            device = self.director.ifindex("clients")
            generator.fill([packet(flow, SYN, CLIENT_MAC) for flow in self.flows[:CHUNK]])
            times = []
            for _ in range(8):
                generator.rewind()
                times.append(generator.send(CHUNK, device, DROP))
        return typical(times) / CHUNK * 1e6

    def new_connections(self, generator: Generator) -> float:
        """Open connections and return microseconds for each."""
        self.director.flush_connections()
        with self.director.inside():
            device = self.director.ifindex("clients")
            generator.fill([packet(flow, SYN, CLIENT_MAC) for flow in self.flows])
            per_packet = self._paced(generator, device)
        self.director.flush_connections()
        return per_packet

    def _paced(self, generator: Generator, device: int) -> float:
        """Send in chunks, small ones where a packet takes long, until the table or the time ends."""
        probe = generator.send(64, device)
        chunk = CHUNK if probe / 64 < 100e-6 else 64
        times: list[float] = []
        sent, end = 64, time.monotonic() + self.seconds
        while sent + chunk <= len(self.flows) and time.monotonic() < end:
            times.append(generator.send(chunk, device) / chunk)
            sent += chunk
        return typical(times) * 1e6

    def later_packets(self, generator: Generator) -> float:
        """Open connections, answer them, and return microseconds for each packet that follows, both ways."""
        flows = self.flows[:LATER_FLOWS]
        with self.director.inside():
            clients, servers = self.director.ifindex("clients"), self.director.ifindex("servers")
            generator.fill([packet(flow, SYN, CLIENT_MAC) for flow in flows])
            generator.send(len(flows), clients)
            answers = self.answers()
            generator.fill([packet(flow, SYN | ACK, SERVER_MAC) for flow in answers])
            generator.send(len(answers), servers)
            there = [packet(flow, ACK, CLIENT_MAC) for flow in flows]
            back = [packet(flow, ACK, SERVER_MAC) for flow in answers]
            times: list[float] = []
            for _ in range(LATER_PASSES):
                time_there = _pass(generator, there, clients)
                times.append((time_there + _pass(generator, back, servers)) / 2)
        return typical(times) * 1e6

    def answers(self) -> list[Flow]:
        """Read from the connection table how each connection's answer looks when it comes from its server."""
        found = []
        for line in self.director.run("conntrack", "-L", "-p", "tcp").splitlines():
            ends = ENTRY.findall(line)
            if len(ends) == 2:
                source, target, source_port, target_port = ends[1]
                found.append(Flow(ipv4(source), int(source_port), ipv4(target), int(target_port)))
        return found


def _pass(generator: Generator, packets: list[bytes], device: int) -> float:
    generator.fill(packets)
    return generator.send(len(packets), device) / len(packets)


def typical(times: list[float]) -> float:
    """Return the first quartile: a neighbour on the machine only ever adds to a time."""
    return sorted(times)[len(times) // 4]


def pin(core: int) -> None:
    """Keep this process on one core, and its garbage for later."""
    os.sched_setaffinity(0, {core})
    gc.disable()
