"""The director's own CPU for a new connection and for a later packet, without clients and servers."""

from __future__ import annotations

import gc
import os
import re
from dataclasses import dataclass, field

from bench.generator import ACK, DROP, PASS, SYN, Flow, Generator, ipv4, packets
from bench.topology import CLIENT_MAC, SERVER_MAC, Namespace

FLOWS = 4096
FEW_FLOWS = 512  # for who takes long
LONG = 60e-6
ENTRY = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


@dataclass
class Sample:
    """Microseconds of CPU, one figure per round, and what the generator itself took of each packet."""

    new: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)


@dataclass
class Turns:
    """Seconds for each packet, one figure per turn of a round."""

    generator: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)

    def add_to(self, sample: Sample) -> None:
        """Put the round's figures into the sample, less what the generator takes."""
        generator = typical(self.generator) * 1e6
        sample.generator.append(generator)
        sample.new.append(typical(self.new) * 1e6 - generator)
        sample.later.append(typical(self.later) * 1e6 - generator)


@dataclass
class Bench:
    """A director and the connections that are to be opened through it, again and again."""

    director: Namespace
    flows: list[Flow]
    servers: int = 0  # how many the last turn reached

    def __post_init__(self) -> None:
        with self.director.inside():
            self._clients, self._servers = map(self.director.ifindex, ("clients", "servers"))

    def choose_count(self, generator: Generator) -> None:
        """Take fewer flows if a connection takes long."""
        with self.director.inside():
            generator.fill(packets(self.flows[:64], SYN, CLIENT_MAC))
            if generator.send(64, self._clients) / 64 > LONG:
                self.flows = self.flows[:FEW_FLOWS]

    def turn(self, generator: Generator, turns: Turns) -> None:
        """Open all connections, answer them, and send a packet more each way, twice."""
        self.director.flush_connections()
        opening, later = (packets(self.flows, flags, CLIENT_MAC) for flags in (SYN, ACK))
        count = len(self.flows)

        def send(data: bytes, device: int, verdict: int = PASS) -> float:
            generator.fill(data)
            return generator.send(count, device, verdict) / count

        with self.director.inside():
            turns.generator.append(send(opening, self._clients, DROP))
            turns.new.append(send(opening, self._clients))
            answers = self._answers()
            answering, back = (packets(answers, flags, SERVER_MAC) for flags in (SYN | ACK, ACK))
            send(answering, self._servers)
            send(later, self._clients)
            for _ in range(2):
                turns.later.append((send(later, self._clients) + send(back, self._servers)) / 2)
        self.servers = len({flow.source for flow in answers})
        self.director.flush_connections()

    def _answers(self) -> list[Flow]:
        """Read from the connection table how each connection's answer looks when it comes from its server."""
        found = []
        for line in self.director.run("conntrack", "-L", "-p", "tcp").splitlines():
            ends = ENTRY.findall(line)
            if len(ends) == 2:
                source, target, source_port, target_port = ends[1]
                found.append(Flow(ipv4(source), int(source_port), ipv4(target), int(target_port)))
        if len(found) != len(self.flows):
            raise RuntimeError(f"{self.director.name}: {len(found)} of {len(self.flows)} connections were tracked")
        return found


def typical(times: list[float]) -> float:
    """Return the first quartile: a neighbour on the machine only ever adds to a time."""
    return sorted(times)[len(times) // 4]


def pin(core: int) -> None:
    """Keep this process on one core, and its garbage for later."""
    os.sched_setaffinity(0, {core})
    gc.disable()
