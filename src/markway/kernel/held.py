"""What of ours stands beside the table: read back by rtnetlink, and compared with what was asked for.

Layouts: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/if_link.h, linux/fib_rules.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from markway.kernel.netlink import NetlinkError, attribute, attributes
from markway.program.plumbing import (
    HANDLES,
    PROTOCOL,
    REDIRECT,
    Class,
    Filter,
    Link,
    PolicyRule,
    Qdisc,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.kernel.netlink import Attributes
    from markway.kernel.rtnetlink import Rtnetlink
    from markway.program.plumbing import Part

Identity: TypeAlias = tuple[str | int, ...]

ROOT, INGRESS, ARRIVAL = 0xFFFF_FFFF, 0xFFFF_FFF1, 0xFFFF_FFF2
"""Parents: of a device's discipline, of what it does with what arrives, and of the filters on that."""

OWN_DEVICE = "mw-"
"""How the names of devices of ours begin."""

_GET_LINK, _GET_ROUTE, _GET_RULE, _GET_QDISC, _GET_CLASS, _GET_FILTER = 18, 26, 34, 38, 42, 46
_TC = struct.Struct("=BxxxiIII")  # family, device, handle, parent, info
_LINK = struct.Struct("=BxHiII")  # family, kind, index, flags, change
_ROUTE = struct.Struct("=8BI")  # family, lengths of to and from, tos, table, protocol, scope, kind, flags
_NAME, _EXT_MASK, _LINK_INFO, _SKIP_STATS = 3, 29, 18, 8
_KIND, _OPTIONS = 1, 2
_NODES = 0x800  # the kernel's own hash tables of u32 begin here
_EVERY_ROUTE = 254


@dataclass(frozen=True, slots=True)
class Held:
    """One thing in the kernel. `digest` is of all that does not change by itself, and of no counters."""

    kind: str
    digest: str
    device: str = ""
    parent: int = 0
    handle: int = 0
    info: int = 0
    options: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """What was found: what is ours, and what decides what we may do.

    `devices` are all there are, by their names. `foreign` are root disciplines that somebody else has put there.
    `arrivals` says of devices that have a discipline for what arrives whether others use that too.
    """

    things: Mapping[Identity, Held]
    devices: Mapping[str, int]
    foreign: Mapping[str, str]
    arrivals: Mapping[str, bool]


class _Tc(NamedTuple):
    device: int
    handle: int
    parent: int
    info: int
    parts: Attributes

    @property
    def kind(self) -> str:
        return _text(self.parts.get(_KIND, b""))


def number(text: str) -> int:
    """A handle or class of tc as the kernel numbers it: `4d57:1`, `4d57:`, `root`, `ingress`."""
    if text in {"root", "ingress"}:
        return ROOT if text == "root" else INGRESS
    major, _, minor = text.partition(":")
    return int(major or "0", 16) << 16 | int(minor or "0", 16)


def spelled(value: int) -> str:
    """The inverse, of classes and handles."""
    minor = value & 0xFFFF
    return f"{value >> 16:x}:{minor:x}" if minor else f"{value >> 16:x}:"


PROTOCOLS = {"all": 0x0003, "ip": 0x0800, "arp": 0x0806, "ipv6": 0x86DD}
"""Those of filters that have names here (ETH_P_* in linux/if_ether.h)."""


def protocol_of(held: Held) -> str:
    """The protocol of a filter, as tc reads it."""
    number = int.from_bytes(struct.pack("=H", held.info & 0xFFFF))
    return next((name for name, known in PROTOCOLS.items() if known == number), f"{number:#06x}")


def identity(part: Part) -> Identity:
    """What tells a part from all others in the kernel; empty of one that is not looked for there."""
    found: Identity = ()
    if isinstance(part, Link):
        found = "link", part.device
    elif isinstance(part, Qdisc):
        found = "qdisc", part.device, number(part.parent)
    elif isinstance(part, Class):
        found = "class", part.device, number(part.classid)
    elif isinstance(part, Filter):
        found = "filter", part.device, number(part.parent) & 0xFFFF_0000, part.preference, *_handle(part)
    elif isinstance(part, Route):
        to = part.to if "/" in part.to else f"{part.to}/{128 if ':' in part.to else 32}"
        found = "route", part.table, to, part.metric
    elif isinstance(part, PolicyRule):
        found = "rule", part.family, part.preference, part.mark, part.mask, part.table
    return found


def _handle(part: Filter) -> tuple[int, ...]:
    if part.kind == "u32":
        table, _, node = part.handle.partition(":")
        return int(table or "0", 16), int(node.lstrip(":") or "0", 16)
    return (int(part.handle.partition("/")[0] or "0", 0),)


