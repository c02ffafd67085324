"""The shape of a configuration file: its tables, keys, types, defaults and what they are for.

The descriptions here are the reference manual (docs/reference.md) and the JSON Schema that editors use.
What a text or a combination of keys means is checked in `check`. Every key may be absent for pydantic: it is
`check` that misses the needed ones, so that one wrong value does not hide the problems behind it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Duration, Form, Rate
from markway.config.model import DEFAULT_MASK, POLICIES
from markway.config.schema_blocklists import BLOCKLIST_TABLES, AllowlistTable, BlocklistTable
from markway.config.schema_checks import Api, Check, Load
from markway.config.schema_firewall import FIREWALL_TABLES, FirewallTable, PolicyTable, ZoneTable
from markway.config.schema_guard import GUARD_TABLES, GuardTable
from markway.config.schema_shape import SHAPE_TABLES, MarkTable, RealmTable, ShapeTable, UplinkTable

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)

_LISTEN = r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):(\*|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)(/(tcp|udp|tcp\+udp))?$"
_ENDPOINT = r"^([0-9.]+(:[0-9]+)?|[0-9a-fA-F:.]+|\[[0-9a-fA-F:.]+\](:[0-9]+)?)$"
_ADDRESS = r"^[0-9a-fA-F:.]+$"
_POLICY = rf"^({'|'.join(POLICIES)}|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
_NETWORK = r"^[0-9a-fA-F:.]+(/[0-9]+)?$"

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,62}$"

Listens = Annotated[str | list[str] | None, Form("a string or a list of strings", _LISTEN)]
Endpoints = Annotated[str | list[str] | None, Form("a string or a list of strings", _ENDPOINT)]
Addresses = Annotated[str | list[str] | None, Form("a string or a list of strings", _ADDRESS)]
Networks = Annotated[str | list[str] | None, Form("a string or a list of strings", _NETWORK)]
Bits = Annotated[str | int | None, Form("a hexadecimal string or an integer", r"^0[xX][0-9a-fA-F](_?[0-9a-fA-F])*$")]
Connections = Annotated[int | None, Field(ge=1, le=0xFFFF_FFFF)]


class Marks(BaseModel):
    """Which bits of the packet mark and of the connection mark are Markway's."""

    model_config = _STRICT

    mask: Bits = Field(
        None,
        description=(
            "The bits that Markway may use, 0x1 to 0xffffffff. All others are never touched. Every "
            "backend and every fallback server takes one number, every service with `persist` or a "
            "schedule that asks the daemon one more. "
            f"Default 0x{DEFAULT_MASK:08x}."
        ),
        examples=["0x0000ffff"],
    )


class Persist(BaseModel):
    """New connections from one source keep going to the backend that had its last one."""

    model_config = _STRICT

    key: Literal["source"] = Field(
        "source", description="What is remembered: the client's source address.", examples=["source"]
    )
    timeout: Duration = Field(
        None,
        description="A source is forgotten when it made no new connection for this long: 1s to 30d.",
        examples=["10m", "1h 30min"],
    )
    prefix: int = Field(
        32,
        ge=1,
        le=32,
        description="Prefix length of the IPv4 network that counts as one source.",
        examples=[24],
    )
    prefix6: int = Field(
        128,
        ge=1,
        le=128,
        description="Prefix length of the IPv6 network that counts as one source.",
        examples=[64],
    )


class Sorry(BaseModel):
    """A server that answers when no backend can."""

    model_config = _STRICT

    address: Endpoints = Field(
        None,
        description="Where it answers, as a backend's `address`: at most one of each family.",
        examples=["192.168.1.99:80", ["192.168.1.99:80", "[fd00::99]:80"]],
    )


class BackendTable(BaseModel):
    """One server of the service. The last part of the table's name is the backend's name."""

    model_config = _STRICT

    address: Endpoints = Field(
        None,
        description=(
            "Where the server answers: ADDRESS:PORT, an IPv6 address in brackets. Without a port, the one"
            " that the client asked for is kept. A list gives a server one address of each family."
        ),
        examples=["192.168.1.10:8443", "192.168.1.10", ["192.168.1.10:80", "[fd00::10]:80"]],
    )
    weight: int = Field(
        1,
        ge=0,
        le=65535,
        description=("Its share of new connections, relative to the others' of its priority. 0 takes no new ones."),
        examples=[2],
    )
    priority: int = Field(
        1,
        ge=1,
        le=255,
        description=("1 is used first; a larger number only when no backend with a smaller one can be used."),
        examples=[2],
    )
    max_connections: Connections = Field(
        None,
        alias="max-connections",
        description="At most this many connections at once. Default: no limit.",
        examples=[50],
    )


