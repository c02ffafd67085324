"""When each backend is asked: timers on the event loop, one for each check and one for each service's load."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from markway.config.model import CheckKind
from markway.director.checks import ask
from markway.director.health import next_check
from markway.director.model import LoadError, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.config.model import Load
    from markway.director.farm import Farm
    from markway.director.loads import Loads

_PORTLESS = {CheckKind.PING, CheckKind.COMMAND}


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
        self._begun = self._loop.time()
        self._plan()

    def hurry(self) -> None:
        """Ask at once; or again at once, if a question is open that may have been asked before the sign came."""
        if self._task is not None:
            self._again = True
            return
        if self._timer is not None and self._timer.when() > self._begun + self._fastest:
            self._timer.cancel()
            self._timer = self._loop.call_at(max(self._loop.time(), self._begun + self._fastest), self._start)

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
        when = next_check(check, member.health, self._begun, self._chance())
        self._timer = self._loop.call_at(when, self._start)

    def _start(self) -> None:
        self._timer = None
        self._begun = self._loop.time()
        self._task = self._loop.create_task(self._ask())

    async def _ask(self) -> None:
        member = self._farm.members[self._name]
        check = self._farm.services[member.service].check
        if check is None:
            return
        targets = self._farm.targets(self._name, check.port)
        outcomes = [await ask(check, targets[0])]
        if len(targets) > 1:
            outcomes += await asyncio.gather(*(ask(check, target) for target in targets[1:]))
        worst = next((outcome for outcome in outcomes if not outcome.well), outcomes[0])
        self._task = None
        self._told(self._name, worst)
        self._plan()
        if self._again:
            self._again = False
            self.hurry()


class LoadReader:
    """Reads the load of all backends of one service together, again and again."""

    def __init__(
        self, farm: Farm, service: str, loads: Loads, told: Callable[[str, dict[str, float | None]], None]
    ) -> None:
        """Read the loads of the service called `service` from now on, until `stop`."""
        self._farm, self._service, self._loads, self._told = farm, service, loads, told
        self.reasons: dict[str, str] = {}
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while load := self._farm.services[self._service].load:
            names = [backend.name for backend in self._farm.services[self._service].backends]
            readings = await asyncio.gather(*(self._read(load, name) for name in names))
            self._told(self._service, dict(zip(names, readings, strict=True)))
            due = max(due + load.every, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _read(self, load: Load, name: str) -> float | None:
        target = self._farm.targets(f"{self._service}/{name}", load.port)[0]
        try:
            reading = await self._loads.read(load, target)
        except LoadError as error:
            self.reasons[name] = str(error)
            return None
        self.reasons.pop(name, None)
        return reading
