"""When each backend is asked: timers on the event loop, one for each check and one for each service's load."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from markway.director.checks import ask
from markway.director.health import next_check
from markway.director.model import LoadError, Outcome, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.config.model import Check, Load
    from markway.director.farm import Farm
    from markway.director.loads import Loads

_LATE = 2
"""How many timeouts after its question a bad answer is no answer: this process was stopped, or starved."""


class Checker:
    """Asks one backend again and again, and tells what it answered.

    A task lives only while a question is open: thousands of backends are thousands of timers, which cost nothing.
    """

    def __init__(
        self, farm: Farm, name: str, told: Callable[[str, Outcome], None], chance: Callable[[], float]
    ) -> None:
        """Ask the backend called `name` from now on, until `stop`."""
        self._farm, self._name, self._told, self._chance = farm, name, told, chance
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._silent = False
        self._excused = False
        self._hurried = -math.inf
        self._begun = self._loop.time()
        self._plan()

    def hurry(self, *, silent: bool = False) -> None:
        """A sign of death: ask at once; or again at once, if a question is open that may be older than the sign.

        However many signs come, they cause no more than one question in the fast interval. Those that are asked
        anyway do not count, for a backend may die right after its answer.

        Args:
            silent: many connections were left unanswered. If the check is, too, that is two bad answers.
        """
        self._silent = self._silent or silent
        if self._task is not None:
            self._again = True
            return
        due = max(self._loop.time(), self._hurried + self._fastest)
        if self._timer is not None and self._timer.when() > due:
            self._timer.cancel()
            self._hurried = due
            self._timer = self._loop.call_at(due, self._start)

    def renew(self) -> None:
        """Another configuration is in force: if it has the backend elsewhere, or asked otherwise, that begins now."""
        if self._task is None and self._timer is not None and self._asked != self._question():
            self._timer.cancel()
            self._plan()

    def stop(self) -> None:
        """Ask no more; an open question is given up."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    @property
    def _fastest(self) -> float:
        check = self._farm.services[self._farm.members[self._name].service].check
        return check.fast if check else 0.0

    def _plan(self) -> None:
        member = self._farm.members[self._name]
        check = self._farm.services[member.service].check
        if check is None:
            return
        # The first check of two runs comes alike.
        chance = self._chance() if member.health.checked else crc32(self._name.encode()) / (1 << 32)
        when = next_check(check, member.health, self._begun, chance)
        self._asked = self._question()
        self._timer = self._loop.call_at(when, self._start)

    def _question(self) -> tuple[Check | None, list[Target]]:
        check = self._farm.services[self._farm.members[self._name].service].check
        return check, self._farm.targets(self._name, check.port if check else None)

    def _start(self) -> None:
        self._timer = None
        self._begun = self._loop.time()
        self._task = self._loop.create_task(self._ask())

    async def _ask(self) -> None:
        check, targets = asked = self._question()
        if check is None:
            return
        outcomes = [await ask(check, targets[0])]
        if len(targets) > 1:
            outcomes += await asyncio.gather(*(ask(check, target) for target in targets[1:]))
        worst = next((outcome for outcome in outcomes if not outcome.well), outcomes[0])
        self._task = None
        again, silent, self._again, self._silent = self._again, self._silent, False, False
        late = not worst.well and not self._excused and worst.took > _LATE * check.timeout
        if asked == self._question() and not late:
            self._told(self._name, replace(worst, silent=silent))
        self._excused = late
        self._plan()
        if again or late:
            self.hurry(silent=silent and again)


class LoadReader:
    """Reads the load of all backends of one service together, again and again."""

    def __init__(
        self, farm: Farm, service: str, loads: Loads, told: Callable[[str, dict[str, float | None]], None]
    ) -> None:
        """Read the loads of the service called `service` from now on, until `stop`."""
        self._farm, self._service, self._loads, self._told = farm, service, loads, told
        self.reasons: dict[str, str] = {}
        self._targets: dict[str, Target] = {}
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()
        self._aim({})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while load := self._farm.services[self._service].load:
            names = [backend.name for backend in self._farm.services[self._service].backends]
            self._aim({name: self._farm.targets(f"{self._service}/{name}", load.port)[0] for name in names})
            readings = await asyncio.gather(*(self._read(load, *each) for each in self._targets.items()))
            self._told(self._service, dict(zip(names, readings, strict=True)))
            due = max(due + load.every, loop.time())
            await asyncio.sleep(due - loop.time())

    def _aim(self, targets: dict[str, Target]) -> None:
        """Ask these from now on; what is kept for others goes."""
        for name, target in self._targets.items():
            if targets.get(name) != target:
                self._loads.forget(target)
                self.reasons.pop(name, None)
        self._targets = targets

    async def _read(self, load: Load, name: str, target: Target) -> float | None:
        try:
            reading = await self._loads.read(load, target)
        except LoadError as error:
            self.reasons[name] = str(error)
            return None
        self.reasons.pop(name, None)
        return reading
