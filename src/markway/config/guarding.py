"""Who is thrown out and for how long: frozen values, already checked, free of syntax. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.config.model import Address, Network, PortRange, Protocol, Service
    from markway.config.shaping import Origin

WEEK = 7 * 86400.0


class Scope(StrEnum):
    """What a banned source may not reach: what the guard guards, or all of this machine and behind it."""

    LISTENER = "listener"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Window:
    """More than `count` attempts within `seconds` are an offence; one exactly that long ago counts no more."""

    count: int
    seconds: float

    def __str__(self) -> str:
        """As written in the file."""
        return f"{self.count} in {self.seconds:g}s"


LADDER = (Window(2, 20.0), Window(14, 200.0), Window(79, 2000.0), Window(399, 20000.0))
"""The classic windows, when the file does not say."""


@dataclass(frozen=True, slots=True)
class Ban:
    """How long a source is banned.

    With `until_quiet`, until there was no attempt for `seconds`: each one begins them anew. Each further ban lasts
    `factor` times as long as the one before, but no longer than `longest`; a ban, or a slowing, is remembered for
    `memory` after its end.
    """

    seconds: float = 600.0
    until_quiet: bool = True
    factor: float = 1.0
    longest: float = WEEK
    memory: float = WEEK


class LogFormat(StrEnum):
    """Logs that are understood without a pattern."""

    SSHD = "sshd"
    NGINX = "nginx"
    NGINX_ACCESS = "nginx-access"
    APACHE = "apache"
    APACHE_ACCESS = "apache-access"
    POSTFIX = "postfix"
    DOVECOT = "dovecot"
    VSFTPD = "vsftpd"
    PROFTPD = "proftpd"


@dataclass(frozen=True, slots=True)
class LogSource:
    """A log in which failures are looked for: a `file`, or the `journal` of a systemd unit.

    What a failure looks like says `format`; or `pattern`, a regular expression for the whole line with the group
    `address`. `date` is the form of the time (strptime) that the line begins with, or that its group `date` has; empty
    takes the known ones.
    """

    format: LogFormat | None = None
    pattern: str = ""
    date: str = ""
    file: str = ""
    journal: str = ""
    origin: Origin = field(default=(), compare=False)

    def __str__(self) -> str:
        """Where it is looked at: a file's name, or a unit's."""
        return self.file or self.journal


@dataclass(frozen=True, slots=True)
class Guarded:
    """Ports that a guard counts new connections to; `address` None is any of this machine."""

    protocol: Protocol
    ports: tuple[PortRange, ...]
    address: Address | None = None

    def __str__(self) -> str:
        """As written in the file."""
        ports = f"{','.join(map(str, self.ports))}/{self.protocol}"
        if self.address is None:
            return ports
        return f"[{self.address}]:{ports}" if self.address.version == 6 else f"{self.address}:{ports}"  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Guard:
    """Attempts of one source network are counted in windows; who makes too many is slowed or banned.

    `prefix` and `prefix6` are the length of what one source is. Networks in `allow` are never counted. `services` are
    guarded at all their listeners. `connections` is whether new ones to what is guarded are attempts. With `slow`, the
    first offence slows its source for as long as a ban would last, and only the next one bans. `reset` answers with a
    reset instead of silence.
    """

    name: str
    listeners: tuple[Guarded, ...] = ()
    services: tuple[str, ...] = ()
    windows: tuple[Window, ...] = LADDER
    ban: Ban = field(default_factory=Ban)
    prefix: int = 32
    prefix6: int = 64
    allow: tuple[Network, ...] = ()
    scope: Scope = Scope.LISTENER
    reset: bool = False
    slow: bool = False
    connections: bool = True
    logs: tuple[LogSource, ...] = ()
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Slowed:
    """Whom the guard of this name slows at the moment; one source is what its `prefix` and `prefix6` say."""

    guard: str
    prefix: int = 32
    prefix6: int = 64


def listeners_of(guard: Guard, services: Mapping[str, Service]) -> tuple[Guarded, ...]:
    """All that a guard guards, with the listeners of its services."""
    own = [Guarded(one.protocol, one.ports, one.address) for name in guard.services for one in services[name].listeners]
    return (*guard.listeners, *own)
