"""The shape of `[shape]`, `[mark]`, `[uplink]` and `[realm]`: how bandwidth is shared, and what tells packets apart."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Bandwidth, Device, Devices, Form, Mark, Networked, Numbered, Size, Text, Words
from markway.config.schema_disciplines import DisciplineOf, DisciplineTable
from markway.config.schema_matches import Matches, MatchTable

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)


class RouteTable(BaseModel):
    """The realms (ip-route(8)) of the route that leads a packet, each a `[realm]` or a number."""

    model_config = _STRICT

    source: Numbered = Field(
        None, alias="from", description="The realm of the route back to the packet's source.", examples=["office"]
    )
    to: Numbered = Field(None, description="The realm of the route to its destination.", examples=["office", 5])


class FilterTable(BaseModel):
    """A classifier of tc. Exactly one of `u32`, `fw` and `route` says what it finds.

    Filters are asked by rising priority, those of one priority in the order of the file. They are asked after all
    `match` of classes: these speak first.
    """

    model_config = _STRICT

    u32: Words = Field(
        None,
        description=(
            "Selectors of tc-u32(8) without the word `match`; all must hold. `u8`, `u16` and `u32` VALUE MASK `at` N "
            "or `at nexthdr+`N; `ip` src, dst, tos, dsfield, precedence, ihl, protocol, ttl, sport, dport, "
            "icmp_type, icmp_code, nofrag, firstfrag, df, mf; `ip6` src, dst, priority, protocol, flowlabel, hlimit, "
            "sport, dport, icmp_type, icmp_code; `tcp` and `udp` src and dst; `tcp` syn, ack, fin, rst, psh, urg; "
            "`icmp` type and code. Masks are hexadecimal. "
            "What reads the header behind IP's needs `ip protocol` (`ip6 protocol`) beside it."
        ),
        examples=[["ip protocol 17 0xff", "ip dport 53 0xffff"], ["u8 64 0xff at 8"]],
    )
    fw: Mark = Field(
        None,
        description="The packet's mark: VALUE/MASK, or a value for all 32 bits. One mask for all of one priority.",
        examples=["0x50/0xff", 80],
    )
    route: RouteTable | None = Field(
        None, description="The realms of the packet's route.", examples=[{"from": "office"}, {"to": 5}]
    )
    target: Text = Field(None, alias="class", description="The class for what it finds.", examples=["dns"])
    priority: Annotated[int | None, Field(ge=1, le=65535)] = Field(
        None,
        description=(
            "Lower ones are asked first. All filters of one priority are of one kind and protocol. Default: that of "
            "the filter before, if it is alike, else the next multiple of 10."
        ),
        examples=[10],
    )
    protocol: Literal["all", "ip", "ipv6", "arp", "802.1Q", "802.1ad"] | None = Field(
        None,
        description="Which packets are looked at. Default: `ip`, `ipv6` for `ip6` selectors, `all` for `fw`.",
        examples=["ip"],
    )


class ClassTable(BaseModel):
    """One class of a shape. Only classes without children hold packets; the others share their rate among children."""

    model_config = _STRICT

    parent: str = Field(
        "", description="The class whose rate it shares; the shape itself if left out.", examples=["bulk"]
    )
    rate: Bandwidth = Field(
        None,
        description=(
            "What it gets in any case. Default: an equal part of what the others leave of the parent's rate. Not for "
            "the bands of `prio`."
        ),
        examples=["200kbit"],
    )
    ceil: Bandwidth = Field(
        None,
        description="What it gets at most, when others leave theirs. Default: its rate, so that it borrows nothing.",
        examples=["1024kbit"],
    )
    burst: Size = Field(
        None,
        description="Bytes that may pass at once, faster than the rate. Default: 4 ms of it, two packets at least.",
        examples=["5k"],
    )
    cburst: Size = Field(None, description="The same of `ceil`.", examples=["1600"])
    prio: int = Field(
        0,
        ge=0,
        le=7,
        description="Who is offered first what others leave, and who sends first within its rate: 0 before 7.",
        examples=[1],
    )
    quantum: Annotated[int | None, Field(ge=1000, le=200_000)] = Field(
        None,
        description=(
            "Bytes it sends in its turn among those of one `prio`. Default: a tenth of a second of the rate, at least "
            "a packet and at most 60000."
        ),
        examples=[1514],
    )
    mtu: Size = Field(None, description="The largest packet it is for. Default: that of Ethernet.", examples=[1600])
    leaf: DisciplineOf = Field(
        None,
        description="How what waits in it is shared. Default: the shape's `leaf`.",
        examples=["fq_codel", {"kind": "sfq", "perturb": "10s"}],
    )
    match: Matches = Field(
        None,
        description=(
            "Which packets are its own. Classes are tried in the order of the file, and the first that matches gets "
            "the packet."
        ),
        examples=[[{"service": "shop"}, {"protocol": "tcp", "source-port": 80}]],
    )


class ShapeTable(BaseModel):
    """One direction of one device, shared. The table's name is the shape's name.

    Traffic reaches a class by its `match`, by a `[mark]`, or by a `filter`; what nothing takes goes to `default`.
    """

    model_config = _STRICT

    device: Device = Field(None, description="Whose traffic it is.", examples=["eth0"])
    direction: Literal["egress", "ingress"] = Field(
        "egress",
        description=(
            "`egress`: what the device sends. `ingress`: what it receives, which is shaped in an IFB device if the "
            "kernel has it and the matches can be told there, else on its way out of `inside`."
        ),
        examples=["ingress"],
    )
    inside: Devices = Field(
        None,
        description="Of `ingress`: the device towards the inner network, by which received packets leave again.",
        examples=["lan0"],
    )
    rate: Bandwidth = Field(
        None,
        description=(
            "What all of it gets together, in tc's units: bit, kbit, mbit, gbit (kibit …: powers of 1024), and kbps, "
            "mbps … which are bytes per second. To own the queue, say 2 to 5 % less than the link carries."
        ),
        examples=["1024kbit"],
    )
    burst: Size = Field(
        None,
        description="Bytes that may pass at once, faster than the rate. Default: 4 ms of it, two packets at least.",
        examples=["5k"],
    )
    overhead: Annotated[int, Field(ge=0, le=256)] = Field(
        0,
        description="Bytes that the link adds to each packet, so that the rate is the link's own: 18 to 44 for DSL.",
        examples=[18],
    )
    discipline: DisciplineOf = Field(
        "htb",
        description=(
            "Who shares. `htb` (classes with rates) and `prio` (classes are bands, the first before the second) hold "
            "classes, all others decide by themselves."
        ),
        examples=["cake", {"kind": "cake", "nat": True, "diffserv": "diffserv4"}],
    )
    leaf: DisciplineOf = Field(
        "fq_codel",
        description=(
            "How what waits in a class is shared, unless it says so itself. Of what the kernel lacks, the nearest is "
            "taken and told of."
        ),
        examples=["sfq", {"kind": "sfq", "perturb": "10s"}],
    )
    default: Text = Field(None, description="The class of what nothing else takes.", examples=["rest"])
    strict: bool = Field(
        False,
        description="Refuse a kernel that lacks one of the disciplines, instead of taking the nearest.",
        examples=[True],
    )
    optional: bool = Field(
        False, description="The device may be absent, such as ppp0: the shape waits for it.", examples=[True]
    )
    preset: Literal["home"] | None = Field(
        None,
        description=(
            "Classes ready made, which `markway plan` shows. `home`: small packets, DNS and interactive ssh first, "
            "then ssh, web and the rest, last BitTorrent and every connection that has carried more than 20 MB. "
            "Classes of the file come before them; one of the same name changes only what it says."
        ),
        examples=["home"],
    )
    classes: dict[str, ClassTable] = Field(
        default_factory=dict,
        alias="class",
        description="The classes, each a table `[shape.NAME.class.NAME]`, of `htb` and `prio`.",
    )
    filter: Annotated[list[FilterTable], Form("a list of tables")] = Field(
        default_factory=list, description="Classifiers of tc, each a table `[[shape.NAME.filter]]`."
    )


class MarkTable(BaseModel):
    """Packets that get a class, or an uplink, or both, by their mark. The table's name is the rule's name.

    Rules are tried in the order of the file; the last that matches wins. `markway status` counts what each matched.
    """

    model_config = _STRICT

    match: Matches = Field(None, description="Which packets.", examples=[[{"source": "10.0.0.7"}]])
    target: Text = Field(None, alias="class", description="The class, as SHAPE.CLASS.", examples=["wan.bulk"])
    uplink: Text = Field(None, description="The uplink that they leave by.", examples=["dsl"])
    on: Words = Field(
        None,
        description=(
            "Which packets are looked at: `forwarded` (they pass this machine), `incoming` (they are for it) or "
            "`local` (it makes them). Default: all that can have what the match asks for."
        ),
        examples=["local", ["forwarded", "local"]],
    )


class UplinkTable(BaseModel):
    """A routing table that marked packets leave by. Its routes are the operator's own."""

    model_config = _STRICT

    table: Annotated[int | None, Field(ge=1, le=0xFFFF_FFFF)] = Field(
        None, description="The number of the table (ip-route(8)); 253 to 255 are the kernel's.", examples=[100]
    )


