"""What the parts of the daemon tell each other: frozen values, and the errors between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markway.config.model import Address


@dataclass(frozen=True, slots=True)
class Target:
    """A backend as it is asked: `port` None where the question needs none.

    `source` is the address that the backend sees in mode `snat`: who asks looks like the traffic.
    """

    service: str
    backend: str
    address: Address
    port: int | None = None
    source: Address | None = None

    @property
    def name(self) -> str:
        """The backend's name among all services: `web/a`."""
        return f"{self.service}/{self.backend}"


class Word(StrEnum):
    """What an agent says of its server's state (HAProxy's management guide, "agent-check")."""

    UP = "up"
    DOWN = "down"
    DRAIN = "drain"
    MAINT = "maint"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class AgentSaid:
    """One answer of an agent; None for what it did not speak of. `percent` is of the configured weight."""

    word: Word | None = None
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check's answer.

    `took` is in seconds. `reason` says in a few words why a backend is not well (`connection refused`, `HTTP 503`,
    `no answer in 1 s`), and is empty if it is. `warning` is of what will go wrong, as a certificate that ends soon.
    """

    well: bool
    took: float
    reason: str = ""
    warning: str = ""
    agent: AgentSaid | None = None
    silent: bool = False
    """Whether the backend had left many connections unanswered too (`markway.director.silence`)."""
    ours: bool = False
    """Whether the reason is this machine's own, as having no file left to open: nothing is known of the backend."""


class LoadError(Exception):
    """A backend's load could not be read; the text says why in a few words."""
