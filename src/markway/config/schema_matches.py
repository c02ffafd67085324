"""The shape of `match`: what a packet has to be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Device, Form, Mark, Networks, Numbers, Ports, Size, Text, Words

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)


class MatchTable(BaseModel):
    """What a packet has to be. All keys of one table must hold; of a list of tables, any one.

    Addresses and ports are those of the packet on its way out, before its source is translated. What nft(8) knows
    beyond these keys is said with `nft`.
    """

    model_config = _STRICT

    service: Text = Field(None, description="Belongs to a connection of this service.", examples=["shop"])
    backend: Text = Field(None, description="And of this backend of it.", examples=["a"])
    guard: Text = Field(
        None,
        description="Is from or to a source that this guard slows at the moment; the guard needs `slow`.",
        examples=["ssh"],
    )
    family: Annotated[Literal[4, 6] | None, Form("4 or 6")] = Field(None, description="IPv4 or IPv6.", examples=[4])
    protocol: Words = Field(
        None,
        description="tcp, udp, icmp, icmpv6, sctp, dccp, udplite, esp, ah, gre, or a number from 0 to 255 in quotes.",
        examples=["tcp", ["tcp", "udp"]],
    )
    source: Networks = Field(
        None, description="From this address or network.", examples=["10.0.0.7", ["10.0.0.0/8", "fd00::/8"]]
    )
    destination: Networks = Field(None, description="To this address or network.", examples=["203.0.113.0/24"])
    source_port: Ports = Field(
        None, alias="source-port", description="From this port. Without `protocol`, of TCP and UDP.", examples=[80]
    )
    destination_port: Ports = Field(
        None, alias="destination-port", description="To this port.", examples=["6881-6999", [80, 443]]
    )
    port: Ports = Field(None, description="From or to this port.", examples=[53, [22, "6881-6999"]])
    incoming_device: Device = Field(
        None, alias="incoming-device", description="Came in by this device.", examples=["lan0"]
    )
    outgoing_device: Device = Field(
        None,
        alias="outgoing-device",
        description="Goes out by this device. For `[mark]`; a shape sees its own device only.",
        examples=["eth1"],
    )
    dscp: Numbers = Field(
        None,
        description="Has this DSCP (RFC 2474): a name such as ef, cs1, af21, or 0 to 63.",
        examples=["ef", ["cs1", 1]],
    )
    icmp_type: Words = Field(
        None, alias="icmp-type", description="Is this ICMP message, by nft's names; needs `protocol`.",
        examples=["echo-request"],
    )  # fmt: skip
    tcp_flags: Text = Field(
        None,
        alias="tcp-flags",
        description=(
            "Has these TCP flags set, with commas: fin, syn, rst, psh, ack, urg, ecn, cwr. As FLAGS/MASK, of the "
            "flags in MASK exactly these."
        ),
        examples=["ack", "syn/syn,ack"],
    )
    length: Annotated[str | int | None, Form("a length or a range of lengths", r"^[0-9]+(-[0-9]+)?$")] = Field(
        None, description="Has this many bytes from the IP header on: a number or a range.", examples=["0-128"]
    )
    state: Words = Field(
        None,
        description="Its connection is new, established, related, invalid or untracked.",
        examples=["new", ["established", "related"]],
    )
    bytes_over: Size = Field(
        None,
        alias="bytes-over",
        description=(
            "Its connection has carried more than this, both ways together. Connections are counted from when the "
            "file came into force (the kernel switches net.netfilter.nf_conntrack_acct on)."
        ),
        examples=["10m"],
    )
    user: Numbers = Field(
        None, description="Comes from a socket of this user, by name or number. Locally made packets only.",
        examples=["backup", [1000]],
    )  # fmt: skip
    group: Numbers = Field(None, description="The same of a group.", examples=["www-data"])
    cgroup: Text = Field(
        None, description="Comes from a socket in this control group (version 2), a path below the root's.",
        examples=["system.slice/backup.service"],
    )  # fmt: skip
    mark: Mark = Field(
        None,
        description="Has this packet mark: VALUE/MASK, or a value for all 32 bits. Other software's bits count.",
        examples=["0x50/0xff", 80],
    )
    nft: Text = Field(
        None, description="Any expression of nft(8) that only looks: no statement, no verdict.", examples=["ip dscp ef"]
    )


Matches = Annotated[MatchTable | list[MatchTable] | None, Form("a table or a list of tables")]
