"""What a packet costs a director in instructions: this runs in the guest whose clock counts them.

`python -m bench.counted RESULT BACKENDS SERVICES...`; `bench.datapath` boots the guest.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.case import case
from bench.contenders import Contender, IptablesDnat, Ipvs, Markway, Routing
from bench.generator import DROP, SYN, Generator, packets
from bench.topology import CLIENT_MAC, Namespace, isolated_director, sh

if TYPE_CHECKING:
    from bench.case import Case
    from bench.generator import Flow

FLOWS = 2048
TURNS = 4  # the first fills the kernel's caches of memory, and is not counted
WITHIN = 600.0  # seconds of the guest to set a director up
_PER_SECOND = 1e9  # instructions: see `fullkernel.debian.Emulated.counted`


@dataclass(frozen=True)
class Cost:
    """Instructions for a packet: the first of a connection, and the same one again."""

    new: float
    later: float


def everyone() -> list[Contender]:
    """Who is counted, the limit first."""
    return [
        Routing("routing", direct=True),
        Markway("markway"),
        Ipvs("ipvs"),
        Ipvs("ipvs-tracked", tracked=True),
        IptablesDnat("iptables"),
    ]


def count(contender: Contender, this: Case) -> Cost:
    """Set a director up and open connections through it, other ones in each turn.

    Raises:
        RuntimeError: a packet did not arrive on the servers' side, where only balancing could bring it.
    """
    all_flows = (this.direct_flows if contender.direct else this.flows)(FLOWS * TURNS)
    with isolated_director(contender.name) as director, closing(Generator()) as generator:
        contender.install(director, this, WITHIN)
        before = director.received("servers")
        costs = [
            _turn(director, generator, all_flows[start : start + FLOWS]) for start in range(0, len(all_flows), FLOWS)
        ]
        arrived = director.received("servers") - before
    if arrived < 2 * len(all_flows):
        raise RuntimeError(f"{contender.name}, {this.size}: {arrived} of {2 * len(all_flows)} packets arrived")
    return Cost(*(statistics.median(kind) for kind in zip(*costs[1:], strict=True)))


def _turn(director: Namespace, generator: Generator, flows: list[Flow]) -> tuple[float, float]:
    """Send the connections' first packets, and send them again; less what the generator itself takes."""
    generator.fill(packets(flows, SYN, CLIENT_MAC))
    device = director.ifindex("clients")
    with director.inside():
        own = generator.send(len(flows), device, DROP)
        generator.rewind()
        new = generator.send(len(flows), device) - own
        generator.rewind()
        later = generator.send(len(flows), device) - own
    return new * _PER_SECOND / len(flows), later * _PER_SECOND / len(flows)


def main() -> None:
    result, backends, *services = sys.argv[1:]
    sh("modprobe", "nf_conntrack")  # its settings are there before the first rule that tracks
    costs: dict[str, dict[str, dict[str, float]]] = {}
    for number in map(int, services):
        this = case(number, int(backends))
        costs[this.size] = {}
        for contender in everyone():
            print(f"{this.size}: {contender.name}", flush=True)
            costs[this.size][contender.name] = asdict(count(contender, this))
    Path(result).write_text(json.dumps({"versions": _versions(), "costs": costs}), encoding="utf-8")


def _versions() -> str:
    nft, iptables = (sh(program, "--version").split()[1] for program in ("nft", "iptables-legacy"))
    return f"Linux {os.uname().release}, nft {nft}, iptables {iptables}"


if __name__ == "__main__":
    main()
