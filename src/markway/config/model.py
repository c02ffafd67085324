"""What the operator asked for: frozen values, already checked, free of syntax.

`config.load` makes these from text; every other room reads only these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias

from markway.config.blocklisting import Blocklisting
from markway.config.firewalling import Firewalling
from markway.config.guarding import Guard  # noqa: TC001  (a field's type; tests ask for it at run time)
from markway.config.shaping import Shaping

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

DEFAULT_MASK = 0x0000_FFFF
"""The bits Markway may use when the file does not say: the lower half."""


class Protocol(StrEnum):
    """A transport protocol that can be balanced."""

    TCP = "tcp"
    UDP = "udp"


class Mode(StrEnum):
    """How a packet is brought to its backend, and what the backend sees as its peer."""

    DNAT = "dnat"
    SNAT = "snat"


class Schedule(StrEnum):
    """How a new connection is given to a backend."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    SOURCE_HASH = "source-hash"
    FLOW_HASH = "flow-hash"
    LEAST_CONNECTIONS = "least-connections"
    LEAST_LOAD = "least-load"
    QUEUE = "queue"

    @property
    def hashed(self) -> bool:
        """Whether the same source or flow reaches the same backend again."""
        return self in {Schedule.SOURCE_HASH, Schedule.FLOW_HASH}

    @property
    def queued(self) -> bool:
        """Whether the queue worker is asked about each connection."""
        return self in {Schedule.LEAST_CONNECTIONS, Schedule.LEAST_LOAD, Schedule.QUEUE}


POLICIES = ("two-choices", "least-connections", "least-load")
"""Who may choose under the schedule `queue`, besides the operator's own; the first if the file does not say."""


class Refusal(StrEnum):
    """What a client gets instead of a backend."""

    RESET = "reset"
    DROP = "drop"


class PortRange(NamedTuple):
    """Ports `first` to `last`, both included; one port has both the same."""

    first: int
    last: int

    def __str__(self) -> str:
        """As written in the file."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


ALL_PORTS = PortRange(1, 65535)


@dataclass(frozen=True, slots=True)
class Listener:
    """An address, a protocol and ports on which a service is reached."""

    address: Address
    protocol: Protocol
    ports: tuple[PortRange, ...]


class Endpoint(NamedTuple):
    """Where a backend answers; `port` None keeps the port the client asked for."""

    address: Address
    port: int | None

    def __str__(self) -> str:
        """As an operator writes it."""
        if self.port is None:
            return str(self.address)
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Backend:
    """One server of a service.

    `endpoints` holds at most one address of each family; `priority` 1 is the best;
    `weight` 0 takes no new connections; `max_connections` None has no limit.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    weight: int = 1
    priority: int = 1
    max_connections: int | None = None


@dataclass(frozen=True, slots=True)
class Persist:
    """New connections of one source network keep their backend until idle for `timeout` seconds."""

    timeout: int
    prefix4: int = 32
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class SourceRate:
    """At most `count` new connections per `unit` from one source, with `burst` at once."""

    count: int
    unit: str  # second | minute | hour
    burst: int


class CheckKind(StrEnum):
    """How a backend is asked whether it is well."""

    TCP = "tcp"
    UDP = "udp"
    HTTP = "http"
    HTTPS = "https"
    DNS = "dns"
    PING = "ping"
    SMTP = "smtp"
    MYSQL = "mysql"
    POSTGRESQL = "postgresql"
    REDIS = "redis"
    COMMAND = "command"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a backend is well: how it is asked, how often, and how many answers make a change.

    Times are seconds; `jitter` is a fraction of `every`. `target` is the path of http, or the name of dns.
    `port` None is the backend's. `status` are ranges. What a kind has no use for is at its default.
    """

    kind: CheckKind
    every: float = 2.0
    fast: float = 0.5
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1
    passive: bool = True
    port: int | None = None
    target: str = ""
    send: bytes = b""
    expect: bytes = b""
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    body: str = ""
    host: str = ""
    sni: str = ""
    verify: bool = True
    ca: str = ""
    expiry_warning: float = 14 * 86400.0
    record: str = "A"
    command: tuple[str, ...] = ()
    user: str = ""
    password_file: str = ""
    database: str = ""


class LoadKind(StrEnum):
    """Where a backend's load is read."""

    SNMP = "snmp"
    HTTP = "http"
    COMMAND = "command"
    PING = "ping"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Load:
    """How loaded a backend is: where that is read, and what it means.

    Times are seconds. `full` is the reading of a backend that is fully loaded; `floor` the least fraction of its
    weight that a backend keeps. `target` is the SNMP object or the path of http.
    """

    kind: LoadKind
    every: float = 5.0
    timeout: float = 2.0
    stale: float = 15.0
    full: float = 100.0
    floor: float = 0.1
    port: int | None = None
    target: str = ""
    field: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    version: str = "2c"
    community_file: str = ""
    user: str = ""
    auth: str = ""
    auth_file: str = ""
    privacy: str = ""
    privacy_file: str = ""


@dataclass(frozen=True, slots=True)
class Api:
    """Where the daemon answers over TCP besides its Unix socket."""

    address: Address
    port: int
    token_file: str
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One balanced service.

    `source` are the chosen addresses (at most one of each family) that mask the client
    in snat mode; without one of the family, the address the client connected to does.
    An empty `allow` allows everyone; `deny` is looked at first.
    `sorry` is the fallback server, used when no backend is left, else `fallback` answers.
    `policy` is who chooses under a queued schedule: a name, or MODULE:CALLABLE. `slow_start` is in seconds;
    `cut_orphans` forgets TCP connections of dead or removed backends.
    """

    name: str
    listeners: tuple[Listener, ...]
    backends: tuple[Backend, ...]
    mode: Mode = Mode.DNAT
    source: tuple[Address, ...] = ()
    schedule: Schedule = Schedule.ROUND_ROBIN
    persist: Persist | None = None
    max_connections: int | None = None
    source_rate: SourceRate | None = None
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    refuse: Refusal = Refusal.RESET
    fallback: Refusal = Refusal.RESET
    sorry: tuple[Endpoint, ...] = ()
    helper: str | None = None  # ftp | tftp
    policy: str = ""
    check: Check | None = None
    load: Load | None = None
    slow_start: float = 0.0
    cut_orphans: bool = False

    @property
    def watched(self) -> bool:
        """Whether backends' weights change while the service runs."""
        return self.check is not None or self.load is not None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the file says. Services and guards are sorted by name: their order in the file means nothing."""

    services: tuple[Service, ...] = ()
    mask: int = field(default=DEFAULT_MASK)
    api: Api | None = None
    shaping: Shaping = field(default_factory=Shaping)
    firewalling: Firewalling = field(default_factory=Firewalling)
    guards: tuple[Guard, ...] = ()
    blocklisting: Blocklisting = field(default_factory=Blocklisting)
