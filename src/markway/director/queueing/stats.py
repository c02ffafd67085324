"""What the queue worker did, added up over its lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS = (0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
"""Upper bounds of the latency histogram's buckets in seconds; one more bucket is for what took longer."""


@dataclass(slots=True)
class ServiceStats:
    """One service: connections decided, and those left to the slot table by reason.

    Reasons: `no backend`; of a policy of the operator's own `missing`, `raised`, `late`, `nonsense`, `suspended` (it
    failed too often just now), `unreadable` (headers); `error` is Markway's fault. `said` is the last failure in words.
    """

    decided: int = 0
    undecided: dict[str, int] = field(default_factory=dict)
    said: str = ""


@dataclass(slots=True)
class QueueStats:
    """Counts since the daemon began, but `connections` (open now, by mark) and `running`.

    `latency` counts verdicts by the time that their batch took in the worker (`BOUNDS`). `lost` is how often more
    connections ended than were heard of. `restarts` counts lives but the first, `hung` those ended for their silence.
    """

    running: bool = False
    verdicts: int = 0
    unknown: int = 0
    lost: int = 0
    restarts: int = 0
    hung: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    services: dict[str, ServiceStats] = field(default_factory=dict)
    connections: dict[int, int] = field(default_factory=dict)

    def add(self, report: Mapping[str, Any]) -> list[str]:
        """Take in what a worker reports; returns the services whose policy failed."""
        self.verdicts += report["verdicts"]
        self.unknown += report["unknown"]
        self.lost += report["lost"]
        self.latency = [old + new for old, new in zip(self.latency, report["latency"], strict=True)]
        self.connections = {int(mark): count for mark, count in report["connections"].items()}
        failed = []
        for name, seen in report["services"].items():
            service = self.services.setdefault(name, ServiceStats())
            service.decided += seen["decided"]
            for reason, count in seen["undecided"].items():
                service.undecided[reason] = service.undecided.get(reason, 0) + count
            service.said = seen["said"]
            if seen["undecided"].keys() - {"no backend", "unreadable"}:
                failed.append(name)
        return failed
