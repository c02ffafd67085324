"""How bandwidth is shared: frozen values, already checked, free of syntax. Rates are bits per second, sizes bytes.

`origin`, where a value has one, is the key of the file that it comes from, so that what the kernel refuses can be
shown there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.guarding import Slowed
    from markway.config.model import Address, Network, PortRange

Origin: TypeAlias = tuple[str | int, ...]
"""Keys, and indexes of arrays from 0, as `problems.Path` has them."""


class Direction(StrEnum):
    """Which packets of a device are shaped."""

    EGRESS = "egress"
    INGRESS = "ingress"


@dataclass(frozen=True, slots=True)
class Discipline:
    """A queueing discipline (tc(8)) without classes of its own, or the one that holds a shape's classes.

    `options` are pairs of tc's own words in tc's order: ``(("perturb", "10"), ("limit", "127"))``; a word that takes
    no value has an empty one. `strict` refuses a kernel that lacks the kind instead of taking the nearest. Options are
    whole: the rate of a root is among them (`rate` of tbf, `bandwidth` of cake), beside being its shape's.
    """

    kind: str
    options: tuple[tuple[str, str], ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """What a packet has to be; all that is set must hold. An empty tuple or None asks for nothing.

    Addresses and ports are those of the packet where nft's chains of priority mangle see it: on its way out, before
    source NAT. `raw` is an expression of nft(8) that decides nothing by itself.
    """

    origin: Origin = field(default=(), compare=False)
    service: str | None = None
    backend: str | None = None
    """A backend's name, `service` says of which service."""
    slowed: Slowed | None = None
    """Either end is a source that a guard slows at the moment."""
    family: int | None = None  # 4 | 6
    protocol: tuple[str, ...] = ()
    source: tuple[Network, ...] = ()
    destination: tuple[Network, ...] = ()
    source_port: tuple[PortRange, ...] = ()
    destination_port: tuple[PortRange, ...] = ()
    port: tuple[PortRange, ...] = ()
    """Either of the two."""
    incoming_device: str | None = None
    outgoing_device: str | None = None
    dscp: tuple[int, ...] = ()
    icmp_type: tuple[str, ...] = ()
    """nft's names; of ICMP or ICMPv6 as `protocol` says."""
    tcp_flags: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Which flags are looked at, and which of these must be set."""
    length: tuple[int, int] | None = None
    """Length of the packet from the IP header on, from and to, both included."""
    state: tuple[str, ...] = ()
    """Connection states of nft(8): new, established, related, invalid, untracked."""
    bytes_over: int | None = None
    """What the connection has carried so far, both ways together, is more than this."""
    user: tuple[str, ...] = ()
    """Owner of the socket, a name or a number; locally made packets only."""
    group: tuple[str, ...] = ()
    cgroup: str | None = None
    """Path of a control group, version 2; locally made packets only."""
    packet_mark: tuple[int, int] | None = None
    """Value and mask of the packet's mark, foreign bits included."""
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a u32 filter (tc-u32(8)): `width` bytes at `offset` of the header, masked, equal `value`.

    `base` is "ip" (the network header, tc's `at N`) or "next" (the header behind it, tc's `at nexthdr+N`). Of "next"
    the kernel knows the place only in a hash table that a filter with an `offset` links to; in any other it reads
    from the network header (u32_classify in net/sched/cls_u32.c). Offsets suit the width: 2 bytes lie at even ones, 4
    at multiples of 4.
    """

    width: int  # 1 | 2 | 4
    value: int
    mask: int
    offset: int
    base: str = "ip"


class FilterKind(StrEnum):
    """The classifiers of tc that a filter may ask for."""

    U32 = "u32"
    FW = "fw"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Filter:
    """A classifier of tc: what it finds goes to `target`, a class of its shape.

    `preference` and `protocol` are tc's: lower preferences are asked first; `protocol` is `all`, `ip`, `ipv6` or
    another that tc knows. Filters of one preference have one kind and one protocol, those of fw also one mask, as
    the kernel demands, and keep the file's order. Of the rest, what belongs to the kind is set.
    """

    kind: FilterKind
    target: str
    preference: int
    protocol: str
    origin: Origin = field(default=(), compare=False)
    selectors: tuple[str, ...] = ()
    """Of u32, as the operator wrote them."""
    keys: tuple[Key, ...] = ()
    """Of u32, what the selectors mean; all must hold. Their protocol is asked for among them, if need be."""
    mark: tuple[int, int] = (0, 0)
    """Of fw: value and mask of the packet's mark."""
    from_realm: int | None = None
    to_realm: int | None = None


