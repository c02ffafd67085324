"""What the demo promises, and how each promise is judged. Values only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(slots=True)
class Promise:
    """One line of the summary; `kept` is None until it was put to the test."""

    text: str
    kept: bool | None = None
    detail: str = ""

    def judge(self, kept: bool, detail: str) -> None:
        """Take one more finding; once broken it stays broken, with the first reason."""
        if self.kept is not False:
            self.kept, self.detail = kept, detail


@dataclass(slots=True)
class Promises:
    """All promises, in the order of the summary."""

    failed: Promise
    shares: Promise
    marks: Promise
    idle: Promise
    held: Promise
    removed: Promise
    rates: Promise
    guarded: Promise
    dead: Promise
    loaded: Promise
    drained: Promise
    outside: Promise
    left_out: tuple[Promise, ...] = ()

    @classmethod
    def made(cls) -> Promises:
        """None is put to the test yet."""
        return cls(
            failed=Promise("No connection failed"),
            shares=Promise("Shares are as asked"),
            marks=Promise("Marks tell the backends"),
            idle=Promise("Applied again: no change"),
            held=Promise("Open connections stay"),
            removed=Promise("A removed backend finishes"),
            rates=Promise("Classes get their rates"),
            guarded=Promise("Who tries too often waits"),
            dead=Promise("A dead backend gets nothing"),
            loaded=Promise("A loaded backend gets less"),
            drained=Promise("A drained backend empties"),
            outside=Promise("Nothing else has changed"),
        )

    def __iter__(self) -> Iterator[Promise]:
        found = (getattr(self, one.name) for one in fields(self))
        return (one for one in found if isinstance(one, Promise) and one not in self.left_out)

    def leave_out(self, *promises: Promise) -> None:
        """Promise nothing of what is not shown."""
        self.left_out = promises

    @property
    def kept(self) -> bool:
        """Whether every promise was put to the test and held."""
        return all(promise.kept for promise in self)


class Deviation(NamedTuple):
    """How far a backend's connections are from its exact share, and how far one turn of the table allows."""

    off: float
    allowed: float
    within: bool


def deviations(got: Mapping[str, int], weights: Mapping[str, int], turn: int) -> dict[str, Deviation]:
    """Hold counts of round-robin against the weights.

    Out of any N connections in a row a backend gets its share of the whole turns, and of the turn that is begun
    nothing up to all of its share: round-robin is exact to one turn of the table, wherever it starts.
    """
    total, whole = sum(got.values()), sum(weights.values())
    turns, begun = divmod(total, turn)
    found = {}
    for name, weight in weights.items():
        share = Fraction(weight, whole)
        count = got.get(name, 0)
        low, high = turns * turn * share, (turns + bool(begun)) * turn * share
        found[name] = Deviation(abs(float(count - total * share)), float(turn * share), low <= count <= high)
    return found
