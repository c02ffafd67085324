"""What a program has, by the names that the file gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.blocklists import lists_in
from markway.compiler.guarding import guards_in

if TYPE_CHECKING:
    from markway.program.model import Program


def held_by(program: Program) -> dict[str, list[str]]:
    """Names by noun; among those of policies, the firewall's own reasons to drop, which have a slash."""
    return {
        "service": [entry.name for entry in program.services],
        "shape": [entry.name for entry in program.shapes],
        "mark": [entry.name for entry in program.marks],
        "policy": [entry.name for entry in program.policies],
        "guard": guards_in(program),
        "blocklist": lists_in(program),
    }
