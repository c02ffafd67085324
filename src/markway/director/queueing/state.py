"""What the daemon tells the queue worker of the services it decides for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markway.balance.feedback import SCALE
from markway.compiler.pools import pools, servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.compiler import Compiled
    from markway.config.model import Service

_TWO_CHOICES = "two-choices"


@dataclass(frozen=True, slots=True)
class QueuedBackend:
    """A backend that may have new connections now, of the IP `versions` given (4, 6).

    `weight` is in the file's unit; `load` is 1 when it is fully loaded, None if that is not known.
    """

    name: str
    mark: int
    weight: float
    versions: tuple[int, ...]
    load: float | None = None


@dataclass(frozen=True, slots=True)
class QueuedService:
    """A service whose connections are decided by the worker; `tag` is its own mark."""

    name: str
    tag: int
    policy: str
    backends: tuple[QueuedBackend, ...]

    @property
    def record(self) -> dict[str, Any]:
        """The service as JSON can hold it; `from_record` is the inverse."""
        backends = [[b.name, b.mark, b.weight, b.versions, b.load] for b in self.backends]
        return {"name": self.name, "tag": self.tag, "policy": self.policy, "backends": backends}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> QueuedService:
        """A service from what `record` gave."""
        backends = (
            QueuedBackend(name, mark, weight, tuple(versions), load)
            for name, mark, weight, versions, load in record["backends"]
        )
        return cls(record["name"], record["tag"], record["policy"], tuple(backends))


def queued_services(compiled: Compiled, loads: Mapping[str, float]) -> Iterator[QueuedService]:
    """What the worker has to know of a compiled configuration: just what the kernel will accept from it.

    Args:
        compiled: the configuration with its marks, and the weights that hold now.
        loads: what is known, by `service/backend`; 1 is fully loaded.
    """
    for service in compiled.config.services:
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