def ground(netlink: Rtnetlink) -> Ground:
    """Read what there is.

    Raises:
        NetlinkError: the kernel refused.
    """
    links = list(_links(netlink))
    names = {index: name for name, index, _ in links}
    things: dict[Identity, Held] = {
        ("link", name): Held(kind, _digest(kind))
        for name, _, kind in links
        if kind == "ifb" and name.startswith(OWN_DEVICE)
    }
    dumped = (_tc(data) for data in _all(netlink, _GET_QDISC, _TC.pack(0, 0, 0, 0, 0)))
    disciplines = [one for one in dumped if one.device in names]
    roots = {one.device: one for one in disciplines if one.parent == ROOT and one.handle}
    ours = {device for device, root in roots.items() if root.handle >> 16 in HANDLES}
    things |= {("qdisc", names[o.device], o.parent): qdisc(o, names) for o in disciplines if o.device in ours}
    for device in ours:
        things |= _classes(netlink, device, names)
        things |= _filters(netlink, device, roots[device].handle, names)
    arrivals: dict[str, bool] = {}
    for one in disciplines:
        if one.parent == INGRESS:
            name = names[one.device]
            found = _filters(netlink, one.device, ARRIVAL, names)
            things["qdisc", name, INGRESS] = Held("ingress", _digest("ingress"), name)
            things |= {place: thing for place, thing in found.items() if place[3] == REDIRECT}
            arrivals[name] = any(place[0] == "filter" and place[3] != REDIRECT for place in found)
    things |= {**dict(_routes(netlink, names)), **dict(_rules(netlink))}
    foreign = {names[d]: f"{root.kind} {spelled(root.handle)}" for d, root in roots.items() if d not in ours}
    return Ground(things, {name: index for index, name in names.items()}, foreign, arrivals)


def some(netlink: Rtnetlink, parts: Iterable[Class | Qdisc], devices: Mapping[str, int]) -> dict[Identity, Held]:
    """Only these, each asked for by itself; those that are not there are left out."""
    found: dict[Identity, Held] = {}
    for part in parts:
        device = devices.get(part.device, 0)
        names = {device: part.device}
        if isinstance(part, Class):
            data = netlink.get(_GET_CLASS, _TC.pack(0, device, number(part.classid), 0, 0))
        else:
            data = netlink.get(_GET_QDISC, _TC.pack(0, device, 0, number(part.parent), 0))
        if data is not None:
            one = _tc(data)
            found[identity(part)] = _class(one, names) if isinstance(part, Class) else qdisc(one, names)
    return found


def u32_table(netlink: Rtnetlink, device: str, parent: str, preference: int) -> int | None:
    """The number of the hash table that the kernel has given to the u32 filters of a preference."""
    try:
        index = socket.if_nametoindex(device)
    except OSError:
        return None
    request = _TC.pack(0, index, 0, number(parent), preference << 16)
    tables = (_tc(data).handle >> 20 for data in _all(netlink, _GET_FILTER, request))
    return max((table for table in tables if table >= _NODES), default=None)


def _all(netlink: Rtnetlink, kind: int, request: bytes) -> Iterator[bytes]:
    """A dump; empty where the kernel was built without what it is of."""
    try:
        yield from netlink.dump(kind, request)
    except NetlinkError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def _links(netlink: Rtnetlink) -> Iterator[tuple[str, int, str]]:
    request = _LINK.pack(0, 0, 0, 0, 0) + attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))
    for data in _all(netlink, _GET_LINK, request):
        parts = attributes(data[_LINK.size :])
        kind = _text(attributes(parts.get(_LINK_INFO, b"")).get(1, b""))
        yield _text(parts[_NAME]), _LINK.unpack_from(data)[2], kind


def _tc(data: bytes) -> _Tc:
    _, device, handle, parent, info = _TC.unpack_from(data)
    return _Tc(device, handle, parent, info, attributes(data[_TC.size :]))


def qdisc(one: _Tc, names: Mapping[int, str]) -> Held:
    """A queueing discipline. The kernel gives those below classes their handles."""
    options = one.parts.get(_OPTIONS, b"")
    if one.kind == "htb":
        found = attributes(options)
        found[2] = found.get(2, b"")[:16]  # struct tc_htb_glob without direct_pkts
        stays = b"".join(found.values())
    elif one.kind == "sfq":
        stays = options[:-24]  # struct tc_sfq_qopt_v1 without tc_sfqred_stats
    else:
        stays = options
    handle = one.handle if one.parent == ROOT else 0
    digest = _digest(one.kind, handle, stays)
    nested = {} if one.kind in _PLAIN else attributes(options)
    return Held(one.kind, digest, names[one.device], one.parent, one.handle, one.info, nested)


_PLAIN = frozenset({"sfq", "prio", "pfifo", "bfifo", "pfifo_fast"})
"""Kinds whose options are one struct."""


def _classes(netlink: Rtnetlink, device: int, names: Mapping[int, str]) -> dict[Identity, Held]:
    found = (_class(_tc(data), names) for data in _all(netlink, _GET_CLASS, _TC.pack(0, device, 0, 0, 0)))
    return {("class", held.device, held.handle): held for held in found}


