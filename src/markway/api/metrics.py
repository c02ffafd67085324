"""Figures for Prometheus, read when they are asked for: what has left is in no answer any more."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from markway import __version__
from markway.api.guard_metrics import blocklist_metrics, guard_metrics, policy_metrics
from markway.api.shape_metrics import mark_metrics, shape_metrics
from markway.api.view import STATES, guards, marks, policies, services, shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from markway.api.look import Look
    from markway.director.answers import Answers
    from markway.director.daemon import Director
    from markway.director.queueing.stats import QueueStats

Record = dict[str, Any]

_BACKEND = ("service", "backend")


@dataclass(frozen=True, eq=False)
class Figures(Collector):
    """All figures of one moment."""

    look: Look
    answers: Mapping[str, Answers]
    events: Mapping[str, int]
    latency: float
    queue: QueueStats | None

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        told = list(services(self.look))
        backends = [(service["name"], backend) for service in told for backend in service["backends"]]
        yield from _services(told)
        yield from _traffic(backends)
        yield from _weights(backends)
        yield from self._checks(backends)
        yield from shape_metrics(list(shapes(self.look)))
        yield from mark_metrics(list(marks(self.look)))
        yield from policy_metrics(list(policies(self.look)))
        yield from guard_metrics(list(guards(self.look)))
        yield from blocklist_metrics(self.look.blocklists)
        yield from self._daemon()
        if self.queue is not None:
            yield from _queue(self.queue, {service["name"] for service in told})

    def _checks(self, backends: Iterable[tuple[str, Record]]) -> Iterator[Metric]:
        outcomes = CounterMetricFamily("markway_backend_checks", "Checks answered.", labels=(*_BACKEND, "outcome"))
        took = SummaryMetricFamily("markway_backend_check_seconds", "How long checks took.", labels=_BACKEND)
        for service, backend in backends:
            answers = self.answers.get(f"{service}/{backend['name']}")
            if answers is not None:
                labels = (service, backend["name"])
                outcomes.add_metric((*labels, "well"), answers.well)
                outcomes.add_metric((*labels, "ill"), answers.ill)
                took.add_metric(labels, answers.well + answers.ill, answers.seconds)
        yield outcomes
        yield took

    def _daemon(self) -> Iterator[Metric]:
        yield InfoMetricFamily("markway_build", "What runs.", {"version": __version__})
        program = self.look.present
        held = GaugeMetricFamily("markway_in_force", "1 if the kernel holds the program, 0 if it was damaged.")
        held.add_metric((), float(program.program is not None))
        yield held
        update = GaugeMetricFamily(
            "markway_weights_update_seconds", "How long the last change of weights took to the kernel."
        )
        update.add_metric((), self.latency)
        yield update
        events = CounterMetricFamily("markway_events", "Events by kind.", labels=("kind",))
        for kind, count in sorted(self.events.items()):
            events.add_metric((kind,), count)
        yield events


def _services(told: Iterable[Record]) -> Iterator[Metric]:
    offered = CounterMetricFamily(
        "markway_service_offered", "Connections to a service's listeners.", labels=("service",)
    )
    refused = CounterMetricFamily("markway_service_refused", "Those that got no backend.", labels=("service",))
    for service in told:
        offered.add_metric((service["name"],), service["offered"])
        refused.add_metric((service["name"],), service["refused"])
    yield offered
    yield refused


def _traffic(backends: Iterable[tuple[str, Record]]) -> Iterator[Metric]:
    whole = {
        "connections": "Connections given to a backend.",
        "packets": "Packets of a backend's connections, both ways.",
        "bytes": "Bytes of the same.",
    }
    counters = {
        key: CounterMetricFamily(f"markway_backend_{key}", text, labels=_BACKEND) for key, text in whole.items()
    }
    active = GaugeMetricFamily("markway_backend_active_connections", "Connections not closed yet.", labels=_BACKEND)
    for service, backend in backends:
        labels = (service, backend["name"])
        active.add_metric(labels, backend["active"])
        for key, counter in counters.items():
            counter.add_metric(labels, backend[key])
    yield active
    yield from counters.values()


def _weights(backends: Iterable[tuple[str, Record]]) -> Iterator[Metric]:
    state = GaugeMetricFamily("markway_backend_state", "1 for the state it is in.", labels=(*_BACKEND, "state"))
    gauges = {
        "effective": ("weight", "The weight that new connections are shared by."),
        "weight": ("weight_configured", "The weight by the file or the operator."),
        "asked": ("share_asked", "The share of the service's new connections it is to get, 0 to 1."),
        "got": ("share_got", "The share it got since the service was last changed."),
        "reading": ("load", "Its load as it was read."),
        "factor": ("load_factor", "What its load leaves of its weight, 0 to 1."),
    }
    made = {
        key: GaugeMetricFamily(f"markway_backend_{name}", text, labels=_BACKEND) for key, (name, text) in gauges.items()
    }
    for service, backend in backends:
        labels = (service, backend["name"])
        for one in STATES:
            state.add_metric((*labels, one), float(one == backend["state"]))
        for key, gauge in made.items():
            if backend[key] is not None:
                gauge.add_metric(labels, backend[key])
    yield state
    yield from made.values()


def _queue(stats: QueueStats, present: set[str]) -> Iterator[Metric]:
    from markway.director.queueing.stats import BOUNDS  # noqa: PLC0415  (only who queues needs it)

    running = GaugeMetricFamily("markway_queue_running", "1 if the queue worker runs.")
    running.add_metric((), float(stats.running))
    yield running
    for name, value, text in (
        ("verdicts", stats.verdicts, "Packets that the queue worker has answered."),
        ("restarts", stats.restarts, "How often the queue worker was started again."),
    ):
        counter = CounterMetricFamily(f"markway_queue_{name}", text)
        counter.add_metric((), value)
        yield counter
    latency = HistogramMetricFamily("markway_queue_latency_seconds", "How long a verdict's batch took in the worker.")
    counts = [sum(stats.latency[: index + 1]) for index in range(len(stats.latency))]
    bounds = [*map(str, BOUNDS), "+Inf"]
    latency.add_metric((), list(zip(bounds, counts, strict=True)), sum_value=None)
    yield latency
    decided = CounterMetricFamily("markway_queue_decided", "Connections that the worker decided.", labels=("service",))
    fallbacks = CounterMetricFamily(
        "markway_queue_fallbacks", "Connections left to the slot table.", labels=("service", "reason")
    )
    for name in sorted(stats.services.keys() & present):
        decided.add_metric((name,), stats.services[name].decided)
        for reason, count in sorted(stats.services[name].undecided.items()):
            fallbacks.add_metric((name, reason), count)
    yield decided
    yield fallbacks


async def exposition(director: Director, look: Look, accepted: str = "") -> tuple[bytes, str]:
    """All figures as text, and its content type; `accepted` is what the asker accepts."""
    queue = getattr(director, "queue", None)
    figures = Figures(
        look,
        {name: replace(answers) for name, answers in director.watch.answers.items()},
        dict(director.events.counts),
        director.latency,
        queue and deepcopy(queue.stats),
    )
    return await asyncio.to_thread(_written, figures, accepted)


def _written(figures: Figures, accepted: str) -> tuple[bytes, str]:
    registry = CollectorRegistry()
    registry.register(figures)
    ProcessCollector(registry=registry)
    encoder, kind = choose_encoder(accepted)
    return encoder(registry), kind
