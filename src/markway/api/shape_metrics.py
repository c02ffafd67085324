"""Figures of shapes, their classes and marking rules for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

Record = dict[str, Any]

_COUNTERS = {
    "sent": ("bytes", "Bytes that left."),
    "packets": ("packets", "Packets that left."),
    "dropped": ("dropped", "Packets that were dropped."),
    "overlimits": ("overlimits", "How often it had to wait for its rate."),
    "borrowed": ("borrowed", "Packets that left on the rate of a class above."),
    "lent": ("lent", "Packets that left from below on this one's rate."),
}
_GAUGES = {
    "backlog": ("backlog_bytes", "Bytes that wait."),
    "waiting": ("backlog_packets", "Packets that wait."),
    "now": ("rate_bits", "Bits per second, as the kernel measured the last seconds."),
    "rate": ("rate_configured_bits", "Bits per second by the file."),
    "ceil": ("ceil_configured_bits", "Bits per second by the file that it may borrow up to."),
}


def shape_metrics(shapes: Sequence[Record]) -> Iterator[Metric]:
    """Every metric of every shape; none where there are no shapes."""
    if not shapes:
        return
    text = "1 if it stands, 0 if its device is absent or not ours."
    standing = GaugeMetricFamily("markway_shape_up", text, labels=("shape",))
    for shape in shapes:
        standing.add_metric((shape["name"],), float(shape["state"] == "up"))
    yield standing
    yield from _figures("shape", ("shape",), [((shape["name"],), shape) for shape in shapes])
    classes = [((shape["name"], one["name"]), one) for shape in shapes for one in shape["classes"]]
    yield from _figures("class", ("shape", "class"), classes)


def mark_metrics(marks: Sequence[Record]) -> Iterator[Metric]:
    """What each marking rule has marked; none where there are none."""
    for key in ("packets", "bytes") if marks else ():
        metric = CounterMetricFamily(f"markway_mark_{key}", f"{key.capitalize()} that a rule marked.", labels=("mark",))
        for mark in marks:
            metric.add_metric((mark["name"],), mark[key])
        yield metric


def _figures(what: str, labels: Sequence[str], records: Iterable[tuple[tuple[str, ...], Record]]) -> Iterator[Metric]:
    records = list(records)
    for kinds, family in ((_COUNTERS, CounterMetricFamily), (_GAUGES, GaugeMetricFamily)):
        for key, (name, text) in kinds.items():
            metric = family(f"markway_{what}_{name}", text, labels=labels)
            for values, record in records:
                if record.get(key) is not None:
                    metric.add_metric(values, record[key])
            if metric.samples:
                yield metric
