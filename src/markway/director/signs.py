"""What the kernel sees of a dead backend leads to a question at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.director.events import Event
from markway.director.evidence import Evidence
from markway.director.silence import listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from markway.director.farm import Farm
    from markway.director.life import Life
    from markway.director.silence import Passed
    from markway.director.watch import Watch


class Signs:
    """Hears of them for as long as the daemon lives, unless another process does."""

    def __init__(self, farm: Farm, watch: Watch, marks: Callable[[], Mapping[int, str]]) -> None:
        """Hear nothing yet; `marks` names the backends of the program in force by mark."""
        self._farm, self._watch, self._marks = farm, watch, marks
        self._evidence: Evidence | None = None

    def begin(
        self,
        mask: int,
        life: Life,
        passed: Callable[[], Awaitable[Mapping[int, Passed]]],
        note: Callable[[Event], None],
    ) -> None:
        """Hear of them from now on.

        Args:
            mask: the backend field.
            life: what goes on as long as the daemon.
            passed: counts what backends' connections came to so far, by mark.
            note: is told why there is nothing to hear.
        """
        try:
            self._evidence = Evidence(mask)
        except OSError as error:
            note(Event("warning", f"no passive detection of dead backends: {error.strerror}"))
            return
        self._evidence.watch(life.lasting(self._suspect))
        life.keep_up(listen(passed, self._silent))

    def follow(self, mask: int) -> None:
        """A program with this backend field is in force."""
        if self._evidence:
            self._evidence.mask = mask

    def _suspect(self, mark: int) -> None:
        """There is a sign that the backend with this mark died: ask it now."""
        member = self._farm.members.get(self._marks().get(mark, ""))
        if member is not None and member.health.up:
            self._watch.hurry(member.name)

    def _silent(self, mark: int) -> None:
        """The backend with this mark leaves new connections unanswered: ask it now, and believe the worst of it."""
        member = self._farm.members.get(self._marks().get(mark, ""))
        if member is not None and self._farm.hears_silence(member.name):
            self._watch.hurry(member.name, silent=True)

    def close(self) -> None:
        """Hear no more."""
        if self._evidence:
            self._evidence.close()
