"""What the kernel counted, beside what the program promised."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from markway.kernel import table
from markway.kernel.conntrack import connections_by_mark
from markway.kernel.table import Count
from markway.program.impact import entry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.kernel.netlink import Netlink
    from markway.program.diff import Changes
    from markway.program.model import BackendEntry, Program, ServiceEntry

Baseline: TypeAlias = dict[str, dict[str, int]]

LEFT = ""
"""In a baseline, the connections of counters that are gone."""

_FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class BackendSeen:
    """One backend: what it was to get, and what it got.

    `asked` and `got` are shares of the service's connections, 0 to 1, since the service was last
    changed; the other figures are since the backend came into force. `got` is None without
    any. `active` are the connections that are not closed yet.
    """

    name: str
    mark: int
    weight: int
    priority: int
    endpoints: tuple[str, ...]
    asked: float
    got: float | None
    connections: int
    active: int
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """One service: `offered` connections came to its listeners, `refused` of them got no backend."""

    name: str
    mode: str
    schedule: str
    listeners: tuple[str, ...]
    offered: int
    refused: int
    backends: tuple[BackendSeen, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """All counters by element key, as nft writes it."""

    given: Mapping[str, Count]
    traffic: Mapping[str, Count]
    offered: Mapping[str, Count]
    active: Counter[int]


def observe(netlink: Netlink, program: Program, since: Baseline) -> list[ServiceSeen]:
    """Read all counters of a program that is in force.

    Args:
        netlink: a socket in the program's network namespace.
        program: what is in force.
        since: connections by service and backend at the service's last change.
    """
    seen = _Seen(
        given=_counts(netlink, program, "backends", "hosts"),
        traffic=_counts(netlink, program, "traffic"),
        offered=_counts(netlink, program, "listeners", "ranges"),
        active=connections_by_mark(netlink, program.mask),
    )
    return [_service(program, entry, seen, since.get(entry.name, {})) for entry in program.services]


def packets(netlink: Netlink, program: Program) -> dict[int, tuple[int, int]]:
    """By mark: how many packets were the first of a connection given to it, and how many came later, both ways."""
    first: Counter[int] = Counter()
    for name in ("backends4", "backends6", "hosts4", "hosts6"):
        first.update(_packets(netlink, name) if name in program.sets else {})
    later = _packets(netlink, "traffic")  # after the others: a packet that passes meanwhile is no silence
    return {mark: (count, later.get(mark, 0)) for mark, count in first.items()}


def _packets(netlink: Netlink, name: str) -> dict[int, int]:
    """The counters of a set whose keys are marks."""
    elements = table.read_elements(netlink, name)
    return {int.from_bytes(element.key, sys.byteorder): element.counted.packets for element in elements}


def baseline(netlink: Netlink, changes: Changes, before: Baseline) -> Baseline:
    """Connections counted so far by the services that are about to change, by service and backend.

    What a counter has that is about to go, with its backend or to begin anew, is kept under `LEFT`.
    """
    found: Baseline = {}
    for part in changes.parts:
        entry = entry_of(changes.old.fragments.get(part.owner))
        if part.kind != "changed" or entry is None:
            continue
        counts = {backend.name: 0 for backend in entry.backends}
        counts[LEFT] = before.get(part.owner, {}).get(LEFT, 0)
        marks = {_key(backend): backend.name for backend in entry.backends}
        for name, items in changes.old.fragments[part.owner].elements.items():
            for mark in items if name.startswith(("backends", "hosts")) else ():
                stays = name in changes.new.sets and not any(
                    mark in side.get(name, {}) for side in (part.add, part.delete)
                )
                element = table.read_element(netlink, changes.old.sets[name], mark)
                counts[marks[mark] if stays else LEFT] += element.counted.packets if element else 0
        found[part.owner] = counts
    return found


def _counts(netlink: Netlink, program: Program, *kinds: str) -> dict[str, Count]:
    found: dict[str, Count] = {}
    for kind in kinds:
        for name in (kind, *(f"{kind}{version}" for version in _FAMILIES)):
            item = program.sets.get(name)
            for element in table.read_elements(netlink, name) if item else ():
                assert item  # noqa: S101
                key = table.spelled(item, element)
                before = found.get(key, Count(0, 0))
                found[key] = Count(before.packets + element.counted.packets, before.octets + element.counted.octets)
    return found


def _service(program: Program, entry: ServiceEntry, seen: _Seen, since: Mapping[str, int]) -> ServiceSeen:
    elements = program.fragments[entry.name].elements
    keys = [key for name, items in elements.items() if name.startswith(("listeners", "ranges")) for key in items]
    given = {backend.name: seen.given.get(_key(backend), Count(0, 0)).packets for backend in entry.backends}
    total = sum(given.values())
    offered = sum(seen.offered[key].packets for key in keys if key in seen.offered)
    fresh = {name: max(count - since.get(name, 0), 0) for name, count in given.items()}
    together = sum(fresh.values())
    shares = {name: count / together if together else None for name, count in fresh.items()}
    backends = tuple(_backend(b, seen, given[b.name], shares[b.name]) for b in entry.backends)
    refused = max(offered - total - since.get(LEFT, 0), 0)
    return ServiceSeen(entry.name, entry.mode, entry.schedule, entry.listeners, offered, refused, backends)


def _backend(entry: BackendEntry, seen: _Seen, connections: int, got: float | None) -> BackendSeen:
    first, later = (counts.get(_key(entry), Count(0, 0)) for counts in (seen.given, seen.traffic))
    return BackendSeen(
        entry.name,
        entry.mark,
        entry.weight,
        entry.priority,
        entry.endpoints,
        max(entry.shares.values(), default=0.0),
        got,
        connections,
        seen.active[entry.mark],
        first.packets + later.packets,
        first.octets + later.octets,
    )


def _key(entry: BackendEntry) -> str:
    return f"0x{entry.mark:08x}"
