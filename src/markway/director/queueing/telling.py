"""What the queue worker has been told of each service, so that a change costs what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.director.queueing.snapshot import queued_services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.compiler import Compiled
    from markway.config.model import Config
    from markway.director.farm import Farm
    from markway.director.queueing.state import QueuedService
    from markway.director.queueing.supervisor import QueueWorker


class Telling:
    """Tells a worker by what to decide."""

    def __init__(self, worker: QueueWorker) -> None:
        self._worker = worker
        self._told: dict[str, QueuedService | None] = {}

    def follow(self, config: Config, compiled: Compiled) -> None:
        """Another configuration is in force: services that are not in it any more, or do not ask, are forgotten."""
        before = self._told
        self._told = {s.name: before.get(s.name) for s in config.services if s.schedule.queued}
        if before.keys() - self._told.keys():
            self._tell(compiled)

    def tell(self, names: Iterable[str], compiled: Compiled, farm: Farm) -> None:
        """These services may have other weights or loads; those that do not ask are passed over."""
        if not (asked := self._told.keys() & names):
            return
        members = (farm.members[f"{name}/{b.name}"] for name in asked for b in farm.services[name].backends)
        loads = {member.name: member.seen.smooth for member in members if member.seen.smooth is not None}
        self._told |= {service.name: service for service in queued_services(compiled, loads, asked)}
        self._tell(compiled)

    def _tell(self, compiled: Compiled) -> None:
        self._worker.publish(compiled.marks.mask, filter(None, self._told.values()))
