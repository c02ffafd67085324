"""Figures of policies, guards and lists for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

Record = dict[str, Any]

_POLICY = {
    "packets": ("packets", "Packets that began what a policy decides."),
    "bytes": ("bytes", "Bytes of the same."),
    "over": ("over_packets", "Packets of sources that had too much."),
}
_GUARD = {
    "packets": ("refused_packets", "Packets that a guard refused."),
    "bytes": ("refused_bytes", "Bytes of the same."),
    "attempts": ("attempts", "Attempts that a guard counted, since the daemon began."),
    "bans": ("bans", "Bans because of them."),
}
_BLOCKLIST = {
    "packets": ("refused_packets", "Packets that a list refused."),
    "octets": ("refused_bytes", "Bytes of the same."),
}


def policy_metrics(policies: Sequence[Record]) -> Iterator[Metric]:
    """What each policy decided, and each other reason to drop; none where there are none."""
    yield from _counters("policy", _POLICY, policies)


def guard_metrics(guards: Sequence[Record]) -> Iterator[Metric]:
    """Whom each guard keeps out, what it refused, and what it counted; none where there are none."""
    if not guards:
        return
    held = {
        key: GaugeMetricFamily(f"markway_guard_{key}", f"Sources that are {text} now.", labels=("guard", "family"))
        for key, text in (("banned", "kept out"), ("slowed", "slowed"))
    }
    counting = GaugeMetricFamily("markway_guard_counting", "1 while the daemon counts attempts.", labels=("guard",))
    for guard in guards:
        counting.add_metric((guard["name"],), float(guard["counting"]))
        for key, metric in held.items():
            for family, number in guard[key].items():
                metric.add_metric((guard["name"], family), number)
    yield from held.values()
    yield counting
    yield from _counters("guard", _GUARD, guards)


def blocklist_metrics(blocklists: Sequence[Record]) -> Iterator[Metric]:
    """What each list says, whether that is in force, and what it refused; none where there are none."""
    if not blocklists:
        return
    whole = {
        "entries": ("entries", "Entries of a list when it was read last."),
        "in_force": ("in_force", "1 if the kernel holds the list."),
        "changed": ("read_timestamp_seconds", "When its content was read last, in seconds since the epoch."),
    }
    for key, (name, text) in whole.items():
        metric = GaugeMetricFamily(f"markway_blocklist_{name}", text, labels=("blocklist",))
        for one in blocklists:
            if key != "changed" or one[key]:  # one that was never read has no such time
                metric.add_metric((one["name"],), float(one[key]))
        yield metric
    yield from _counters("blocklist", _BLOCKLIST, blocklists)


def _counters(what: str, kinds: dict[str, tuple[str, str]], records: Sequence[Record]) -> Iterator[Metric]:
    for key, (name, text) in kinds.items():
        metric = CounterMetricFamily(f"markway_{what}_{name}", text, labels=(what,))
        for one in records:
            if one[key] is not None:
                metric.add_metric((one["name"],), one[key])
        if metric.samples:
            yield metric
