"""The shape of `[zone]`, `[firewall]` and `[policy]`: who may reach whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Devices, LogRate, Networks, Rate, Words
from markway.config.schema_matches import Matches, MatchTable

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)


class ZoneTable(BaseModel):
    """A place that packets come from and go to: by its devices, by its networks, or by both, which must then hold.

    Two zones have names without a table: `self` is this machine, `any` is everywhere else. Zones may overlap.
    """

    model_config = _STRICT

    devices: Devices = Field(None, description="The devices that it is behind.", examples=["eth0", ["lan0", "lan1"]])
    networks: Networks = Field(
        None, description="The networks that its addresses are in.", examples=[["10.0.0.0/8", "fd00::/8"]]
    )
    spoofed: Literal["drop", "accept"] | None = Field(
        None,
        description=(
            "What becomes of packets that come in by one of `devices` while the route to their source is not by it. "
            "Default: `drop`; `accept` if the file has an `[uplink]`, for by another uplink than the main table's all "
            "would be."
        ),
        examples=["accept"],
    )


class FirewallTable(BaseModel):
    """What becomes of packets that no policy speaks of. With this table, or any policy, they are dropped.

    That is: new connections to this machine, and all that it forwards, also within a zone. What belongs to a
    connection that was let in passes, and so do what this machine sends, what it tells itself, connections to a
    `[service]`, ICMP's errors, IGMP, and IPv6's discovery of neighbours, routers and listeners.
    """

    model_config = _STRICT

    icmp: bool = Field(default=True, description="Answer echo requests (ping), 20 a second.", examples=[False])
    dhcp: bool = Field(
        default=True,
        description="Let DHCP and DHCPv6 reach this machine, as a client and as a server.",
        examples=[False],
    )
    log: LogRate = Field(
        "10/minute",
        description=(
            "How often the kernel logs a drop, by each policy and each other reason: N/second, N/minute or N/hour, "
            "with `burst M`; or false. A line begins with `markway: drop policy/NAME`, or `firewall/input`, "
            "`firewall/forward`, `firewall/invalid` or `firewall/spoofed` in its place."
        ),
        examples=["5/second burst 20", False],
    )
    lockout: Literal["refuse", "accept"] = Field(
        "refuse",
        description=(
            "What becomes of an `apply` over ssh after which the same ssh could not connect again, or whose client "
            "a list would refuse: it is refused unless it has `--confirm`, or goes on."
        ),
        examples=["accept"],
    )


class PolicyTable(BaseModel):
    """What becomes of new connections between zones. The table's name is the policy's name.

    Policies are tried in the order of the file, and the first that fits decides.
    """

    model_config = _STRICT

    source: Words = Field(
        None, alias="from", description="Zones that they come from, `self` or `any`.", examples=["lan", ["lan", "self"]]
    )
    to: Words = Field(None, description="Zones that they go to, `self` or `any`.", examples=["internet", "self"])
    match: Matches = Field(
        None,
        description="What they have to be. Default: anything. Services' destinations are translated already.",
        examples=[[{"protocol": "tcp", "destination-port": 22}]],
    )
    verdict: Literal["accept", "drop", "reject"] | None = Field(
        None,
        description="What becomes of them; `reject` answers with a TCP reset (others: port unreachable).",
        examples=["accept"],
    )
    log: LogRate = Field(
        None,
        description="How often it is logged: a rate, or false. Default: as `[firewall]` says; accepted ones never.",
        examples=["5/minute", False],
    )
    rate: Rate = Field(
        None,
        description=(
            "New connections that one source may make (an address, of IPv6 a /64): N/second, N/minute or N/hour, and "
            "`burst M` for how many may come at once (5 if left out). Those beyond are dropped. Default: no limit."
        ),
        examples=["10/second burst 20"],
    )
    max_connections: Annotated[int | None, Field(ge=1, le=0xFFFF_FFFF)] = Field(
        None,
        alias="max-connections",
        description="At most this many connections of one source at once; those beyond are dropped. Default: no limit.",
        examples=[20],
    )
    synproxy: bool = Field(
        default=False,
        description=(
            "Answer TCP handshakes in the server's place, by SYN cookies, and ask the server only when the client has "
            "proved its address: a flood of forged SYNs costs it nothing. Such connections have no window above "
            "64 KiB * 128 and no MSS above 1460; and from then on this machine takes up no TCP connection in its "
            "midst (net.netfilter.nf_conntrack_tcp_loose is switched off)."
        ),
        examples=[True],
    )


FIREWALL_TABLES: dict[str, type[BaseModel]] = {
    "zone.NAME": ZoneTable,
    "firewall": FirewallTable,
    "policy.NAME": PolicyTable,
    "policy.NAME.match": MatchTable,
}
"""Their tables by path, in the order of the reference."""
