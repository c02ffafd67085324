"""Zones and policies become chains where packets come in, pass through and leave; a drop is a rule's, not a chain's.

A packet that begins a connection is led by its devices to a chain that holds the policies of their zones in the
file's order, each asked for the zones' networks. All others end in the first rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.compiler.abilities import CompileError
from markway.compiler.early import SPOOFED, early
from markway.compiler.matches import Marks
from markway.compiler.names import CONNTRACK, hexed
from markway.compiler.policies import (
    LOGGED,
    entry,
    incoming,
    leaving,
    passing,
    policy_chains,
    policy_name,
    policy_sets,
    refusal,
)
from markway.compiler.synproxy import ANSWERED, HANDSHAKES, answer, answering, arriving
from markway.compiler.zones import IN, OUT, End, Zoning
from markway.config.firewalling import ANY, SELF, Firewalling
from markway.program.model import Fragment, PolicyEntry
from markway.program.nft import And, Chain, Dispatch, Hook, Match, Rule, Term, Written
from markway.program.plumbing import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markway.compiler.abilities import Abilities
    from markway.compiler.names import Family
    from markway.config.firewalling import Policy
    from markway.config.model import Config, Service
    from markway.marks import Field

OWNER = "guard/firewall"

INPUT, FORWARD, INVALID = "firewall/input", "firewall/forward", "firewall/invalid"
"""The chains of what no policy fits and of what belongs to no connection, and their counters."""

_ACCEPT = Written("accept")
_KNOWN: Rule = (Dispatch(Term("ct state"), "{ established : accept, related : accept }"),)
_INVALID: Rule = (Match(Term("ct state"), "", Term("invalid")), Written(f"goto {INVALID}"))
_ERRORS: tuple[Rule, ...] = (
    (Written("icmp type { destination-unreachable, time-exceeded, parameter-problem }"), _ACCEPT),
    (Written("icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"), _ACCEPT),
)
"""Without them connections hang: RFC 4890, 4.3.1, and of IPv4 RFC 1191."""

_LINK: tuple[Rule, ...] = (
    (
        Written(
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, nd-redirect, "
            "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report }"
        ),
        _ACCEPT,
    ),
    (Match(Term("meta l4proto"), "", Term("igmp")), _ACCEPT),
)
"""What a link lives by: RFC 4890, 4.4.1. The kernel tracks none of it (net/netfilter/nf_conntrack_proto_icmpv6.c)."""

_ECHO: tuple[Rule, ...] = tuple(
    (Written(f"{protocol} type echo-request limit rate 20/second burst 40 packets"), _ACCEPT)
    for protocol in ("icmp", "icmpv6")
)
_DHCP: tuple[Rule, ...] = (
    (Written("udp dport . udp sport { 68 . 67, 67 . 68, 67 . 67 }"), _ACCEPT),
    (Written("ip6 saddr fe80::/10 udp dport { 546, 547 }"), _ACCEPT),
)
"""Answers to this machine and questions to it, also a relay's (RFC 2131, 8415)."""


def firewall_of(config: Config, marks: Field, abilities: Abilities) -> dict[str, Fragment]:
    """The firewall's fragment, by its owner; none if the file says nothing of it.

    Raises:
        CompileError: a policy asks for `synproxy`, and the kernel has none.
    """
    if config.firewalling == Firewalling():
        return {}
    lacking = next((policy for policy in config.firewalling.policies if policy.synproxy), None)
    if lacking and not abilities.synproxy:
        hint = "leave it out: for its own sockets the kernel has SYN cookies (net.ipv4.tcp_syncookies)"
        raise CompileError((*lacking.origin, "synproxy"), "this kernel has no synproxy", hint)
    return {OWNER: _fragment(config.firewalling, config.services, marks)}


def _fragment(firewalling: Firewalling, services: Sequence[Service], field: Field) -> Fragment:
    marks = Marks(field, {})
    answered = next((policy for policy in firewalling.policies if policy.synproxy), None)
    chains = [*arriving(firewalling, services, marks)] if answered else []
    chains += early(firewalling.zones, firewalling.log, *((HANDSHAKES,) if answered else ()))
    if firewalling.closed:
        chains += _Hooks(firewalling, marks, has_services=bool(services)).chains()
    settings = (Setting("net/netfilter/nf_conntrack_tcp_loose", "0", answered.origin),) if answered else ()
    entries = (*map(entry, firewalling.policies), *_reasons(firewalling))
    counters = dict.fromkeys(name for one in entries for name in (one.counter, one.over) if name)
    sets = [item for policy in firewalling.policies for item in policy_sets(policy)]
    return Fragment(
        owner=OWNER,
        chains={chain.name: chain for chain in chains},
        sets={item.name: item for item in sets},
        objects=tuple(f"counter {name}" for name in (*counters, LOGGED)),
        plumbing=settings,
        policies=entries,
    )