class ServiceTable(BaseModel):
    """One service: what is listened on, and how it is balanced. The table's name is the service's name."""

    model_config = _STRICT

    listen: Listens = Field(
        None,
        description=(
            "Where clients reach the service: ADDRESS:PORTS/PROTOCOL, or a list of these. IPv6 addresses "
            "are in brackets. PORTS is 80, 8000-8010, 80,443,8000-8010, or * for all. PROTOCOL is tcp "
            "(also when left out), udp or tcp+udp."
        ),
        examples=["192.0.2.10:443", ["192.0.2.10:443/tcp", "[2001:db8::10]:443/tcp"]],
    )
    mode: Literal["dnat", "snat"] = Field(
        "dnat",
        description=(
            "`dnat`: backends see the client's address, and must answer by way of this machine. `snat`: "
            "backends see this machine's address, and answer it wherever they are."
        ),
        examples=["snat"],
    )
    source: Addresses = Field(
        None,
        description=(
            "The address that backends see in mode `snat`, or a list with one of each family. Default: "
            "the address that the client connected to."
        ),
        examples=["192.0.2.9", ["192.0.2.9", "2001:db8::9"]],
    )
    schedule: Literal[
        "random", "round-robin", "source-hash", "flow-hash", "least-connections", "least-load", "queue"
    ] = Field(
        "round-robin",
        description=(
            "How a new connection is given to a backend. `source-hash` gives a source address the same "
            "backend every time, `flow-hash` a source address and port. The last three ask the daemon's queue worker "
            "about each connection, and are `round-robin` while it does not answer."
        ),
        examples=["source-hash"],
    )
    policy: Annotated[str | None, Form("a policy", _POLICY)] = Field(
        None,
        description=(
            'Who chooses for `schedule = "queue"`: `two-choices` (of two backends drawn by weight the one with fewer '
            "connections), `least-connections`, `least-load`, or a Python callable of yours as MODULE:NAME. Default "
            "two-choices."
        ),
        examples=["two-choices", "shop.balance:by_customer"],
    )
    check: Check | None = Field(
        None,
        description="Take out backends that are not well. Default: all are believed to be.",
        examples=[{"http": "/health", "every": "2s", "rise": 2, "fall": 3}],
    )
    load: Load | None = Field(
        None,
        description="Give loaded backends fewer new connections. Default: weights are as configured.",
        examples=[{"snmp": "laLoadInt.1", "every": "5s"}],
    )
    slow_start: Duration = Field(
        None,
        alias="slow-start",
        description="How long a backend that came back takes to reach its full weight. Default: at once.",
        examples=["30s"],
    )
    orphans: Literal["keep", "cut"] = Field(
        "keep",
        description=(
            "What becomes of TCP connections whose backend is dead or removed: `cut` forgets them, so that a client "
            "that sends on is reset. UDP flows always move to another backend."
        ),
        examples=["cut"],
    )
    persist: Persist | None = Field(
        None,
        description="Keep a source on its backend. Default: every connection is scheduled anew.",
        examples=[{"key": "source", "timeout": "10m", "prefix": 24, "prefix6": 64}],
    )
    max_connections: Connections = Field(
        None,
        alias="max-connections",
        description="At most this many connections at once to the whole service. Default: no limit.",
        examples=[1000],
    )
    source_rate: Rate = Field(
        None,
        alias="source-rate",
        description=(
            "New connections that one source address may make: N/second, N/minute or N/hour, and `burst "
            "M` for how many may come at once (5 if left out); N and M are 1 to 1000000. Default: no "
            "limit."
        ),
        examples=["10/second burst 20"],
    )
    allow: Networks = Field(
        None,
        description="Networks and addresses that may use the service, IPv4 and IPv6. Default: all.",
        examples=[["10.0.0.0/8", "2001:db8::/32"]],
    )
    deny: Networks = Field(
        None,
        description="Networks and addresses that may not; looked at before `allow`. Default: none.",
        examples=[["192.0.2.128/25"]],
    )
    refuse: Literal["reset", "drop"] = Field(
        "reset",
        description=(
            "What a client gets that is denied or over a limit: a TCP reset (UDP: port unreachable) or nothing."
        ),
        examples=["drop"],
    )
    fallback: Literal["reset", "drop"] | Sorry = Field(
        "reset",
        description=("What a client gets when no backend can be used: `reset`, `drop`, or a server that says sorry."),
        examples=["drop", {"address": "192.168.1.99:80"}],
    )
    helper: Literal["ftp", "tftp"] | None = Field(
        None,
        description=(
            "The kernel's helper for a protocol that opens further connections: `ftp` (tcp only) or `tftp` (udp only)."
        ),
        examples=["ftp"],
    )
    backend: dict[str, BackendTable] = Field(
        default_factory=dict,
        description="The servers, each a table `[service.NAME.backend.NAME]`. At least one.",
    )


