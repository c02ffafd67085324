"""Schedules that decide about each connection: `least-connections`, `least-load`, `queue`.

The daemon's part:

    worker = QueueWorker()
    await worker.start()
    worker.publish(compiled.marks.mask, queued_services(compiled, loads))    # after each apply, weight or load
    worker.stats                                                             # for the API and metrics
    await worker.aclose()

The worker is a process of its own: a busy event loop would make packets wait. If it is gone or hangs, the kernel
decides by the slot tables.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markway.director.queueing.snapshot import queued_services
    from markway.director.queueing.state import QueuedBackend, QueuedService
    from markway.director.queueing.stats import BOUNDS, QueueStats, ServiceStats
    from markway.director.queueing.supervisor import QueueWorker
    from markway.director.queueing.telling import Telling

__all__ = [
    "BOUNDS",
    "QueueStats",
    "QueueWorker",
    "QueuedBackend",
    "QueuedService",
    "ServiceStats",
    "Telling",
    "queued_services",
]

_WHERE = {
    "queued_services": "snapshot",
    "QueuedBackend": "state",
    "QueuedService": "state",
    "BOUNDS": "stats",
    "QueueStats": "stats",
    "ServiceStats": "stats",
    "QueueWorker": "supervisor",
    "Telling": "telling",
}


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: the worker lives in this package too, and starts in half the time without."""
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
