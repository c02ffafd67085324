"""Compare directors' own CPU, round after round."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.contenders import Contender, TooSlowError
from bench.cpu import FLOWS, Bench, Sample, Turns
from bench.generator import Generator
from bench.topology import isolated_director

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.case import Case

TURNS = 4  # in a round: short ones, so that a disturbance meets all contenders alike


@dataclass
class Comparison:
    """Samples by contender, and who was absent and why."""

    samples: dict[str, Sample] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def compare(
    contenders: list[Contender], case: Case, rounds: int, within: float, tell: Callable[[str], None]
) -> Comparison:
    """Measure all in turn. The limit takes part twice: its two figures tell how far to trust the others'."""
    found = Comparison()
    with ExitStack() as stack:
        generator = Generator()
        stack.callback(generator.close)
        benches: dict[str, Bench] = {}
        for contender in contenders:
            for name in (contender.name, f"{contender.name}-again")[: 1 + contender.direct]:
                tell(f"CPU {case.size}: set up {name}")
                director = stack.enter_context(isolated_director(name))
                try:
                    contender.install(director, case, within)
                except TooSlowError as slow:
                    found.absent[name] = str(slow)
                    director.stop()  # it would go on, beside the others' rounds
                    continue
                flows = case.direct_flows(FLOWS) if contender.direct else case.flows(FLOWS)
                benches[name] = Bench(director, flows)
                benches[name].choose_count(generator)
                found.samples[name] = Sample()
        for turn in range(rounds):
            tell(f"CPU {case.size}: round {turn + 1} of {rounds}")
            _round(benches, generator, found)
        for name, bench in benches.items():
            reached, wanted = bench.servers, min(len(case.backends), len(bench.flows))
            if reached < wanted / 2:
                raise RuntimeError(f"{name}: {len(bench.flows)} connections reached {reached} servers")
    return found


def _round(benches: dict[str, Bench], generator: Generator, found: Comparison) -> None:
    turns = {name: Turns() for name in benches}
    for _ in range(TURNS):
        for name, bench in benches.items():
            bench.turn(generator, turns[name])
    for name, sample in found.samples.items():
        turns[name].add_to(sample)
