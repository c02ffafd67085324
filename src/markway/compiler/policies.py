"""The chain of a policy: its matches, its limits, what is logged, and its verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.matches import alternatives, statements
from markway.compiler.names import FAMILIES, Family
from markway.compiler.sentence import SOURCES, forgotten_after
from markway.config.firewalling import SELF, Firewalling, Policy, Verdict
from markway.program.model import PolicyEntry
from markway.program.nft import Chain, Match, Rule, Set, Term, Update, Written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.compiler.matches import Marks
    from markway.config.model import SourceRate

LOGGED = "firewall/logged"
"""The counter of all lines that were logged."""

_PREFIX6 = 64
"""What one source of IPv6 is: the part of its address that it cannot choose (RFC 4291, 2.5.4)."""


def policy_name(policy: Policy) -> str:
    """A policy's chain, and its counter."""
    return f"policy/{policy.name}"


def refused_name(policy: Policy) -> str:
    """The chain of what is over a policy's limits, and its counter."""
    return f"{policy_name(policy)}/over"


def refusal_of(policy: Policy) -> str:
    """The chain behind a policy's matches."""
    return f"{policy_name(policy)}/then" if policy.matches else policy_name(policy)


def limited(policy: Policy) -> bool:
    """Whether a source can have too much."""
    return policy.rate is not None or policy.max_connections is not None


def logging(log: SourceRate | None, verdict: str, name: str) -> tuple[Rule, ...]:
    """The rule that tells of some packets, if any."""
    if log is None:
        return ()
    rate = f"limit rate {log.count}/{log.unit} burst {log.burst} packets"
    return ((Written(f'{rate} counter name {LOGGED} log prefix "markway: {verdict} {name} "'),),)


def refusal(name: str, log: SourceRate | None, *before: Rule) -> Chain:
    """A chain that drops, and counts under its name."""
    return Chain(name, (*before, *logging(log, "drop", name), (Written(f"counter name {name}"), Written("drop"))))


def policy_chains(policy: Policy, firewalling: Firewalling, marks: Marks) -> Iterator[Chain]:
    """The chain of a policy, and those that only it leads to."""
    name = policy_name(policy)
    verdict = (*limits(policy), *_verdict(policy))
    if policy.matches:
        then = Written(f"goto {name}/then")
        asked = (alternative for match in policy.matches for alternative in alternatives(match, marks))
        yield Chain(name, tuple((*statements(alternative), then) for alternative in asked))
        yield Chain(f"{name}/then", verdict)
    else:
        yield Chain(name, verdict)
    if limited(policy):
        yield refusal(refused_name(policy), policy.log or firewalling.log)


def limits(policy: Policy) -> Iterator[Rule]:
    """Who has too much goes elsewhere.

    A set counts connections as long as one is left: the kernel removes a source that has none
    (nft_connlimit_gc in net/netfilter/nft_connlimit.c), and the next packet adds it again.
    """
    over = Written(f"goto {refused_name(policy)}")
    for family in FAMILIES:
        key = family.network("saddr", family.choose(32, _PREFIX6))
        if rate := policy.rate:
            more = f"limit rate over {rate.count}/{rate.unit} burst {rate.burst} packets"
            yield (Update("update", _rate_name(policy, family), key, over=more), over)
        if policy.max_connections is not None:
            more = f"ct count over {policy.max_connections}"
            yield (Update("add", _count_name(policy, family), key, over=more), over)


def policy_sets(policy: Policy) -> Iterator[Set]:
    """Where a policy remembers sources. Elements keep the limit they began with, so it is in the sets' names."""
    for family in FAMILIES:
        kind = (family.kind,)
        if policy.rate:
            timeout = f"{forgotten_after(policy.rate)}s"
            name = _rate_name(policy, family)
            yield Set(name, kind, flags=("dynamic", "timeout"), timeout=timeout, size=SOURCES, dynamic=True)
        if policy.max_connections is not None:
            yield Set(_count_name(policy, family), kind, flags=("dynamic",), size=SOURCES, dynamic=True)


def entry(policy: Policy) -> PolicyEntry:
    """What a person wants to know of a policy."""
    over = refused_name(policy) if limited(policy) else ""
    return PolicyEntry(policy.name, policy.sources, policy.targets, policy.verdict.value, policy_name(policy), over)


def _verdict(policy: Policy) -> Iterator[Rule]:
    name = policy_name(policy)
    counted = Written(f"counter name {name}")
    yield from logging(policy.log, "accept" if policy.verdict is Verdict.ACCEPT else "drop", name)
    if policy.verdict is not Verdict.REJECT:
        yield (counted, Written(policy.verdict.value))
        return
    yield (counted, Match(Term("meta l4proto"), "", Term("tcp")), Written("reject with tcp reset"))
    yield (Written("reject with icmpx type port-unreachable"),)


def _rate_name(policy: Policy, family: Family) -> str:
    rate = policy.rate
    assert rate  # noqa: S101  (asked for only then)
    return f"{policy_name(policy)}/rate{family.version}/{rate.count}-{rate.unit}-{rate.burst}"


def _count_name(policy: Policy, family: Family) -> str:
    return f"{policy_name(policy)}/connections{family.version}/{policy.max_connections}"


def incoming(policy: Policy) -> bool:
    """Whether it speaks of what comes to this machine."""
    return SELF in policy.targets and {*policy.sources} != {SELF}


def leaving(policy: Policy) -> bool:
    """Whether it speaks of what this machine sends."""
    return SELF in policy.sources and {*policy.targets} != {SELF}


def passing(policy: Policy) -> bool:
    """Whether it speaks of what is forwarded."""
    return {*policy.sources} != {SELF} and {*policy.targets} != {SELF}
