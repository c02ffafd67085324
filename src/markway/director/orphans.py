"""Flows whose backend is gone: which to remove from the connection table, so that they heal.

A UDP flow without an entry goes to another backend with its next packet, and so does a TCP connection that nobody has
answered: its client asks again after a second, and else would ask the same dead backend. An established one cannot
move: without its entry it is refused, so that the client sees at once what else it would wait for; only a service that
says so wants it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.model import Protocol
from markway.director.events import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.config.model import Config, Service
    from markway.director.enforcer import Enforcer
    from markway.director.farm import Farm

BOTH = frozenset(Protocol)


class Orphans:
    """What is to be removed once the kernel gives these backends no new flows."""

    def __init__(self) -> None:
        self._named: dict[str, frozenset[Protocol]] = {}
        self._marked: dict[int, tuple[str, frozenset[Protocol]]] = {}

    def died(self, service: Service, name: str) -> None:
        """A backend is down: its UDP flows go, and TCP connections if nobody answered them or the service says so."""
        self._add(name, _of(service))

    def cut(self, name: str) -> None:
        """Everything of a backend goes, because an operator wants it."""
        self._add(name, BOTH)

    def removed(self, farm: Farm, config: Config, marks: Mapping[int, str]) -> None:
        """Another configuration follows: flows of backends that are not in it any more go, as of dead ones.

        So do those of one that is elsewhere now.

        Args:
            farm: what is known of backends until now.
            config: what follows.
            marks: the marks that backends have had until now.
        """
        left = {f"{service.name}/{b.name}": b.endpoints for service in config.services for b in service.backends}
        for mark, name in marks.items():
            member = farm.members.get(name)
            if member is not None and left.get(name) != member.backend.endpoints:
                self._marked[mark] = name, _of(farm.services[member.service])

    def take(self, marks: Mapping[int, str]) -> dict[int, tuple[str, frozenset[Protocol]]]:
        """What is to be removed now, by mark: the backend's name and the protocols."""
        found = self._marked
        found |= {mark: (name, self._named[name]) for mark, name in marks.items() if name in self._named}
        self._named, self._marked = {}, {}
        return found

    def _add(self, name: str, protocols: frozenset[Protocol]) -> None:
        self._named[name] = self._named.get(name, frozenset()) | protocols


def _of(service: Service) -> frozenset[Protocol]:
    spoken = {listener.protocol for listener in service.listeners}
    return frozenset(spoken if service.cut_orphans else spoken & {Protocol.UDP})


def remove(enforcer: Enforcer, orphans: Mapping[int, tuple[str, frozenset[Protocol]]]) -> list[Event]:
    """Remove flows; what was removed."""
    events = []
    for mark, (name, protocols) in orphans.items():
        if number := enforcer.forget([mark], protocols):
            service, _, backend = name.rpartition("/")
            which = " and ".join(sorted(protocols)) or "unanswered"
            text = f"{number} {which} flow{'' if number == 1 else 's'} cut"
            events.append(Event("cut", text, service, backend, {"flows": number}))
    return events
