"""The chain of a service, which reads like a sentence: limits, persistence, choice, refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.asking import UNDECIDED
from markway.compiler.names import CONNTRACK, GONE, IP, UP, Family, hexed, networks, refusal_chain, service_chain
from markway.config.model import Protocol, Refusal, Schedule
from markway.program.nft import (
    And,
    Assign,
    Chain,
    Concat,
    Jhash,
    Mapped,
    Match,
    Numgen,
    Rule,
    Set,
    Term,
    Update,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.compiler.pools import Pool
    from markway.config.model import Persist, Service, SourceRate

HASH_SEED = 0x6D77
"""Fixed, so that two directors with one file choose alike."""

SOURCES = 65536
"""Sources remembered by a rate limit; those beyond are not limited until others are forgotten."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_FORGOTTEN = 60
_RETURN = Written("return")

_FORGOTTEN_FLOW: Rule = (
    Match(And(Term("tcp flags"), Term("(fin | syn | rst | ack)")), "!=", Term("syn")),
    Written(f"goto {refusal_chain(Refusal.RESET)}"),
)
"""A TCP connection that was cut goes on: its packet would be given to a backend that knows nothing of it."""


def choice(service: Service, pool: Pool, offset: int, tag: int, *, limited: bool, answer: Assign | None) -> Chain:
    """What a new connection of one family goes through.

    Args:
        service: the service.
        pool: who is chosen among.
        offset: the first slot of the pool.
        tag: the service's own mark, which keeps its persistence apart in the shared map.
        limited: whether `limits` gave a chain.
        answer: takes what the queue worker has said, if it is asked.
    """
    family = pool.family
    rules: list[Rule] = []
    if service.helper:
        rules.append((Written(f'ct helper set "{service.helper}"'),))
    if limited:
        rules.append((Written(f"jump {_limits_name(service)}"),))
    refuse = Written(f"goto {refusal_chain(service.fallback)}")
    draw = Assign(CONNTRACK, _draw(service.schedule, family, offset, pool.size))
    capped: list[Rule] = [(Written("jump capped"),)] if any(b.max_connections for b in service.backends) else []
    if not pool.weights:
        rules.append((refuse,))
    elif service.persist:
        rules += [*_remembered(service.persist, family, draw, tag, capped, answer=answer), (refuse,)]
    elif capped:
        rules += [*_drawn(draw, answer), *capped, (UP, _RETURN), (refuse,)]
    else:
        rules += [(answer,), (UP, _RETURN), (UNDECIDED,)] if answer else []
        rules.append((draw, Written("goto slot")))
    return Chain(service_chain(service, family), tuple(rules))


def _drawn(draw: Assign, answer: Assign | None) -> Iterator[Rule]:
    """The worker's choice if its backend is up, else a slot's."""
    if answer is None:
        yield (draw, Written("jump slot"))
        return
    yield (answer,)
    yield (UNDECIDED,)
    yield (GONE, draw, Written("jump slot"))


def _remembered(
    persist: Persist, family: Family, draw: Assign, tag: int, capped: list[Rule], *, answer: Assign | None
) -> Iterator[Rule]:
    """Recall the source's backend if it is still up, else draw; then remember, if there is room.

    `update` renews an element but keeps its data (nft_dynset_eval in net/netfilter/nft_dynset.c),
    so a source that changes its backend is forgotten first.
    """
    sticky = f"sticky{family.version}"
    source = _remembered_source(family, family.choose(persist.prefix4, persist.prefix6))
    key = Concat((Term(hexed(tag)), *source))
    forget = Update("delete", sticky, key, data=CONNTRACK)
    yield (Assign(CONNTRACK, Term(hexed(tag))),)
    yield (Assign(CONNTRACK, Mapped(Concat((CONNTRACK, *source)), sticky)),)
    if not capped:
        yield (GONE, forget)
    if answer:
        yield (GONE, answer)
        yield (UNDECIDED,)
    yield (GONE, draw, Written("jump slot"))
    if capped:
        yield from capped
        yield (forget,)
    yield (UP, Update("update", sticky, key, timeout=f"{persist.timeout}s", data=CONNTRACK), _RETURN)
    yield (UP, _RETURN)


