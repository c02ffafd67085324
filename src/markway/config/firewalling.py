"""Who may reach whom: frozen values, already checked, free of syntax.

`origin` is the key of the file that a value comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markway.config.model import Network, SourceRate
    from markway.config.shaping import Match, Origin

SELF, ANY = "self", "any"
"""The names of what needs no zone: this machine, and everywhere else."""


class Verdict(StrEnum):
    """What becomes of a connection; `reject` tells whoever asked for it."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Zone:
    """A place that packets come from and go to: behind one of `devices`, and in one of `networks`, if there are any.

    `spoofed` drops what comes in by a device that the route to its source is not by.
    """

    name: str
    devices: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    spoofed: bool = True
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of new connections from one of `sources` to one of `targets`, zones or `SELF` or `ANY`.

    Without `matches`, of all. `log` is how often it is logged; `rate` and `max_connections` are for each source.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    verdict: Verdict
    matches: tuple[Match, ...] = ()
    log: SourceRate | None = None
    rate: SourceRate | None = None
    max_connections: int | None = None
    synproxy: bool = False
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Firewalling:
    """All that the file says of it. Policies are in the file's order: the first that fits decides.

    With `closed`, what no policy fits is dropped, but what this machine sends.
    """

    zones: tuple[Zone, ...] = ()
    policies: tuple[Policy, ...] = ()
    closed: bool = False
    icmp: bool = True
    """Whether echo requests are answered; errors and neighbour discovery always pass."""
    dhcp: bool = True
    log: SourceRate | None = None
    """How often a drop is logged, each reason by itself."""
    refuse_lockout: bool = True
    origin: Origin = field(default=(), compare=False)
