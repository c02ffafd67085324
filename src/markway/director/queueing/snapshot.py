"""What the daemon has to tell the queue worker, from a compiled configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.balance.feedback import SCALE
from markway.compiler.pools import pools, servers
from markway.director.queueing.state import QueuedBackend, QueuedService

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.compiler import Compiled
    from markway.config.model import Service

_TWO_CHOICES = "two-choices"


def queued_services(
    compiled: Compiled, loads: Mapping[str, float], names: Iterable[str] | None = None
) -> Iterator[QueuedService]:
    """What the worker has to know of a compiled configuration: just what the kernel will accept from it.

    Args:
        compiled: the configuration with its marks, and the weights that hold now.
        loads: what is known, by `service/backend`; 1 is fully loaded.
        names: of which services; all of them, if it is not given.
    """
    known = compiled.services
    for service in known.values() if names is None else (known[name] for name in names if name in known):
        if service.schedule.queued:
            yield _queued(service, compiled, loads)


def _queued(service: Service, compiled: Compiled, loads: Mapping[str, float]) -> QueuedService:
    registry, marks = compiled.registry, compiled.marks
    unit = SCALE if compiled.weights.get(service.name) else 1
    choosing = pools(service, registry, compiled.weights)
    found = []
    for server in servers(service, registry, marks, compiled.weights):
        among = [pool for pool in choosing if server.name in pool.weights]
        if among:
            weight = among[0].weights[server.name] / unit
            versions = tuple(pool.family.version for pool in among)
            load = loads.get(f"{service.name}/{server.name}")
            found.append(QueuedBackend(server.name, server.number, weight, versions, load))
    tag = marks.place(registry.numbers[service.name])
    return QueuedService(service.name, tag, service.policy or _TWO_CHOICES, tuple(found))
