"""What happens in the demo, act by act."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from markway.lab import build
from markway.lab.demo import edit, facts
from markway.lab.demo.guarded import GUARD, guarded
from markway.lab.demo.promises import deviations
from markway.lab.demo.screen import Passage, Row
from markway.lab.demo.shared import SHAPE, shared
from markway.lab.demo.traffic import Counts, Traffic
from markway.lab.demo.watched import DIES, DRAINS, WORKS, Watched, watched
from markway.lab.topology import LabError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from markway.lab.demo.facts import Asked
    from markway.lab.demo.promises import Deviation, Promises
    from markway.lab.demo.screen import Screen
    from markway.lab.hold import Held
    from markway.lab.lab import Holding, Lab

CHANGED, REMOVED = "c", "b"
"""The backend that gets another weight, and the one that leaves."""

_WEIGHT = 3
_HELD = 120  # connections kept open, from all clients over all families
_ROUND_SECONDS = 3.0  # a slow machine makes fewer connections, and ends in time all the same
_STEADY_RATE = 1200.0  # connections per second while the backend leaves
_STEADY_SECONDS = 1.2  # before and after
_PLENTY = 1_000_000
_ANY = 0  # in place of the IP version, where it does not matter


class BrokenError(Exception):
    """A promise is broken: go to the summary."""


class Story:
    """Runs the acts in a lab that is up. Every finding goes to the promises."""

    def __init__(
        self, lab: Lab, file: Path, shown: str, screen: Screen, promises: Promises, *, connections: int, brief: bool
    ) -> None:
        self._lab = lab
        self._file = file
        self._shown = shown
        self._count = connections
        self._brief = brief
        self._screen = screen
        self._promises = promises
        self._text = self._original = file.read_text(encoding="utf-8")
        self._asked = facts.asked(self._text)
        self._marks: dict[str, int] = {}
        self._all = Counts()
        self._worst: Deviation | None = None
        self._rounds = 0

    def run(self) -> None:
        """The whole story; BrokenError when it makes no sense to go on."""
        with ExitStack() as open_connections:
            self._first()
            holdings = [
                open_connections.enter_context(place.hold(target, self._each_held, "--every", "0.2"))
                for place in self._lab.clients
                for target in self._asked.targets.values()
            ]
            self._weight(holdings)
            self._removal(holdings)
        if not self._brief:
            self._shared()
            self._guarded()
            self._watched()

    def _shared(self) -> None:
        self._screen.act("The director's way out is shared")
        self._change(self._text + SHAPE)
        self._screen.command(f"markway apply {self._shown}", self._apply(self._file))
        shared(self._lab, self._screen, self._promises)

    def _guarded(self) -> None:
        self._screen.act("Who tries too often is kept out")
        self._change(self._text + GUARD)
        self._screen.command(f"markway apply {self._shown}", self._apply(self._file))
        guarded(self._lab, self._file, next(iter(self._asked.targets.values())), self._screen, self._promises)

    def _watched(self) -> None:
        self._screen.act(f"{DIES} dies and comes back, {WORKS} works too hard, {DRAINS} drains: the daemon sees to it")
        text = watched(self._original)
        self._screen.edit(edit.edited(self._text, text))
        asked = facts.asked(text)
        counts = Watched(self._lab, text, asked, self._screen, self._promises).run()
        self._screen.note(f"{counts.connections:,} connections in all, {counts.failed:,} of them met the dead {DIES}.")

    @property
    def _each_held(self) -> int:
        return _HELD // (len(self._lab.clients) * len(self._asked.targets))

    def _first(self) -> None:
        self._screen.act("The file asks, connections arrive")
        self._screen.command(f"markway apply {self._shown}", self._apply(self._file))
        again = self._apply(self._file)
        self._screen.command(f"markway apply {self._shown}", again)
        said = " ".join(again)
        self._promises.idle.judge(said.startswith("Nothing to change"), said)
        self._marks = {name: backend.mark for name, backend in facts.status(self._lab).items()}
        self._round()

    def _weight(self, holdings: list[Holding]) -> None:
        self._screen.act(f"{CHANGED} gets another weight while {_HELD} connections are open")
        first = _by_backend([holding.opened for holding in holdings])
        self._count_held(holdings)
        self._change(edit.with_weight(self._text, self._asked.service, CHANGED, _WEIGHT))
        plan = facts.markway(self._lab, "plan", str(self._file)).splitlines()
        nft = [line for line in plan[: _last_empty(plan)] if line and not line.startswith("#")]
        head = [line for line in plan if line.startswith("# service")]
        rest = plan[_last_empty(plan) + 1 :]
        self._screen.command(f"markway plan {self._shown}", [*head, f"  ... {len(nft)} lines of nft ...", *rest])
        self._promises.held.judge(any(line.startswith("0 of") for line in rest), f"plan: {rest[-1] if rest else ''}")
        self._screen.command(f"markway apply {self._shown}", self._apply(self._file))
        self._check_held(holdings, first)
        self._screen.note(f"All {_HELD} open connections are where they were. New ones, by the new weights:")
        self._round()

    def _removal(self, holdings: list[Holding]) -> None:
        self._screen.act(f"{REMOVED} leaves while connections arrive")
        first = _by_backend([holding.opened for holding in holdings])
        asked_before = self._asked
        self._change(edit.without(self._text, self._asked.service, REMOVED))
        self._screen.note(f"Then `markway apply {self._shown}`, in the middle of this:")
        questions = sum(report.questions for report in self._reports(holdings))
        self._pass(asked_before, first, holdings)
        more = sum(report.questions for report in self._reports(holdings)) - questions
        self._check_held(holdings, first)
        served = _by_backend(self._reports(holdings))[REMOVED]
        mark = self._marks[REMOVED]
        tracked = facts.tracked(self._lab, mark)
        if tracked:
            why = (
                f"No rule names {REMOVED} any more; the kernel knows its connections by their mark, {mark} ({mark:#x}):"
            )
            self._screen.note(why)
            self._screen.note(f"  {tracked}", "dim")
        self._screen.note("New connections:")
        counts = self._round()
        self._promises.removed.judge(
            served == first[REMOVED] and not counts.of(REMOVED),
            f"{served} of {first[REMOVED]} open connections served on, {counts.of(REMOVED)} new ones reached it",
        )
        self._promises.held.judge(True, f"{_HELD} of {_HELD} through both changes, {more:,} answers meanwhile, 0 moved")

    def _round(self) -> Counts:
        """Connections from everywhere; shown, counted by Markway too, and judged."""
        rows = [
            Row(name, mark, self._asked.weights.get(name), self._asked.share(name))
            for name, mark in self._marks.items()
        ]
        end = time.monotonic() + _ROUND_SECONDS
        with Traffic(self._lab, self._asked.targets, self._count) as traffic, self._screen.live() as show:
            while traffic.wait(0.5):
                show(*self._screen.shares(rows, traffic.counts(), traffic.count))
                if time.monotonic() > end:
                    traffic.stop()
            counts = traffic.counts()
            show(*self._screen.shares(rows, counts, of=counts.connections))  # fewer than planned if the time was up
        self._judge_failures(counts)
        self._judge_shares(counts)
        self._judge_marks()
        return counts

    def _pass(self, before: Asked, first: Counter[str], holdings: list[Holding]) -> None:
        """Apply the file while connections arrive."""
        cuts: list[Counts] = []
        still = first

        def show_now(stage: str) -> None:
            show(
                *self._screen.passage(
                    self._passages(before, [*cuts, traffic.counts()], first, still), traffic.counts(), stage
                )
            )

        with (
            Traffic(self._lab, self._asked.targets, _PLENTY, rate=_STEADY_RATE) as traffic,
            self._screen.live() as show,
        ):
            self._steadily(traffic, lambda: show_now("before the change"))
            cuts.append(traffic.counts())
            apply = self._lab.director.spawn(sys.executable, "-m", "markway", "apply", str(self._file))
            while apply.poll() is None and traffic.wait(0.05):
                show_now("markway apply runs")
            _, said = apply.communicate()
            if apply.returncode:
                raise LabError(f"markway apply failed: {said.strip()}")
            cuts.append(traffic.counts())
            self._steadily(traffic, lambda: show_now("after the change"))
            traffic.stop()
            while traffic.wait(0.5):
                pass
            still = _by_backend(self._reports(holdings))
            counts = traffic.counts()
            show_now("")
        self._judge_failures(counts)

    def _steadily(self, traffic: Traffic, show: Callable[[], None]) -> None:
        """Let connections arrive for a while; from their first on."""
        while not traffic.counts().answers and traffic.wait(0.5):
            pass
        end = time.monotonic() + _STEADY_SECONDS
        while time.monotonic() < end and traffic.wait(0.5):
            show()

    def _passages(self, before: Asked, cuts: list[Counts], first: Counter[str], still: Counter[str]) -> list[Passage]:
        found = []
        for name, mark in self._marks.items():
            at = [cut.of(name) for cut in cuts] + [cuts[-1].of(name)] * (3 - len(cuts))
            asked = before.share(name), self._asked.share(name)
            parts = at[0], at[1] - at[0], at[2] - at[1]
            found.append(Passage(name, mark, asked, *parts, (first[name], still[name])))
        return found

    def _apply(self, file: Path) -> list[str]:
        return facts.markway(self._lab, "apply", str(file)).splitlines()

    def _change(self, text: str) -> None:
        """Edit a copy of the file; it is the file from now on."""
        self._screen.edit(edit.edited(self._text, text))
        self._file = build.directory(self._lab.name) / self._file.name
        self._shown = self._file.name
        self._file.write_text(text, encoding="utf-8")
        self._text = text
        self._asked = facts.asked(text)

    def _reports(self, holdings: list[Holding]) -> list[Held]:
        return [holding.report() for holding in holdings]

    def _count_held(self, holdings: list[Holding]) -> None:
        counts = Counts(connections=sum(holding.opened.count for holding in holdings))
        for holding in holdings:
            counts.failed += sum(holding.opened.failures.values())
            counts.why |= holding.opened.first
            counts.answers.update({(_ANY, name): count for name, count in holding.opened.answers.items()})
        self._judge_failures(counts)

    def _check_held(self, holdings: list[Holding], first: Counter[str]) -> None:
        """Ask on every open connection; BrokenError unless all are answered by the backend they began with."""
        reports = self._reports(holdings)
        still, moved = _by_backend(reports), sum(report.moved for report in reports)
        why = "; ".join(sorted({text for report in reports for text in report.first.values()}))
        detail = f"{still.total()} of {_HELD} open, {moved} moved{': ' + why if why else ''}"
        self._promises.held.judge(still == first and not moved, detail)
        if self._promises.held.kept is False:
            raise BrokenError

    def _judge_failures(self, counts: Counts) -> None:
        self._all.add(counts)
        why = f": {'; '.join(sorted(self._all.why.values()))}" if self._all.failed else ""
        self._promises.failed.judge(
            not self._all.failed, f"{self._all.connections:,} made, {self._all.failed:,} failed{why}"
        )
        if self._all.failed:
            raise BrokenError

    def _judge_shares(self, counts: Counts) -> None:
        self._rounds += 1
        for version, turn in self._asked.turns.items():
            got = counts.family(version)
            for name, deviation in deviations(got, self._asked.weights, turn).items():
                if self._worst is None or deviation.off > self._worst.off:
                    self._worst = deviation
                if not deviation.within:
                    said = f"IPv{version}: {name} got {got.get(name, 0):,} of {sum(got.values()):,}"
                    self._promises.shares.judge(False, f"{said}, asked {self._asked.share(name):.1%}")
            if strangers := got.keys() - self._asked.weights.keys():
                self._promises.shares.judge(False, f"IPv{version}: {', '.join(strangers)} got some, asked for none")
        if self._worst:
            self._promises.shares.judge(
                True,
                f"round-robin is exact to one turn of its table, in each of {self._rounds} rounds and each family: "
                f"at worst {self._worst.off:.1f} connections off, {self._worst.allowed:.0f} allowed",
            )

    def _judge_marks(self) -> None:
        """What Markway counted by mark since the first apply is what the clients were answered."""
        for name, counted in facts.status(self._lab).items():
            same = counted.mark == self._marks[name]
            if not same or counted.connections != self._all.of(name):
                said = f"{name}: {counted.connections:,} counted with its mark, {self._all.of(name):,} answers"
                self._promises.marks.judge(False, said)
        marks = ", ".join(f"{name} {mark:#x}" for name, mark in self._marks.items())
        self._promises.marks.judge(True, f"{marks}: by mark the kernel counted what the clients counted by answer")


def _by_backend(reports: list[Held]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.answers)
    return counts


def _last_empty(lines: list[str]) -> int:
    """The last empty line's number, -1 if there is none."""
    return max((number for number, line in enumerate(lines) if not line), default=-1)
