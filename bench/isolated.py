"""Compare directors' own CPU, round after round."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.contenders import Contender, TooSlowError
from bench.cpu import LATER_FLOWS, NEW_FLOWS, Bench, Sample
from bench.generator import Generator
from bench.topology import isolated_director

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.case import Case


@dataclass
class Comparison:
    """Samples by contender, who was absent and why, and what the generator itself takes of each packet."""

    samples: dict[str, Sample] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    generator: list[float] = field(default_factory=list)


def compare(
    contenders: list[Contender], case: Case, rounds: int, within: float, tell: Callable[[str], None]
) -> Comparison:
    """Measure all in turn. The limit takes part twice: its two figures tell how far to trust the others'."""
    found = Comparison()
    with ExitStack() as stack:
        generator = Generator()
        stack.callback(generator.close)
        directors: dict[str, Bench] = {}
        for contender in contenders:
            for name in (contender.name, f"{contender.name}-again")[: 1 + contender.direct]:
                tell(f"CPU {case.size}: set up {name}")
                director = stack.enter_context(isolated_director(name))
                try:
                    contender.install(director, case, within)
                except TooSlowError as slow:
                    found.absent[name] = str(slow)
                    continue
                flows = case.direct_flows(NEW_FLOWS) if contender.direct else case.flows(NEW_FLOWS)
                directors[name] = Bench(director, flows)
                found.samples[name] = Sample()
        for turn in range(rounds):
            for name, bench in directors.items():
                tell(f"CPU {case.size}: round {turn + 1} of {rounds}, {name}")
                _sample(bench, generator, found, name, case if turn == 0 else None)
    return found


def _sample(bench: Bench, generator: Generator, found: Comparison, name: str, check: Case | None) -> None:
    overhead = bench.overhead(generator)
    found.generator.append(overhead)
    found.samples[name].new.append(bench.new_connections(generator) - overhead)
    found.samples[name].later.append(bench.later_packets(generator) - overhead)
    if check:
        answered = bench.answers()
        servers, expected = {flow.source for flow in answered}, min(len(check.backends), LATER_FLOWS)
        if len(answered) < LATER_FLOWS * 0.99 or len(servers) < expected * 0.5:
            raise RuntimeError(f"{name}: {len(answered)} of {LATER_FLOWS} flows reached {len(servers)} servers")
