"""`[mark]` becomes chains that write the class and the uplink field of packets' marks, and rules that route by them.

A class is written where the packet is known best: forwarded ones after routing and translation of their destination,
so that a rule sees what a shape's matches see; a forwarded packet's uplink before it is routed; locally made ones where
a changed mark has them routed anew. Both fields are written apart, so that the last rule wins in each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

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
_CLASS_POINTS = {Way.FORWARDED: "forward", Way.INCOMING: "input", Way.LOCAL: "output"}
_UPLINK_POINTS = {Way.FORWARDED: "prerouting", Way.LOCAL: "output"}
"""Whether a packet will be forwarded is not known before it is routed; to what is for this machine it does nothing."""
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
    """What one rule writes in one field, and where."""

    chain: str
    rule: MarkRule
    value: int
    mask: int
    point_of: Mapping[Way, str]

    @property
    def points(self) -> frozenset[str]:
        """The hooks where its packets are seen."""
        return frozenset(self.point_of[way] for way in self.rule.on if way in self.point_of)

    @property
    def is_second(self) -> bool:
        """Whether the rule writes another field before."""
        return self.chain != counter(self.rule)


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
        if rule.shape_class:
            value = self.layout.class_.place(self.marked["/".join(rule.shape_class)])
            yield _Part(counter(rule), rule, value, self.layout.class_.mask, _CLASS_POINTS)
        if rule.uplink is not None:
            value = self.layout.uplink.place(self.uplinks[rule.uplink])
            yield _Part(
                f"{counter(rule)}/uplink" if rule.shape_class else counter(rule),
                rule,
                value,
                self.layout.uplink.mask,
                _UPLINK_POINTS,
            )

    def _rules(self, part: _Part) -> Iterator[Rule]:
        """The first of a rule's matches ends it; it is counted where it writes its first field."""
        others, value = Term(hexed(part.mask ^ 0xFFFF_FFFF)), Term(hexed(part.value))
        counted = () if part.is_second else (Written(f"counter name {counter(part.rule)}"),)
        for match in part.rule.matches:
            for alternative in alternatives(match, self.marks):
                yield (*statements(alternative), *counted, Assign(PACKET, Or(And(PACKET, others), value)), _RETURN)

    def counters(self) -> tuple[str, ...]:
        """The counter of each rule."""
        return tuple(f"counter {counter(rule)}" for rule in rules_of(self.shaping))

    def entries(self) -> tuple[MarkEntry, ...]:
        """What a person wants to know of each rule."""
        return tuple(
            MarkEntry(
                rule.name,
                ".".join(rule.shape_class or ()),
                rule.uplink or "",
                counter(rule),
                tuple(way.value for way in rule.on),
            )
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
