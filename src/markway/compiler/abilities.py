"""What a kernel can do of what a program may want, and what stands in for what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from markway.compiler.asking import Asking

if TYPE_CHECKING:
    from collections.abc import Mapping

DISCIPLINES = frozenset(
    {"htb", "tbf", "prio", "sfq", "fq_codel", "cake", "fq", "pfifo", "bfifo", "pfifo_fast"},
)
"""Every queueing discipline that a file can ask for."""

FILTERS = frozenset({"u32", "fw", "route"})
"""Every classifier of tc that a file can ask for."""

STAND_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cake": ("fq_codel", "sfq", "pfifo"),
        "fq_codel": ("sfq", "pfifo"),
        "fq": ("fq_codel", "sfq", "pfifo"),
        "sfq": ("fq_codel", "pfifo"),
        "pfifo_fast": ("prio", "pfifo"),
        "prio": ("pfifo",),
    }
)
"""What takes the place of a discipline as a leaf, the nearest first."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What this kernel has of what a configuration asks for. The default has everything.

    `disciplines` and `filters` are the kinds that work; kinds that the configuration has no use for may be in it
    or not. `ifb` is whether what arrives can be sent through a device of ours: an IFB, the `ingress` discipline,
    u32 and the action `mirred`.
    """

    asking: Asking = Asking.QUEUE
    disciplines: frozenset[str] = DISCIPLINES
    filters: frozenset[str] = FILTERS
    ifb: bool = True
    synproxy: bool = True


class CompileError(ValueError):
    """The file asks for what cannot be had: together with something else, or from this kernel.

    `origin` is the key of the file, `hint` what would help.
    """

    def __init__(self, origin: tuple[str | int, ...], message: str, hint: str = "") -> None:
        """Say where, what and how to mend it."""
        super().__init__(message)
        self.origin, self.message, self.hint = origin, message, hint