class File(BaseModel):
    """One configuration file, or one of a directory of them."""

    model_config = _STRICT

    marks: Marks | None = Field(None, description="Which bits of the packet mark are Markway's.")
    api: Api | None = Field(None, description="Where the daemon answers besides its Unix socket.")
    service: dict[str, ServiceTable] = Field(
        default_factory=dict,
        description="The services, each a table `[service.NAME]`.",
    )
    shape: dict[str, ShapeTable] = Field(
        default_factory=dict, description="Links whose rate is shared, each a table `[shape.NAME]`."
    )
    mark: dict[str, MarkTable] = Field(
        default_factory=dict, description="Rules that set a class or an uplink, each a table `[mark.NAME]`."
    )
    uplink: dict[str, UplinkTable] = Field(
        default_factory=dict, description="Routing tables for marked packets, each a table `[uplink.NAME]`."
    )
    realm: dict[str, RealmTable] = Field(
        default_factory=dict, description="Realms of routes, each a table `[realm.NAME]`."
    )
    zone: dict[str, ZoneTable] = Field(
        default_factory=dict, description="Places that packets come from and go to, each a table `[zone.NAME]`."
    )
    firewall: FirewallTable | None = Field(None, description="What becomes of packets that no policy speaks of.")
    policy: dict[str, PolicyTable] = Field(
        default_factory=dict, description="What may pass from zone to zone, each a table `[policy.NAME]`."
    )
    guard: dict[str, GuardTable] = Field(
        default_factory=dict, description="Who is thrown out for trying too often, each a table `[guard.NAME]`."
    )
    blocklist: dict[str, BlocklistTable] = Field(
        default_factory=dict, description="Lists of who is kept out, each a table `[blocklist.NAME]`."
    )
    allowlist: AllowlistTable | None = Field(None, description="Who is never kept out.")


TABLES: dict[str, type[BaseModel]] = {
    "": File,
    "marks": Marks,
    "api": Api,
    "service.NAME": ServiceTable,
    "service.NAME.persist": Persist,
    "service.NAME.fallback": Sorry,
    "service.NAME.check": Check,
    "service.NAME.load": Load,
    "service.NAME.backend.NAME": BackendTable,
    **SHAPE_TABLES,
    **FIREWALL_TABLES,
    **GUARD_TABLES,
    **BLOCKLIST_TABLES,
}
"""Every table of a file by its path, in the order of the reference."""

REQUIRED: dict[type[BaseModel], tuple[str, ...]] = {
    ServiceTable: ("listen", "backend"),
    Persist: ("timeout",),
    Sorry: ("address",),
    BackendTable: ("address",),
    ShapeTable: ("device",),
    UplinkTable: ("table",),
    RealmTable: ("number",),
    PolicyTable: ("from", "to", "verdict"),
}
"""The keys that `check` misses when they are absent."""

LATER: dict[str, frozenset[str]] = {
    "service.NAME.mode": frozenset({"dsr", "stateless"}),
}
"""Keys and values that other versions of Markway have or will have: refused with that reason."""
