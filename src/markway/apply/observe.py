"""What the kernel counted, beside what the program promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.kernel import table
from markway.kernel.conntrack import connections_by_mark
from markway.kernel.table import Count

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping

    from markway.kernel.netlink import Netlink
    from markway.program.model import BackendEntry, Program, ServiceEntry

_FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class BackendSeen:
    """One backend: what it was to get, and what it got since its counters began.

    `asked` and `got` are shares of the service's connections, 0 to 1; `got` is None without
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


def observe(netlink: Netlink, program: Program) -> list[ServiceSeen]:
    """Read all counters of a program that is in force."""
    seen = _Seen(
        given=_counts(netlink, program, "backends", "hosts"),
        traffic=_counts(netlink, program, "traffic"),
        offered=_counts(netlink, program, "listeners", "ranges"),
        active=connections_by_mark(netlink, program.mask),
    )
    return [_service(program, entry, seen) for entry in program.services]


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


def _service(program: Program, entry: ServiceEntry, seen: _Seen) -> ServiceSeen:
    elements = program.fragments[entry.name].elements
    keys = [key for name, items in elements.items() if name.startswith(("listeners", "ranges")) for key in items]
    given = {backend.name: seen.given.get(_key(backend), Count(0, 0)).packets for backend in entry.backends}
    total = sum(given.values())
    offered = sum(seen.offered[key].packets for key in keys if key in seen.offered)
    backends = tuple(_backend(backend, seen, given[backend.name], total) for backend in entry.backends)
    return ServiceSeen(
        entry.name, entry.mode, entry.schedule, entry.listeners, offered, max(offered - total, 0), backends
    )


def _backend(entry: BackendEntry, seen: _Seen, connections: int, total: int) -> BackendSeen:
    traffic = seen.traffic.get(_key(entry), Count(0, 0))
    return BackendSeen(
        entry.name,
        entry.mark,
        entry.weight,
        entry.priority,
        entry.endpoints,
        max(entry.shares.values(), default=0.0),
        connections / total if total else None,
        connections,
        seen.active[entry.mark],
        traffic.packets,
        traffic.octets,
    )


def _key(entry: BackendEntry) -> str:
    return f"0x{entry.mark:08x}"
