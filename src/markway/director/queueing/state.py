"""What the daemon tells the queue worker of the services it decides for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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
