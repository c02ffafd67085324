"""What a program has beside its table: devices, queueing disciplines, classes, filters, routes, rules, settings.

Each class is one object of tc(8), ip(8) or sysctl(8), with the commands that make it, change it in place and remove
it. `key` names the object: two of one key are the same thing in two states. `origin` is the key of the file that it
comes from, to show there what the kernel refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Origin: TypeAlias = tuple[str | int, ...]

PROTOCOL = 77
"""Whose routes and rules are ours (ip-route(8), "protocol")."""

HANDLES = range(0x4D50, 0x4D60)
"""Whose root disciplines are ours: the major numbers of their handles, one for each kind."""

REDIRECT = 0x4D57
"""The preference of the filter that sends what arrives to a device of ours."""

ARRIVING = "ffff:fff2"
"""Where filters on what arrives stand, whether the discipline there is `ingress` or `clsact`."""

ESTIMATOR = "est 1sec 2sec"
"""Has the kernel measure a rate each second, the last one worth half (tc(8), net/core/gen_estimator.c).

It stays when what it measures is changed in place.
"""

_HTB = "4d57:"
"""The handle of htb, of `HANDLES`; its classes are measured, so what is below them need not be."""


@dataclass(frozen=True, slots=True)
class Link:
    """A device of ours; its kind is that of ip-link(8)."""

    device: str
    kind: str = "ifb"
    origin: Origin = field(default=(), compare=False)
    tool: ClassVar[str] = "ip"

    @property
    def key(self) -> str:
        """Names the object."""
        return f"link {self.device}"

    def add(self) -> tuple[str, ...]:
        """The commands that make it, without the tool's name."""
        return (f"link add {self.device} type {self.kind}", f"link set {self.device} up")

    def change(self) -> tuple[str, ...] | None:
        """The commands that make the old one like it in place; None if it has to be made anew."""
        return None

    def delete(self) -> tuple[str, ...]:
        """The commands that remove it."""
        return (f"link del {self.device}",)


@dataclass(frozen=True, slots=True)
class Setting:
    """A kernel setting of the network namespace, its path below /proc/sys. Removing it leaves it as it is."""

    path: str
    value: str
    origin: Origin = field(default=(), compare=False)
    tool: ClassVar[str] = "sysctl"

    @property
    def key(self) -> str:
        """Names the object."""
        return f"setting {self.path}"

    def add(self) -> tuple[str, ...]:
        """The commands that make it."""
        return (f"{self.path}={self.value}",)

    def change(self) -> tuple[str, ...] | None:
        """The commands that make the old one like it in place."""
        return self.add()

    def delete(self) -> tuple[str, ...]:
        """None: another may rely on it meanwhile."""
        return ()


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A queueing discipline. `parent` is `root`, `ingress` or a class; `handle` is empty where the kernel may choose.

    `ingress` may be someone else's too: it is made if it is not there, and removed if nothing of others is on it.
    """

    device: str
    parent: str
    kind: str
    options: str = ""
    handle: str = ""
    origin: Origin = field(default=(), compare=False)
    tool: ClassVar[str] = "tc"

    @property
    def key(self) -> str:
        """Names the object."""
        return f"qdisc {self.device} {self.parent}"

    @property
    def _place(self) -> str:
        if self.parent == "ingress":
            return f"dev {self.device} ingress"
        above = "root" if self.parent == "root" else f"parent {self.parent}"
        return f"dev {self.device} {above}" + (f" handle {self.handle}" if self.handle else "")

    def add(self) -> tuple[str, ...]:
        """The commands that make it in the place of whatever the kernel had there by itself."""
        if self.parent == "ingress":
            return (f"qdisc add {self._place}",)
        measured = "" if self.parent.startswith(_HTB) else f"{ESTIMATOR} "
        return (f"qdisc replace {self._place} {measured}{self.kind} {self.options}".rstrip(),)

    def change(self) -> tuple[str, ...] | None:
        """The commands that make the old one like it in place; of another kind, the queue begins anew."""
        return self.add()

    def delete(self) -> tuple[str, ...]:
        """The commands that remove it; the kernel puts its own there."""
        above = self.parent if self.parent in {"root", "ingress"} else f"parent {self.parent}"
        return (f"qdisc del dev {self.device} {above}",)


@dataclass(frozen=True, slots=True)
class Class:
    """A class of tc-htb(8). Rates are bits per second, sizes bytes; what is None the kernel's tool computes."""

    device: str
    parent: str
    classid: str
    rate: int
    ceil: int
    burst: int | None = None
    cburst: int | None = None
    prio: int = 0
    quantum: int | None = None
    mtu: int | None = None
    overhead: int = 0
    origin: Origin = field(default=(), compare=False)
    tool: ClassVar[str] = "tc"

    @property
    def key(self) -> str:
        """Names the object. A class cannot move to another parent, so that is part of it."""
        return f"class {self.device} {self.parent} {self.classid}"

    @property
    def options(self) -> str:
        """What tc reads behind `htb`."""
        sizes = {name: getattr(self, name) for name in ("burst", "cburst", "quantum", "mtu")}
        words = [f"rate {self.rate}bit", f"ceil {self.ceil}bit", f"prio {self.prio}"]
        words += [f"{name} {size}" for name, size in sizes.items() if size is not None]
        words += [f"overhead {self.overhead}"] if self.overhead else []
        return " ".join(words)

    def add(self) -> tuple[str, ...]:
        """The commands that make it."""
        place = f"dev {self.device} parent {self.parent} classid {self.classid}"
        return (f"class add {place} {ESTIMATOR} htb {self.options}",)

    def change(self) -> tuple[str, ...] | None:
        """The commands that make the old one like it in place; its queue and its filters stay."""
        return (f"class change dev {self.device} parent {self.parent} classid {self.classid} htb {self.options}",)

    def delete(self) -> tuple[str, ...]:
        """The commands that remove it."""
        return (f"class del dev {self.device} classid {self.classid}",)