class RealmRouteTable(BaseModel):
    """A route that puts the realm on the packets it leads."""

    model_config = _STRICT

    to: Networked = Field(None, description="Where it leads: an IPv4 network or address.", examples=["10.1.0.0/16"])
    via: Annotated[str | None, Form("an address", r"^[0-9.]+$")] = Field(
        None, description="The next router.", examples=["10.0.0.9"]
    )
    device: Device = Field(None, description="The device that it leaves by.", examples=["eth1"])
    metric: Annotated[int | None, Field(ge=0, le=0xFFFF_FFFF)] = Field(
        None, description="Of several routes to one network, the lowest is taken.", examples=[50]
    )


class RealmTable(BaseModel):
    """A number that routes put on packets (ip-route(8), "realm"), for filters by `route`."""

    model_config = _STRICT

    number: Annotated[int | None, Field(ge=1, le=255)] = Field(None, description="1 to 255, none twice.", examples=[5])
    routes: Annotated[list[RealmRouteTable], Form("a list of tables")] = Field(
        default_factory=list,
        description="Routes that Markway makes. Routes of others may have the realm too.",
        examples=[[{"to": "10.1.0.0/16", "via": "10.0.0.9", "device": "eth1"}]],
    )


SHAPE_TABLES: dict[str, type[BaseModel]] = {
    "shape.NAME": ShapeTable,
    "shape.NAME.discipline": DisciplineTable,
    "shape.NAME.leaf": DisciplineTable,
    "shape.NAME.class.NAME": ClassTable,
    "shape.NAME.class.NAME.leaf": DisciplineTable,
    "shape.NAME.class.NAME.match": MatchTable,
    "shape.NAME.filter": FilterTable,
    "shape.NAME.filter.route": RouteTable,
    "mark.NAME": MarkTable,
    "mark.NAME.match": MatchTable,
    "uplink.NAME": UplinkTable,
    "realm.NAME": RealmTable,
    "realm.NAME.routes": RealmRouteTable,
}
"""Their tables by path, in the order of the reference."""
