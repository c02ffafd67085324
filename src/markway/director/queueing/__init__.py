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

from markway.director.queueing.state import QueuedBackend, QueuedService, queued_services
from markway.director.queueing.stats import BOUNDS, QueueStats, ServiceStats
from markway.director.queueing.supervisor import QueueWorker

__all__ = [
    "BOUNDS",
    "QueueStats",
    "QueueWorker",
    "QueuedBackend",
    "QueuedService",
    "ServiceStats",
    "queued_services",
]
