"""Handshakes that are answered in the server's place: not tracked on arrival, taken up where connections are let in.

The SYN is not tracked, so that the chain that would let it in answers with a cookie; the client's ACK belongs to no
connection, and if its cookie is right, the kernel makes one (net/netfilter/nft_synproxy.c, nf_synproxy_core.c).
Policies are asked in the file's order both times, so that one in front can refuse, or do without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from markway.compiler.matches import alternatives, statements
from markway.compiler.names import FAMILIES, Family, networks
from markway.compiler.policies import limits, policy_name, refusal_of
from markway.compiler.zones import IN, End, Zoning
from markway.config.firewalling import ANY, SELF, Verdict
from markway.config.model import Protocol
from markway.program.nft import And, Chain, Concat, Match, Rule, Statement, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from markway.compiler.matches import Marks
    from markway.config import shaping
    from markway.config.firewalling import Firewalling, Policy
    from markway.config.model import Service

_RETURN = Written("return")
_TCP = Match(Term("meta l4proto"), "", Term("tcp"))
_FLAGS = And(Term("tcp flags"), Term("(fin | syn | rst | ack)"))
_SYN = Match(_FLAGS, "==", Term("syn"))
_ANSWER = Written("synproxy mss 1460 wscale 7 timestamp sack-perm")
"""What Linux itself offers on Ethernet."""

ANSWERED: Rule = (
    Match(Term("ct state"), "", Term("untracked")),
    Match(And(Term("tcp flags"), Term("(syn | ack)")), "==", Term("syn | ack")),
    Written("accept"),
)
"""The answers leave like this machine's own."""


def concerned(firewalling: Firewalling) -> tuple[Policy, ...]:
    """The policies up to the last that answers handshakes."""
    policies = firewalling.policies
    last = max((index for index, policy in enumerate(policies) if policy.synproxy), default=-1)
    return policies[: last + 1]


def arriving(firewalling: Firewalling, services: Iterable[Service], marks: Marks) -> Iterator[Chain]:
    """The chains that leave a handshake untracked, the first of them last; none if nothing asks for it.

    A connection to a service is translated, for which it has to be tracked.
    """

    def decide(policy: Policy, family: Family | None) -> Iterator[Rule]:
        verdict = (Written("notrack"), _RETURN) if policy.synproxy else (_RETURN,)
        for found, asked in _heading(policy, firewalling, family):
            yield from ((*asked, *match, *verdict) for match in _matched(policy, found, marks))

    zoning = Zoning(firewalling.zones, decide)
    policies = [policy for policy in concerned(firewalling) if {*policy.sources} != {SELF}]
    rules = zoning.rules("handshakes", policies, (IN,))
    yield from zoning.chains.values()
    yield Chain("handshakes", (*_of_services(services), *rules))


HANDSHAKES: Rule = (_TCP, _SYN, Written("jump handshakes"))
"""What leads to the last of them."""


def answering(
    point: str, policies: Sequence[Policy], ends: Sequence[End], firewalling: Firewalling, marks: Marks
) -> tuple[list[Chain], list[Rule]]:
    """The chains that answer where packets of a hook are let in, and the rule that leads there."""

    def decide(policy: Policy, family: Family | None) -> Iterator[Rule]:
        verdict = _RETURN
        if policy.synproxy:
            verdict = Written(f"goto {_chain_name(policy)}")
        elif policy.verdict is not Verdict.ACCEPT:
            verdict = Written(f"goto {refusal_of(policy)}")
        yield from ((*match, verdict) for match in _matched(policy, family, marks))

    asked = [policy for policy in concerned(firewalling) if policy in policies]
    if not any(policy.synproxy for policy in asked):
        return [], []
    zoning = Zoning(firewalling.zones, decide)
    first = Chain(f"handshakes-{point}", zoning.rules(f"handshakes-{point}", asked, ends))
    lead = (Match(Term("ct state"), "", Term("invalid,untracked")), _TCP, Written(f"jump {first.name}"))
    return [*zoning.chains.values(), first], [lead]


def answer(policy: Policy, invalid: str) -> Chain:
    """Answers a SYN; counts an ACK and takes it up, if its source may. All else goes to `invalid`."""
    untracked = (Match(Term("ct state"), "", Term("untracked")), _ANSWER)
    strange = (Match(_FLAGS, "!=", Term("ack")), Written(f"goto {invalid}"))
    taken = (Written(f"counter name {policy_name(policy)}"), _ANSWER)
    return Chain(_chain_name(policy), (untracked, strange, *limits(policy), taken, (Written(f"goto {invalid}"),)))


def _chain_name(policy: Policy) -> str:
    return f"{policy_name(policy)}/synproxy"


def _matched(policy: Policy, family: Family | None, marks: Marks) -> Iterator[tuple[Statement, ...]]:
    """What a handshake has to be; of packets without a connection, none has a state."""
    if not policy.matches:
        yield ()
    for match in filter(None, map(_of_handshake, policy.matches)):
        if family is None or match.family in (None, family.version):
            narrowed = match if family is None else replace(match, family=family.version)
            yield from map(statements, alternatives(narrowed, marks))


def _of_handshake(match: shaping.Match) -> shaping.Match | None:
    """The match as a new connection's first packet is asked; None if that cannot be it."""
    started = not match.state or {"new", "untracked"} & {*match.state}
    if not started or match.bytes_over is not None or match.user or match.group or match.cgroup:
        return None
    return replace(match, state=(), tcp_flags=None, outgoing_device=None)


def _heading(
    policy: Policy, firewalling: Firewalling, family: Family | None
) -> Iterator[tuple[Family | None, tuple[Statement, ...]]]:
    """How it is known before routing that a packet goes to one of a policy's targets."""
    if SELF in policy.targets:
        yield family, (Written("fib daddr type local"),)
    if ANY in policy.targets:
        yield family, (Written("fib daddr type unicast"),)
        return
    for zone in (zone for zone in firewalling.zones if zone.name in policy.targets):
        named = ", ".join(f'"{device}"' for device in zone.devices)
        by: tuple[Statement, ...] = (Written(f"fib daddr oifname {{ {named} }}"),) if named else ()
        if not zone.networks:
            yield family, by
        for one in (family,) if family else FAMILIES:
            if zone.networks and (text := networks(zone.networks, one)):
                yield one, (Match(Term(f"{one.name} daddr"), "", Term(text)), *by)


def _of_services(services: Iterable[Service]) -> Iterator[Rule]:
    listeners = [one for service in services for one in service.listeners if one.protocol is Protocol.TCP]
    for family in FAMILIES:
        mine = [one for one in listeners if one.address.version == family.version]
        if texts := dict.fromkeys(f"{one.address} . {ports}" for one in mine for ports in one.ports):
            key = Concat((Term(f"{family.name} daddr"), Term("tcp dport")))
            yield (Match(key, "", Term(f"{{ {', '.join(texts)} }}")), _RETURN)
