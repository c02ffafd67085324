"""Who a service may choose among: its servers with their marks, and a pool of them for each family."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from markway.balance.slots import exact_size, hash_size, interleave, maglev, steady_size
from markway.compiler.names import FAMILIES, Family, hexed, pool_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.balance.state import Weights
    from markway.config.model import Backend, Endpoint, Service
    from markway.marks import Field, Registry

SORRY = "(sorry)"
"""How the fallback server is called; no backend can have this name."""


def mark_names(service: Service) -> tuple[str, ...]:
    """Names that need a number: each backend, the fallback server, and the service if it has a tag."""
    names = [f"{service.name}/{backend.name}" for backend in service.backends]
    names += [_sorry_name(service)] if service.sorry else []
    names += [service.name] if service.persist or service.schedule.queued else []
    return tuple(names)


def _sorry_name(service: Service) -> str:
    return f"{service.name}/{SORRY}"


@dataclass(frozen=True, slots=True)
class Server:
    """A backend, or the fallback server, as the kernel will know it.

    `mark` is as nft writes it; `targets` are address and port by IP version, the port empty
    where the client's is kept.
    """

    name: str
    number: int
    mark: str
    weight: int
    priority: int
    cap: int | None
    targets: Mapping[int, tuple[str, str]]

    @property
    def endpoints(self) -> Iterator[str]:
        """Each target as an operator writes it."""
        for version, (address, port) in self.targets.items():
            bracketed = f"[{address}]" if version != 4 and port else address  # noqa: PLR2004
            yield f"{bracketed}:{port}" if port else address


_WATCHED, _LOADED = 16, 64
"""Slots for a backend that comes and goes, and for one whose weight follows its load."""


def current(service: Service, weights: Weights) -> dict[str, int]:
    """Each backend's weight now."""
    return dict(weights.get(service.name) or {backend.name: backend.weight for backend in service.backends})


def servers(service: Service, registry: Registry, marks: Field, weights: Weights) -> tuple[Server, ...]:
    """Every server of a service, backends first, by name."""
    now = current(service, weights)

    def server(name: str, weight: int, priority: int, cap: int | None, endpoints: tuple[Endpoint, ...]) -> Server:
        number = marks.place(registry.numbers[f"{service.name}/{name}"])
        targets = {
            4 if type(address) is IPv4Address else 6: (str(address), str(port or "")) for address, port in endpoints
        }
        return Server(name, number, hexed(number), weight, priority, cap, targets)

    found = [server(b.name, now[b.name], b.priority, b.max_connections, b.endpoints) for b in service.backends]
    if service.sorry:
        found.append(server(SORRY, 0, 0, None, service.sorry))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Pool:
    """The servers that share one family's new connections now, by weight, and the slots for it."""

    family: Family
    name: str
    weights: Mapping[str, int]
    size: int
    hashed: bool

    @property
    def table(self) -> tuple[str, ...]:
        """The server of each slot; empty if none is left."""
        return _table(tuple(self.weights.items()), self.size, self.hashed)


@lru_cache(maxsize=256)
def _table(weights: tuple[tuple[str, int], ...], size: int, hashed: bool) -> tuple[str, ...]:
    return (maglev if hashed else interleave)(dict(weights), size)


def pools(service: Service, registry: Registry, weights: Weights) -> tuple[Pool, ...]:
    """A pool for each family that the service listens on."""
    versions = {listener.address.version for listener in service.listeners}
    now = current(service, weights)
    return tuple(_pool(service, family, registry, now) for family in FAMILIES if family.version in versions)


def _pool(service: Service, family: Family, registry: Registry, now: Mapping[str, int]) -> Pool:
    version = family.version
    among = [b for b in service.backends if _serves(b.endpoints, version)]
    able = [backend for backend in among if now[backend.name]]
    best = min((backend.priority for backend in able), default=0)
    weights = {backend.name: now[backend.name] for backend in able if backend.priority == best}
    if not weights and _serves(service.sorry, version):
        weights = {SORRY: 1}
    name = pool_name(service, family)
    if not service.schedule.hashed:
        return Pool(family, name, weights, _size(service, among, weights), hashed=False)
    block = registry.blocks.get(name)
    return Pool(family, name, weights, hash_size(len(among), block and block.size), hashed=True)


def _size(service: Service, among: list[Backend], weights: Mapping[str, int]) -> int:
    if not service.watched:
        return exact_size(weights)
    return steady_size({b.name: b.weight for b in among}, len(among), _LOADED if service.load else _WATCHED)


def _serves(endpoints: Iterable[Endpoint], version: int) -> bool:
    return any(endpoint.address.version == version for endpoint in endpoints)