def _class(one: _Tc, names: Mapping[int, str]) -> Held:
    options = attributes(one.parts.get(_OPTIONS, b""))
    told = options.get(1, b"")
    stays = [told[:36], told[40:], *(options.get(kind, b"") for kind in (6, 7))]  # struct tc_htb_opt without level
    digest = _digest(one.kind, one.parent, *stays)
    return Held(one.kind, digest, names[one.device], one.parent, one.handle, one.info, options)


def _filters(netlink: Rtnetlink, device: int, parent: int, names: Mapping[int, str]) -> dict[Identity, Held]:
    """The filters of one parent, and the preferences that have none left."""
    found: dict[Identity, Held] = {}
    empty: dict[int, Held] = {}
    for data in _all(netlink, _GET_FILTER, _TC.pack(0, device, 0, parent, 0)):
        one = _tc(data)
        options = attributes(one.parts.get(_OPTIONS, b""))
        if not options or (own := _own_handle(one)) is None:
            digest = _digest(one.kind, one.info)
            empty[one.info >> 16] = Held(one.kind, digest, names[device], parent, info=one.info)
            continue
        stays = {kind: value for kind, value in options.items() if one.kind != "u32" or kind in _U32_STAYS}
        if _ACTION in options:
            stays[_ACTION] = struct.pack("=I", redirected(options))
        if _U32_MARK in stays:
            stays[_U32_MARK] = stays[_U32_MARK][:8]  # struct tc_u32_mark without success
        digest = _digest(one.kind, one.info, *(value for _, value in sorted(stays.items())))
        place: Identity = ("filter", names[device], parent & 0xFFFF_0000, one.info >> 16, *own)
        found[place] = Held(one.kind, digest, names[device], one.parent, one.handle, one.info, options)
    full = {place[3] for place in found}
    left = {preference: held for preference, held in empty.items() if preference not in full}
    return found | {("empty", names[device], parent & 0xFFFF_0000, number): held for number, held in left.items()}


_U32_STAYS = frozenset({1, 3, 4, 5, 10})  # TCA_U32_CLASSID, LINK, DIVISOR, SEL, MARK
_ACTION, _U32_MARK = 7, 10


def _own_handle(one: _Tc) -> tuple[int, ...] | None:
    """The handle as a part has it; None of what the kernel has made by itself."""
    if one.kind != "u32":
        return (one.handle,)
    table, node = one.handle >> 20, one.handle & 0xFFF
    if table >= _NODES:
        return (0, node) if node else None
    return (table, node) if table else None


def redirected(options: Attributes) -> int:
    """The index of the device that a u32 filter's action `mirred` sends packets to; 0 for none."""
    action = attributes(attributes(options.get(_ACTION, b"")).get(1, b""))
    told = attributes(action.get(_OPTIONS, b"")).get(2, b"")  # TCA_MIRRED_PARMS
    return int(struct.unpack_from("=I", told, 24)[0]) if len(told) >= 28 else 0  # noqa: PLR2004  (struct tc_mirred)


def _routes(netlink: Rtnetlink, names: Mapping[int, str]) -> Iterator[tuple[Identity, Held]]:
    """Routes of our protocol. The kernel shows only those, if it can."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for data in _all(netlink, _GET_ROUTE, _ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)):
            shown, length, _, _, table, protocol, *_ = _ROUTE.unpack_from(data)
            if (shown, protocol) != (family, PROTOCOL):
                continue
            parts = attributes(data[_ROUTE.size :])
            address = socket.inet_ntop(family, parts.get(1, b"\0" * (4 if family == socket.AF_INET else 16)))
            table = _word(parts, 15) or table
            device = names.get(_word(parts, 4), "")
            digest = _digest(*(parts.get(kind, b"") for kind in (4, 5, 11)))  # RTA_OIF, GATEWAY, FLOW
            yield ("route", table, f"{address}/{length}", _word(parts, 6)), Held("route", digest, device, options=parts)


def _rules(netlink: Rtnetlink) -> Iterator[tuple[Identity, Held]]:
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        for data in _all(netlink, _GET_RULE, struct.pack("=12B", family, *[0] * 11)):
            parts = attributes(data[12:])
            if parts.get(21) == bytes([PROTOCOL]):  # FRA_PROTOCOL; then PRIORITY, FWMARK, FWMASK, TABLE
                found = (_word(parts, kind) for kind in (6, 10, 16, 15))
                yield ("rule", version, *found), Held("rule", _digest("rule"))


def _word(parts: Attributes, kind: int) -> int:
    return int(struct.unpack("=I", parts[kind])[0]) if kind in parts else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _digest(*parts: str | int | bytes) -> str:
    whole = blake2b(digest_size=8)
    for part in parts:
        whole.update(part if isinstance(part, bytes) else str(part).encode())
        whole.update(b"\0")
    return whole.hexdigest()
