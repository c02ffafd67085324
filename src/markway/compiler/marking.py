"""`[mark]` becomes chains that write the class and the uplink field of packets' marks, and rules that route by them.

A class is written where the packet is known best: forwarded ones after routing and translation of their destination,
so that a rule sees what a shape's matches see; a forwarded packet's uplink before it is routed; locally made ones where
a changed mark has them routed anew. Both fields are written apart, so that the last rule wins in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from markway.compiler.abilities import CompileError
from markway.compiler.matches import alternatives, statements
from markway.compiler.names import PACKET, hexed
from markway.config.shaping import MarkRule, Way
from markway.program.model import MarkEntry
from markway.program.nft import And, Assign, Chain, Hook, Or, Term, Written
from markway.program.plumbing import PolicyRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from markway.compiler.matches import Marks
    from markway.config.shaping import Match, Shaping
    from markway.marks import Layout
    from markway.program.nft import Rule

PREFERENCE = 19799
"""The preference of our rules (ip-rule(8)): behind the local table (0), in front of main (32766)."""

_AFTER_RESTORING = "-149"
_RETURN = Written("return")
_HOOKS: Mapping[str, Hook] = MappingProxyType(
    {
        "prerouting": Hook("filter", "prerouting", _AFTER_RESTORING),
        "input": Hook("filter", "input", _AFTER_RESTORING),
        "forward": Hook("filter", "forward", _AFTER_RESTORING),
        "output": Hook("route", "output", _AFTER_RESTORING),
    }
)


def rules_of(shaping: Shaping) -> tuple[MarkRule, ...]:
    """The file's rules, behind those that stand for matches on control groups.

    Whose socket a packet is from, a chain can ask by control group only where the packet is made
    (nft_socket_validate in net/netfilter/nft_socket.c), not where it leaves.
    """
    implied = (
        MarkRule(f"shape/{shape.name}/{item.name}", owned, (shape.name, item.name), on=(Way.LOCAL,), origin=item.origin)
        for shape in shaping.shapes
        for item in shape.classes
        if (owned := tuple(match for match in item.matches if match.cgroup))
    )
    return (*implied, *shaping.marks)


def aims(shaping: Shaping) -> frozenset[str]:
    """The classes that rules aim at, as `shape/class`: each needs a number in the class field."""
    return frozenset("/".join(rule.shape_class) for rule in rules_of(shaping) if rule.shape_class)


@dataclass(frozen=True)
class _Part:
    """What one rule writes in one field, from some of its matches."""

    chain: str
    rule: MarkRule
    matches: tuple[Match, ...]
    value: int
    mask: int
    points: tuple[str, ...]
    counted: bool


@dataclass(frozen=True)
class Marking:
    """The rules with the numbers that they write."""

    shaping: Shaping
    layout: Layout
    marked: Mapping[str, int]
    uplinks: Mapping[str, int]
    marks: Marks

    def chains(self) -> Iterator[Chain]:
        """A chain for each rule, and those that the kernel calls."""
        parts = [part for rule in rules_of(self.shaping) for part in self._parts(rule)]
        for point, hook in _HOOKS.items():
            jumps = tuple((Written(f"jump {part.chain}"),) for part in parts if point in part.points)
            if jumps:
                yield Chain(f"{point}-mark", jumps, hook)
        for part in parts:
            yield Chain(part.chain, tuple(self._rules(part)))

    def _parts(self, rule: MarkRule) -> Iterator[_Part]:
        local = tuple(match for match in rule.matches if match.user or match.group or match.cgroup)
        others = tuple(match for match in rule.matches if match not in local)
        for match in local if Way.LOCAL not in rule.on else ():
            raise CompileError(
                match.origin, "only packets made on this machine have an owner", 'write on = ["local"] in the rule'
            )
        fields = []
        if rule.shape_class:
            value = self.layout.class_.place(self.marked["/".join(rule.shape_class)])
            fields.append((f"mark/{rule.name}", value, self.layout.class_.mask, _class_points(rule.on)))
        if rule.uplink is not None:
            value = self.layout.uplink.place(self.uplinks[rule.uplink])
            fields.append((f"mark/{rule.name}/uplink", value, self.layout.uplink.mask, _uplink_points(rule.on)))
        for index, (chain, value, mask, points) in enumerate(fields):
            if others:
                yield _Part(chain, rule, others, value, mask, points, counted=not index)
            if local:
                yield _Part(f"{chain}/local", rule, local, value, mask, ("output",), counted=not index)

    def _rules(self, part: _Part) -> Iterator[Rule]:
        written = Assign(PACKET, Or(And(PACKET, Term(hexed(part.mask ^ 0xFFFF_FFFF))), Term(hexed(part.value))))
        counted = (Written(f"counter name {counter(part.rule)}"),) if part.counted else ()
        for match in part.matches:
            if match.outgoing_device and not {"forward", "output"}.intersection(part.points):
                raise CompileError(
                    match.origin,
                    "by which device a packet goes out is not known before it has been routed",
                    "an uplink needs another match, as `incoming-device` or `source`",
                )
            for alternative in alternatives(match, self.marks):
                yield (*statements(alternative), *counted, written, _RETURN)

    def counters(self) -> tuple[str, ...]:
        """The counter of each rule."""
        return tuple(f"counter {counter(rule)}" for rule in rules_of(self.shaping))

    def entries(self) -> tuple[MarkEntry, ...]:
        """What a person wants to know of each rule."""
        return tuple(
            MarkEntry(rule.name, ".".join(rule.shape_class or ()), rule.uplink or "", counter(rule), tuple(rule.on))
            for rule in rules_of(self.shaping)
        )

    def routing(self) -> Iterator[PolicyRule]:
        """What sends packets of an uplink to its table."""
        field = self.layout.uplink
        for uplink in self.shaping.uplinks:
            value = field.place(self.uplinks[uplink.name])
            for family in (4, 6):
                yield PolicyRule(family, PREFERENCE, value, field.mask, uplink.table, uplink.origin)


def counter(rule: MarkRule) -> str:
    """The name of the counter of a rule."""
    return f"mark/{rule.name}"


def without_owners(matches: Iterable[Match]) -> tuple[Match, ...]:
    """The matches of a class that are asked where packets leave."""
    return tuple(match for match in matches if not match.cgroup)


def _class_points(on: tuple[Way, ...]) -> tuple[str, ...]:
    points = {Way.FORWARDED: "forward", Way.INCOMING: "input", Way.LOCAL: "output"}
    return tuple(points[way] for way in on)


def _uplink_points(on: tuple[Way, ...]) -> tuple[str, ...]:
    """Whether a packet will be forwarded is not known before it is routed; what is for this machine loses nothing."""
    if Way.FORWARDED in on:
        on = tuple(way for way in on if way is not Way.INCOMING)
    points = {Way.FORWARDED: "prerouting", Way.INCOMING: "input", Way.LOCAL: "output"}
    return tuple(points[way] for way in on)
