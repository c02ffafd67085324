"""The shape of a queueing discipline and its options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Amount, Bandwidth, Duration, Size

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)

Kind = Literal["htb", "tbf", "prio", "sfq", "fq_codel", "cake", "fq", "pfifo", "bfifo", "pfifo_fast"]


class DisciplineTable(BaseModel):
    """A queueing discipline with its options, which are tc's: each of use to some kinds only."""

    model_config = _STRICT

    kind: Kind | None = Field(
        None,
        description=(
            "Which one; its name alone may stand in place of the table. `htb` and `prio` hold classes, `tbf` and "
            "`cake` keep to a rate, the others share what they get."
        ),
        examples=["sfq"],
    )
    strict: bool = Field(
        False,
        description="Refuse a kernel that lacks the kind, instead of taking the nearest that it has.",
        examples=[True],
    )
    limit: Amount = Field(
        None,
        description="How much may wait: packets; of `tbf` and `bfifo`, bytes.",
        examples=[127, "30k"],
    )
    latency: Duration = Field(
        None, description="Of `tbf`, instead of `limit`: how long a packet may wait. Default 50ms.", examples=["50ms"]
    )
    rate: Bandwidth = Field(
        None, description="Of a `tbf` that is a leaf: what it keeps to. A root has its shape's.", examples=["500kbit"]
    )
    burst: Size = Field(
        None, description="Of `tbf`: what may pass at once. Default: 4 ms of the rate.", examples=["5k"]
    )
    peakrate: Bandwidth = Field(
        None, description="Of `tbf`: how fast a burst may pass; needs `mtu`.", examples=["2mbit"]
    )
    mtu: Size = Field(None, description="Of `tbf`: the burst of `peakrate`, no less than a packet.", examples=["1540"])
    perturb: Duration = Field(
        None,
        description="Of `sfq`: how often flows are hashed anew, in whole seconds. Default 10s; 0s for never.",
        examples=["10s"],
    )
    quantum: Size = Field(
        None,
        description="Of `sfq`, `fq_codel` and `fq`: bytes that a flow sends in its turn.",
        examples=[1514],
    )
    flows: Annotated[int | None, Field(ge=1, le=65536)] = Field(
        None, description="Of `sfq` and `fq_codel`: how many flows are told apart.", examples=[1024]
    )
    divisor: Annotated[int | None, Field(ge=1, le=65536)] = Field(
        None, description="Of `sfq`: the size of its hash table, a power of two.", examples=[1024]
    )
    depth: Annotated[int | None, Field(ge=1, le=65535)] = Field(
        None, description="Of `sfq`: packets that one flow may have waiting.", examples=[127]
    )
    target: Duration = Field(
        None, description="Of `fq_codel`: how long packets may keep waiting. Default 5ms.", examples=["5ms"]
    )
    interval: Duration = Field(
        None, description="Of `fq_codel`: about the longest round trip. Default 100ms.", examples=["100ms"]
    )
    ecn: bool | None = Field(
        None, description="Of `fq_codel`: mark packets instead of dropping them. Default true.", examples=[False]
    )
    ce_threshold: Duration = Field(
        None,
        alias="ce-threshold",
        description="Of `fq_codel` and `fq`: packets that waited longer are marked as in congestion.",
        examples=["2ms"],
    )
    memory_limit: Size = Field(
        None,
        alias="memory-limit",
        description="Of `fq_codel` and `cake`: bytes of memory that waiting packets may take.",
        examples=["4m"],
    )
    flow_limit: Annotated[int | None, Field(ge=1, le=1_000_000)] = Field(
        None, alias="flow-limit", description="Of `fq`: packets that one flow may have waiting.", examples=[100]
    )
    maxrate: Bandwidth = Field(None, description="Of `fq`: what one flow gets at most.", examples=["500kbit"])
    pacing: bool | None = Field(
        None, description="Of `fq`: keep to the rates that sockets ask for. Default true.", examples=[False]
    )
    bandwidth: Bandwidth = Field(
        None, description="Of a `cake` that is a leaf: what it keeps to. A root has its shape's.", examples=["1024kbit"]
    )
    diffserv: Literal["besteffort", "precedence", "diffserv3", "diffserv4", "diffserv8"] | None = Field(
        None, description="Of `cake`: the classes that a packet's DSCP chooses from. Default diffserv3.",
        examples=["diffserv4"],
    )  # fmt: skip
    isolation: (
        Literal[
            "flowblind", "srchost", "dsthost", "hosts", "flows", "dual-srchost", "dual-dsthost", "triple-isolate"
        ]
        | None
    ) = Field(
        None, description="Of `cake`: who shares fairly. Default triple-isolate: hosts, then their flows.",
        examples=["dual-srchost"],
    )  # fmt: skip
    nat: bool | None = Field(
        None, description="Of `cake`: tell hosts apart by their addresses before NAT. Default false.", examples=[True]
    )
    wash: bool | None = Field(
        None, description="Of `cake`: clear the DSCP of packets once it was used. Default false.", examples=[True]
    )
    ack_filter: bool | Literal["aggressive"] | None = Field(
        None, alias="ack-filter",
        description="Of `cake`: drop acknowledgements that a later one repeats. Default false.",
        examples=[True, "aggressive"],
    )  # fmt: skip
    split_gso: bool | None = Field(
        None, alias="split-gso", description="Of `cake`: split what the stack left joined. Default true.",
        examples=[True],
    )  # fmt: skip
    ingress: bool | None = Field(
        None, description="Of `cake`: count what it drops, as that has come over the link. Default false.",
        examples=[True],
    )  # fmt: skip
    rtt: Duration = Field(
        None, description="Of `cake`: the round trip that most connections have. Default 100ms.", examples=["50ms"]
    )
    bands: Annotated[int | None, Field(ge=2, le=16)] = Field(
        None,
        description="Of a `prio` that is a leaf: how many bands. A root has one for each class.",
        examples=[3],
    )


DisciplineOf = Kind | DisciplineTable | None