def _reasons(firewalling: Firewalling) -> Iterator[PolicyEntry]:
    """Why packets are dropped that no policy drops."""
    if firewalling.closed:
        yield PolicyEntry(INPUT, (ANY,), (SELF,), "drop", INPUT)
        yield PolicyEntry(FORWARD, (ANY,), (ANY,), "drop", FORWARD)
        yield PolicyEntry(INVALID, (ANY,), (SELF, ANY), "drop", INVALID)
    if any(zone.spoofed for zone in firewalling.zones):
        zones = tuple(zone.name for zone in firewalling.zones if zone.spoofed)
        yield PolicyEntry(SPOOFED, zones, (SELF, ANY), "drop", SPOOFED)


@dataclass(frozen=True)
class _Hooks:
    firewalling: Firewalling
    marks: Marks
    has_services: bool

    def chains(self) -> Iterator[Chain]:
        """Those that the kernel calls, those of zones, those of policies, and those that drop."""
        firewalling = self.firewalling
        yield from self._input()
        yield from self._forward()
        yield from self._output()
        for policy in firewalling.policies:
            yield from policy_chains(policy, firewalling, self.marks)
            if policy.synproxy:
                yield answer(policy, INVALID)
        own = (*(_ECHO if firewalling.icmp else ()), *(_DHCP if firewalling.dhcp else ()))
        yield refusal(INPUT, firewalling.log, *own)
        yield refusal(FORWARD, firewalling.log)
        yield refusal(INVALID, firewalling.log)

    def _input(self) -> Iterator[Chain]:
        lead = (_KNOWN, (Match(Term("iifname"), "", Term('"lo"')), _ACCEPT), *_ERRORS, *_LINK)
        policies = [policy for policy in self.firewalling.policies if incoming(policy)]
        yield from self._hook("input", lead, policies, (IN,), INPUT)

    def _forward(self) -> Iterator[Chain]:
        policies = [policy for policy in self.firewalling.policies if passing(policy)]
        yield from self._hook("forward", (_KNOWN, *_ERRORS), policies, (IN, OUT), FORWARD)

    def _output(self) -> Iterator[Chain]:
        """There only if a policy speaks of what leaves: else all of it may."""
        lead = (_KNOWN, (Match(Term("oifname"), "", Term('"lo"')), _ACCEPT), *_ERRORS, *_LINK)
        if any(policy.synproxy for policy in self.firewalling.policies):
            lead = (*lead, ANSWERED)
        policies = [policy for policy in self.firewalling.policies if leaving(policy)]
        if policies:
            yield from self._hook("output", lead, policies, (OUT,), "")

    def _hook(
        self, point: str, lead: Sequence[Rule], policies: Sequence[Policy], ends: Sequence[End], refused: str
    ) -> Iterator[Chain]:
        last: tuple[Rule, ...] = ((Written(f"goto {refused}"),),) if refused else ()
        chains, answered = answering(point, policies, ends, self.firewalling, self.marks) if refused else ([], [])
        strange = (*answered, _INVALID) if refused else ()
        zoning = Zoning(self.firewalling.zones, _decided, last)
        rules = zoning.rules(point, policies, ends)
        yield Chain(f"firewall-{point}", (*lead, *strange, *self._services(), *rules), Hook("filter", point, "filter"))
        yield from (*chains, *zoning.chains.values())

    def _services(self) -> Iterator[Rule]:
        """A connection that was given to a server may go there."""
        if self.has_services:
            ours = Match(And(CONNTRACK, Term(hexed(self.marks.field.mask))), "!=", Term("0x00000000"))
            yield (Match(Term("ct status"), "", Term("dnat")), ours, _ACCEPT)


def _decided(policy: Policy, _: Family | None) -> tuple[Rule, ...]:
    """A policy without matches decides of all that comes to it."""
    return ((Written(f"{'jump' if policy.matches else 'goto'} {policy_name(policy)}"),),)
