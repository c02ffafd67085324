"""Policies as tables and lines for a person. Pure: records in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from markway.cli.columns import Columns, Row, octets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markway.program.model import PolicyEntry

Record = dict[str, Any]

POLICIES = Columns(
    ("POLICY", "FROM", "TO", "VERDICT", "PACKETS", "BYTES", "OVER"),
    left=frozenset({"POLICY", "FROM", "TO", "VERDICT"}),
    dropped=("BYTES", "OVER"),
    optional=frozenset({"OVER"}),
)


def policy_rows(policies: Sequence[Record]) -> list[Row]:
    """A row for each policy, and for each other reason to drop."""
    return [
        Row(
            {
                "POLICY": Text(one["name"]),
                "FROM": Text(", ".join(one["from"])),
                "TO": Text(", ".join(one["to"])),
                "VERDICT": Text(one["verdict"]),
                "PACKETS": Text(f"{one['packets']:,}"),
                "BYTES": Text(octets(one["bytes"])),
                "OVER": Text("-" if one["over"] is None else f"{one['over']:,}"),
            }
        )
        for one in policies
    ]


def described(policies: Sequence[PolicyEntry]) -> Iterator[str]:
    """What each policy of the file does, in the order in which they are tried."""
    for one in policies:
        if "/" not in one.name:
            yield f"policy {one.name}: {', '.join(one.sources)} → {', '.join(one.targets)}, {one.verdict}"