@dataclass(frozen=True, slots=True)
class Filter:
    """A classifier of tc. `handle` of u32 is its place among those of one preference and protocol: `::1`, `::2`.

    Or it is a hash table, `b:`, or a place in one, `b::1`, `b::2`, to which the filter `::1` links.

    `options` are what tc reads behind the kind, its class included.
    """

    device: str
    parent: str
    preference: int
    protocol: str
    kind: str
    options: str
    handle: str = ""
    classid: str = ""
    origin: Origin = field(default=(), compare=False)
    tool: ClassVar[str] = "tc"

    @property
    def key(self) -> str:
        """Names the object."""
        return f"filter {self.device} {self.parent} {self.preference} {self.protocol} {self.kind} {self.handle}"

    @property
    def _place(self) -> str:
        handle = f" handle {self.handle}" if self.handle else ""
        return f"dev {self.device} parent {self.parent} protocol {self.protocol} pref {self.preference}{handle}"

    def add(self) -> tuple[str, ...]:
        """The commands that make it."""
        return (f"filter add {self._place} {self.kind} {self.options}",)

    def change(self) -> tuple[str, ...] | None:
        """The commands that make the old one like it in place; None of u32, which would keep its old selectors.

        See u32_change in net/sched/cls_u32.c.
        """
        return None if self.kind == "u32" else (f"filter replace {self._place} {self.kind} {self.options}",)

    def delete(self) -> tuple[str, ...]:
        """The commands that remove it; the handle of u32 has to be completed by its hash table (`kernel.tc`)."""
        return (f"filter del {self._place} {self.kind}",)

    def sweep(self) -> str:
        """The command that removes all filters of its preference and protocol."""
        return f"filter del dev {self.device} parent {self.parent} protocol {self.protocol} pref {self.preference}"


@dataclass(frozen=True, slots=True)
class Route:
    """A route of ours; `table` 254 is main (ip-route(8))."""

    to: str
    options: str
    table: int = 254
    origin: Origin = field(default=(), compare=False)
    tool: ClassVar[str] = "ip"

    @property
    def key(self) -> str:
        """Names the object."""
        return f"route {self.to} {self.table} {self.metric}"

    @property
    def metric(self) -> int:
        """Which of several routes to one place is taken: the lowest."""
        words = self.options.split()
        return int(words[words.index("metric") + 1]) if "metric" in words else 0

    @property
    def _place(self) -> str:
        return f"{self.to} {self.options} table {self.table} protocol {PROTOCOL}"

    def add(self) -> tuple[str, ...]:
        """The commands that make it."""
        return (f"route add {self._place}",)

    def change(self) -> tuple[str, ...] | None:
        """The commands that put it in the place of the old one, whose way or realm was another."""
        return (f"route replace {self._place}",)

    def delete(self) -> tuple[str, ...]:
        """The commands that remove it."""
        return (f"route del {self._place}",)


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule of ours that sends marked packets to a routing table (ip-rule(8)). `family` is 4 or 6."""

    family: int
    preference: int
    mark: int
    mask: int
    table: int
    origin: Origin = field(default=(), compare=False)

    @property
    def tool(self) -> str:
        """Which takes no family in its lines."""
        return f"ip -{self.family}"

    @property
    def key(self) -> str:
        """Names the object."""
        return f"rule {self.family} {self.preference} {self.mark:#x}/{self.mask:#x} {self.table}"

    @property
    def _place(self) -> str:
        seen = f"fwmark {self.mark:#x}/{self.mask:#x}"
        return f"pref {self.preference} {seen} lookup {self.table} protocol {PROTOCOL}"

    def add(self) -> tuple[str, ...]:
        """The commands that make it."""
        return (f"rule add {self._place}",)

    def change(self) -> tuple[str, ...] | None:
        """None: another rule, not another state of this one."""
        return None

    def delete(self) -> tuple[str, ...]:
        """The commands that remove it."""
        return (f"rule del {self._place}",)


Part: TypeAlias = Link | Setting | Qdisc | Class | Filter | Route | PolicyRule

_KINDS: dict[str, Callable[..., Part]] = {
    kind.__name__: kind for kind in (Link, Setting, Qdisc, Class, Filter, Route, PolicyRule)
}
_VALUES: dict[Callable[..., Part], Callable[[Part], tuple[Any, ...]]] = {
    kind: attrgetter(*(item.name for item in fields(kind)))
    for kind in (Link, Setting, Qdisc, Class, Filter, Route, PolicyRule)
}


def record_of(part: Part) -> list[Any]:
    """The part as JSON can hold it, in short: there may be thousands. `part_of` is the inverse."""
    return [type(part).__name__, *_VALUES[type(part)](part)]


def part_of(record: Sequence[Any]) -> Part:
    """A part from what `record_of` gave."""
    kind, *values, origin = record
    return _KINDS[kind](*values, tuple(origin))