def _remembered_source(family: Family, prefix: int) -> tuple[Term | And | Jhash, ...]:
    """The source as part of a key of at most 16 bytes.

    In front of a map's data nft 1.0.6 keeps no more room than that in the kernel's registers
    (netlink_gen_map_stmt in its src/netlink_linearize.c), and the data overwrites a longer
    key's end. So an IPv6 source is remembered by 64 bits of hash.
    """
    source = family.network("saddr", prefix)
    if family is IP:
        return (source,)
    return tuple(Jhash(source, 0xFFFF_FFFF, seed, 0) for seed in (HASH_SEED, HASH_SEED + 1))


def _draw(schedule: Schedule, family: Family, offset: int, size: int) -> Numgen | Jhash:
    if schedule is Schedule.RANDOM:
        return Numgen("random", size, offset)
    if schedule is Schedule.ROUND_ROBIN or schedule.queued:
        return Numgen("inc", size, offset)
    source = Term(f"{family.name} saddr")
    if schedule is Schedule.SOURCE_HASH:
        return Jhash(source, size, HASH_SEED, offset)
    flow = Concat((source, Term(f"{family.name} daddr"), Term("th sport"), Term("th dport")))
    return Jhash(flow, size, HASH_SEED, offset)


def limits(service: Service, families: tuple[Family, ...]) -> Chain | None:
    """A chain that ends in the refusal for a connection that the service will not have."""
    refuse = Written(f"goto {refusal_chain(service.refuse)}")
    cut = service.cut_orphans and any(listener.protocol is Protocol.TCP for listener in service.listeners)
    rules: list[Rule] = [_FORGOTTEN_FLOW] if cut else []
    for family in families:
        source = Term(f"{family.name} saddr")
        denied, allowed = networks(service.deny, family), networks(service.allow, family)
        if denied:
            rules.append((Match(source, "", Term(denied)), refuse))
        if allowed:
            rules.append((Match(source, "!=", Term(allowed)), refuse))
        elif service.allow:
            rules.append((Match(Term("meta nfproto"), "", Term(family.nfproto)), refuse))
        if service.source_rate:
            rate = service.source_rate
            over = f"limit rate over {rate.count}/{rate.unit} burst {rate.burst} packets"
            key = family.network("saddr", family.choose(32, 64))
            rules.append((Update("update", _rate_name(service, family), key, over=over), refuse))
    if service.max_connections is not None:
        rules.append((Written(f"ct count over {service.max_connections}"), refuse))
    return Chain(_limits_name(service), tuple(rules)) if rules else None


def rate_sets(service: Service, families: tuple[Family, ...]) -> Iterator[Set]:
    """Where a rate limit remembers its sources, each until its allowance is full again."""
    rate = service.source_rate
    for family in families if rate else ():
        assert rate  # noqa: S101  (there is no family without)
        yield Set(
            _rate_name(service, family),
            (family.kind,),
            flags=("dynamic", "timeout"),
            timeout=f"{forgotten_after(rate)}s",
            size=SOURCES,
            dynamic=True,
        )


def forgotten_after(rate: SourceRate) -> int:
    """In how many seconds a source that made no connection has its whole allowance again."""
    return max(_FORGOTTEN, -(-rate.burst * _SECONDS[rate.unit] // rate.count))


def _rate_name(service: Service, family: Family) -> str:
    """With the rate in it: elements keep the limit they began with, so another rate needs another set."""
    rate = service.source_rate
    assert rate  # noqa: S101  (asked for only then)
    return f"rate{family.version}/{service.name}/{rate.count}-{rate.unit}-{rate.burst}"


def _limits_name(service: Service) -> str:
    return f"service/{service.name}/limits"