@dataclass(frozen=True, slots=True)
class ShapeClass:
    """One class of a shape. `parent` "" is the shape's own top; None for `ceil` is the rate.

    What is None is computed as tc does. Without `rate`, of an `htb` shape's class, the rest of its parent's rate is
    meant; the loader puts the number in.
    """

    name: str
    parent: str = ""
    rate: int = 0
    ceil: int | None = None
    burst: int | None = None
    cburst: int | None = None
    prio: int = 0
    quantum: int | None = None
    mtu: int | None = None
    leaf: Discipline | None = None
    """None takes the shape's."""
    matches: tuple[Match, ...] = ()
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Shape:
    """How one direction of one device is shared.

    `root` is `htb` or `prio` (with classes; of `prio`, they are its bands in the file's order), or a discipline
    without any. `rate` 0 is none (only such a `root` can do without). Classes are in the file's order, which is the
    order in which their matches are tried, but parents come before their children. `default` is the class of what
    nothing else takes. `inside` are devices towards the inner network, on whose way out an ingress may be shaped.
    """

    name: str
    device: str
    direction: Direction = Direction.EGRESS
    inside: tuple[str, ...] = ()
    rate: int = 0
    burst: int | None = None
    overhead: int = 0
    """Bytes that the link adds to each packet."""
    root: Discipline = field(default_factory=lambda: Discipline("htb"))
    leaf: Discipline = field(default_factory=lambda: Discipline("fq_codel"))
    default: str = ""
    classes: tuple[ShapeClass, ...] = ()
    filters: tuple[Filter, ...] = ()
    strict: bool = False
    optional: bool = False
    """Whether the device may be absent."""
    preset: str = ""
    origin: Origin = field(default=(), compare=False)


class Way(StrEnum):
    """Which packets a marking rule looks at."""

    FORWARDED = "forwarded"
    INCOMING = "incoming"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class MarkRule:
    """Packets that match any of `matches` get a class, or an uplink, or both. Rules are tried in the file's order.

    `shape_class` is shape and class; the last rule that matches wins.
    """

    name: str
    matches: tuple[Match, ...]
    shape_class: tuple[str, str] | None = None
    uplink: str | None = None
    on: tuple[Way, ...] = tuple(Way)
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Uplink:
    """A routing table (ip-rule(8)) that marked packets leave by."""

    name: str
    table: int
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class RealmRoute:
    """A route of Markway's own that sets a realm."""

    to: Network
    via: Address | None = None
    device: str | None = None
    metric: int | None = None
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Realm:
    """A number that routes put on the packets they lead, 1 to 255 (ip-route(8), "realm")."""

    name: str
    number: int
    routes: tuple[RealmRoute, ...] = ()
    origin: Origin = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Shaping:
    """All that the file says of it. Shapes, uplinks and realms by name; marks in the file's order."""

    shapes: tuple[Shape, ...] = ()
    marks: tuple[MarkRule, ...] = ()
    uplinks: tuple[Uplink, ...] = ()
    realms: tuple[Realm, ...] = ()

    @property
    def matches(self) -> Iterator[Match]:
        """Those of all classes, then those of marks."""
        yield from (match for shape in self.shapes for item in shape.classes for match in item.matches)
        yield from (match for rule in self.marks for match in rule.matches)
