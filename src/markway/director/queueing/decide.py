"""Which mark a first packet goes on with: the worker's account of services and connections."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

from markway.balance.policies import POLICIES, Candidate, Connection, Pool
from markway.director.queueing.own import OwnPolicy, Undecided
from markway.director.queueing.packet import IP, IP6, UDP, ends
from markway.director.queueing.state import QueuedService

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markway.balance.policies import Policy

_REMEMBERED = 0.5
"""Seconds for which a flow's next datagram is given what the first was; by then its connection has the mark."""

_FAMILIES = {4: IP, 6: IP6}
_SHORTEST = 28
_NO_OPTIONS = 0x45


class Asked:
    """One service: its pools by address family, its policy, and what became of its connections."""

    def __init__(self, service: QueuedService, calling: Callable[[int], None]) -> None:
        self.name = service.name
        self.tag = service.tag
        self.policy: Policy | None = POLICIES.get(service.policy)
        self.named = service.policy
        self.own: OwnPolicy | None = None
        self.resting = False
        self._calling = calling
        self.candidates: dict[str, Candidate] = {}
        self.pools: dict[int, Pool] = {}
        self.decided = 0
        self.undecided: Counter[str] = Counter()
        self.said = ""
        """What the policy failed with last."""

    def fill(self, service: QueuedService, chance: Callable[[], float], counts: Mapping[int, int]) -> None:
        """Take over the backends that may be chosen now; who was there keeps its account."""
        before, self.candidates = self.candidates, {}
        for backend in service.backends:
            one = before.get(backend.name)
            if one is None or one.mark != backend.mark:
                one = Candidate(backend.name, backend.mark, backend.weight, connections=counts.get(backend.mark, 0))
            one.weight, one.load = backend.weight, backend.load
            self.candidates[backend.name] = one
        for version, family in _FAMILIES.items():
            among = [self.candidates[backend.name] for backend in service.backends if version in backend.versions]
            known = self.pools.pop(family, None)
            if among:
                self.pools[family] = Pool(among, chance, known.turn if known else 0)

    def chosen(self, family: int, data: bytearray, at: int, end: int) -> Candidate:
        """Who gets this connection.

        Raises:
            Undecided: nobody says.
        """
        pool = self.pools.get(family)
        if pool is None:
            raise Undecided("no backend")
        if self.policy:
            return self.policy(pool)
        if self.own is None:
            raise Undecided("suspended") if self.resting else Undecided("missing", f"no policy is called {self.named}")
        connection = self._connection(family, data, at, end)
        self._calling(self.tag)
        try:
            return self.own(connection, pool)
        finally:
            self._calling(0)

    def _connection(self, family: int, data: bytearray, at: int, end: int) -> Connection:
        found = ends(family, data, at, end)
        if found is None:
            raise Undecided("unreadable", "the packet's headers cannot be read")
        protocol = "udp" if found.protocol == UDP else "tcp"
        source, destination = (socket.inet_ntop(family, each) for each in (found.source, found.destination))
        return Connection(self.name, protocol, source, found.source_port, destination, found.destination_port)


class Decisions:
    """All services that ask. `decide`, `ended` and `recounted` are called by the kernel's news, and must not fail."""

    def __init__(
        self, chance: Callable[[], float], clock: Callable[[], float], calling: Callable[[int], None] = lambda _: None
    ) -> None:
        """Begin with no services.

        Args:
            chance: draws evenly from 0 to 1, 1 excluded.
            clock: in seconds.
            calling: is told whose policy is being called, by tag, and 0 when it has returned: in case it never does.
        """
        self._calling = calling
        self._chance = chance
        self._clock = clock
        self.field = 0
        self.services: dict[int, Asked] = {}
        self.unknown = 0
        """Packets with a tag of no service: the program changed while they were on their way."""
        self._by_mark: dict[int, Candidate] = {}
        self._own: dict[str, OwnPolicy] = {}
        self._flows: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}
        self._turned = 0.0

    def update(self, message: Mapping[str, Any]) -> None:
        """Take over what the daemon says.

        `field`, the `services` that changed, the tags that are `gone`, and the policies that are `resting`: all of them
        that took a worker with them not long ago.
        """
        self.field = message["field"]
        for tag in message["gone"]:
            self.services.pop(tag, None)
        counts = {mark: one.connections for mark, one in self._by_mark.items()}
        for record in message["services"]:
            service = QueuedService.from_record(record)
            asked = self.services.get(service.tag)
            if asked is None or (asked.name, asked.named) != (service.name, service.policy):
                asked = self.services[service.tag] = Asked(service, self._calling)
            asked.fill(service, self._chance, counts)
        for asked in self.services.values():
            asked.resting = asked.named in message["resting"]
            asked.own = None if asked.resting else self._loaded(asked)
        self._by_mark = {one.mark: one for asked in self.services.values() for one in asked.candidates.values()}
        self._flows, self._older = {}, {}  # an answer may be of a backend that is gone

    def _loaded(self, asked: Asked) -> OwnPolicy | None:
        if ":" not in asked.named:
            return None
        if asked.named not in self._own:
            self._calling(asked.tag)
            self._own[asked.named] = OwnPolicy(asked.named, self._clock)
            self._calling(0)
        return self._own[asked.named]

    def decide(self, family: int, mark: int, data: bytearray, at: int, end: int) -> int:
        """The mark that a packet goes on with: a backend's in place of the tag, or the tag if nobody decided."""
        asked = self.services.get(mark & self.field)
        if asked is None:
            self.unknown += 1
            return mark
        key = _datagram(family, data, at, end)
        if key and (known := self._remembered(key)):
            return mark & ~self.field | known
        try:
            chosen = asked.chosen(family, data, at, end)
        except Undecided as why:
            asked.undecided[why.kind] += 1
            asked.said = str(why) or asked.said
            return mark
        except Exception as error:  # noqa: BLE001  (without a verdict the packet would wait for ever)
            asked.undecided["error"] += 1
            asked.said = f"{type(error).__name__}: {error}"
            return mark
        chosen.connections += 1
        asked.decided += 1
        if key:
            self._flows[key] = chosen.mark
        return mark & ~self.field | chosen.mark

    def _remembered(self, key: bytes) -> int:
        """A flow's second datagram may be here before the first has reached the connection table."""
        now = self._clock()
        if now - self._turned > _REMEMBERED:
            self._flows, self._older, self._turned = {}, self._flows, now
        return self._flows.get(key) or self._older.get(key) or 0

    def ended(self, mark: int) -> None:
        """A connection with this mark is over."""
        one = self._by_mark.get(mark)
        if one and one.connections:
            one.connections -= 1

    def recounted(self, counts: Mapping[int, int]) -> None:
        """All open connections were counted."""
        for mark, one in self._by_mark.items():
            one.connections = counts.get(mark, 0)

    @property
    def connections(self) -> dict[int, int]:
        """Open connections by mark, of the backends that have any."""
        return {mark: one.connections for mark, one in self._by_mark.items() if one.connections}


def _datagram(family: int, data: bytearray, at: int, end: int) -> bytes:
    """What tells flows of UDP apart: addresses and ports. Nothing for other packets, and where they are not at once."""
    if family == IP:
        plain = end - at >= _SHORTEST and data[at] == _NO_OPTIONS and data[at + 9] == UDP
        return bytes(data[at + 12 : at + 24]) if plain else b""
    plain = end - at >= _SHORTEST and data[at + 6] == UDP
    return bytes(data[at + 8 : at + 44]) if plain else b""
