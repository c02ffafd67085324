"""Who is asked: a checker for each backend of a service with a check, a reader for each service with a load."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from markway.director.answers import Answers
from markway.director.loads import Loads
from markway.director.watchers import Checker, LoadReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markway.config.model import Config
    from markway.director.farm import Farm
    from markway.director.model import Outcome


class Watch:
    """The checkers and readers of the configuration in force."""

    def __init__(
        self,
        farm: Farm,
        checked: Callable[[str, Outcome], None],
        loaded: Callable[[str, Mapping[str, float | None]], None],
    ) -> None:
        """Ask nobody yet. What a backend answers goes to `checked`, what a service's loads are to `loaded`."""
        self._farm, self._checked, self._loaded = farm, checked, loaded
        self._loads = Loads()
        self._checkers: dict[str, Checker] = {}
        self._readers: dict[str, LoadReader] = {}
        self.answers: dict[str, Answers] = {}
        """What checks came to, by backend."""

    def follow(self, config: Config) -> None:
        """Ask whom this configuration wants asked, and nobody else; the farm has it already."""
        checked = {f"{s.name}/{b.name}" for s in config.services if s.check for b in s.backends}
        loaded = {s.name for s in config.services if s.load}
        for name in self._checkers.keys() - checked:
            self._checkers.pop(name).stop()
            self.answers.pop(name, None)
        for name in self._readers.keys() - loaded:
            self._readers.pop(name).stop()
        for checker in self._checkers.values():
            checker.renew()
        for name in sorted(checked - self._checkers.keys()):
            self._checkers[name] = Checker(self._farm, name, self._answered, random.random)
        for name in sorted(loaded - self._readers.keys()):
            self._readers[name] = LoadReader(self._farm, name, self._loads, self._loaded)

    def _answered(self, name: str, outcome: Outcome) -> None:
        self.answers.setdefault(name, Answers()).add(outcome)
        self._checked(name, outcome)

    def hurry(self, name: str, *, silent: bool = False) -> None:
        """Ask a backend now, if it is asked at all: there is a sign that it died; or even silence."""
        if checker := self._checkers.get(name):
            checker.hurry(silent=silent)

    @property
    def load_reasons(self) -> dict[str, str]:
        """Why loads cannot be read, by backend."""
        return {f"{s}/{b}": why for s, reader in self._readers.items() for b, why in reader.reasons.items()}

    async def stop(self) -> None:
        """Ask no more."""
        for checker in self._checkers.values():
            checker.stop()
        for reader in self._readers.values():
            reader.stop()
        await self._loads.close()
