"""What Markway promises of itself, and how far a run keeps it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.isolated import Comparison
    from bench.report import Results

OURS = ("markway", "markway-snat")
HIDING = ("nftlb-snat", "haproxy", "nginx-stream")
PEERS = ("nftlb", "nftlb-snat", "iptables-legacy", "iptables-nft", "haproxy", "nginx-stream")


@dataclass(frozen=True)
class Aim:
    """One promise: a figure and its bound."""

    text: str
    figure: float
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def wanted(self) -> str:
        """Write the bound."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:.2f}{self.unit}"

    @property
    def found(self) -> str:
        """Write the figure."""
        return f"{self.figure:.2f}{self.unit}"

    @property
    def verdict(self) -> str:
        """Say whether it is met, and if not by how much it is missed."""
        if (self.figure >= self.bound) if self.at_least else (self.figure <= self.bound):
            return "pass"
        return f"short by {abs(self.figure / self.bound - 1):.1%}"


def judge(results: Results) -> list[Aim]:
    """Compare what can be compared."""
    return [*_connections(results), *_cpu(results), *_growth(results), *_control(results)]


def _connections(results: Results) -> Iterator[Aim]:
    for size, found in results.connections.items():
        rates = {name: sample.rate for name, sample in found.samples.items()}
        if "markway" in rates and "routing" in rates:
            text = f"connections {size}: markway to the limit"
            yield Aim(text, by_round(rates["markway"], rates["routing"]), 0.98, at_least=True)
        # A peer that shows the server the client's address does not compare with one that hides it.
        for name, peers in (("markway", PEERS), ("markway-snat", HIDING)):
            beside = [peer for peer in peers if peer in rates]
            if name in rates and beside:
                best = max(beside, key=lambda peer: statistics.median(rates[peer]))
                text = f"connections {size}: {name} to the best peer, {best}"
                yield Aim(text, by_round(rates[name], rates[best]), 1.0, at_least=True)


def by_round(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the rounds' ratios: what disturbs a round disturbs both."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def new_cost(found: Comparison, name: str) -> float | None:
    sample = found.samples.get(name)
    return statistics.median(sample.new) if sample else None


def _cpu(results: Results) -> Iterator[Aim]:
    for size, found in results.cpu.items():
        ours, limit = new_cost(found, "markway"), new_cost(found, "routing")
        if ours and limit:
            yield Aim(f"CPU per connection {size}: markway to the limit", ours / limit, 1.3)
        for name, peer in zip(OURS, ("nftlb", "nftlb-snat"), strict=True):
            ours, theirs = new_cost(found, name), new_cost(found, peer)
            if ours and theirs:
                yield Aim(f"CPU per connection {size}: {name} to {peer}", ours / theirs, 1.0)
        again = new_cost(found, "routing-again")
        if limit and again:
            yield Aim(f"trust {size}: the limit's two figures differ by", abs(again / limit - 1) * 100, 3.0, unit=" %")


def _growth(results: Results) -> Iterator[Aim]:
    one = results.cpu.get("1 x 4")
    many = results.cpu.get("10,000 x 4")
    if one and many:
        small, large = new_cost(one, "markway"), new_cost(many, "markway")
        if small and large:
            yield Aim("CPU per connection: 10,000 services to one", large / small, 1.1)


def _control(results: Results) -> Iterator[Aim]:
    for size, found in results.loading.items():
        if seconds := found.seconds.get("markway"):
            yield Aim(f"file to kernel {size}", statistics.median(seconds), 3.0, unit=" s")
    for size, changed in results.changing.items():
        yield Aim(f"one weight in {size}: end to end", statistics.median(changed.whole), 5.0, unit=" ms")
        yield Aim(f"one weight in {size}: the kernel's step", statistics.median(changed.kernel), 1.0, unit=" ms")
