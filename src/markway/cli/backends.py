"""Backends as a table for a person. Pure: records in, text out."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from markway.cli.columns import Columns, Row, cut

Record = dict[str, Any]

BACKENDS = Columns(
    ("BACKEND", "STATE", "MARK", "ADDRESS", "WEIGHT", "LOAD", "CHECK", "ASKED", "GOT", "CONNECTIONS", "ACTIVE",
     "PACKETS", "BYTES"),
    left=frozenset({"BACKEND", "STATE", "MARK", "ADDRESS", "CHECK"}),
    dropped=("MARK", "PACKETS", "ADDRESS", "BYTES", "ASKED", "CHECK", "LOAD"),
    optional=frozenset({"LOAD", "CHECK"}),
)  # fmt: skip

_WHOLE = 0.995
"""The factor of a load from which on it is shown as none."""

_LONGEST_CHECK = 40


def backend_rows(service: Record) -> list[Row]:
    """A row for each backend of a service."""
    return [
        Row(
            {
                "BACKEND": Text(b["name"]),
                "STATE": Text(state(b)),
                "MARK": Text(f"{b['mark']:#x}"),
                "ADDRESS": Text(", ".join(b["endpoints"])),
                "WEIGHT": Text(weight(b)),
                "LOAD": Text(load(b) if service["load"] else "-"),
                "CHECK": cut(Text(checked(b)), _LONGEST_CHECK),
                "ASKED": Text(f"{b['asked']:.1%}"),
                "GOT": Text("-" if b["got"] is None else f"{b['got']:.1%}"),
                **{name.upper(): Text(f"{b[name]:,}") for name in ("connections", "active", "packets", "bytes")},
            }
        )
        for b in service["backends"]
    ]


def state(backend: Record) -> str:
    """A backend's state, with what is left where it is emptied."""
    word = str(backend["state"])
    return f"{word} ({backend['active']:,} left)" if word == "drain" else word


def weight(backend: Record) -> str:
    """What new connections are shared by, of what it is worth: `3`, or `1.5/3`."""
    now, whole = f"{backend['effective']:.4g}", f"{backend['weight']:.5g}"
    return now if now == whole else f"{now}/{whole}"


def load(backend: Record) -> str:
    """The load as it was read, and what it leaves of the weight: `12.5`, or `87 → 60%`."""
    reading = "?" if backend["reading"] is None else f"{backend['reading']:.3g}"
    return reading if backend["factor"] >= _WHOLE else f"{reading} → {backend['factor']:.0%}"


def checked(backend: Record) -> str:
    """The last answer to a check: how long it took, or what was wrong."""
    found = backend["checked"]
    if found is None:
        return "-"
    took = f"{found['took'] * 1000:.1f} ms"
    return (found["warning"] or took) if found["well"] else str(found["reason"])
