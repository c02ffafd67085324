"""What the checks of one backend came to, added up for whoever draws curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markway.director.model import Outcome


@dataclass(slots=True)
class Answers:
    """How many checks found the backend well and how many did not, and how many seconds they took together."""

    well: int = 0
    ill: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """One more check was answered."""
        if outcome.well:
            self.well += 1
        else:
            self.ill += 1
        self.seconds += outcome.took
