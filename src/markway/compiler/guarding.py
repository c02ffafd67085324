"""Guards: who is banned is kept out by sets whose elements time out, and new connections are shown to the counter.

A ban that lasts until its source is quiet is renewed by the rule that refuses it, so the kernel needs nobody for that.
The elements belong to whoever counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.asking import Asking, asking_by
from markway.compiler.names import FAMILIES, Family, networks
from markway.config.guarding import Guard, Guarded, Scope
from markway.config.model import Protocol
from markway.guard.windows import SOURCES
from markway.program.model import Fragment
from markway.program.nft import UNWRITTEN, And, Chain, Hook, Match, Rule, Set, Statement, Term, Update, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.config.model import Config, Service
    from markway.program.model import Program

OWNER = "guard/windows"

QUEUE = 26998
"""The number of the queue in which first packets wait for the counter, in this network namespace."""

_BEHIND_TRACKING = Hook("filter", "prerouting", "-160")
"""Behind the connection tracking (-200), in front of the chains that restore marks (-150) and translate (-100)."""

_OWN: Rule = (Match(Term("iif"), "", Term('"lo"')), Written("return"))
_FIRST = Match(Term("ct status"), "!", Term("confirmed"))
"""Of a connection only the first packet: one that is sent again is no further attempt."""


def guard_of(config: Config, asking: Asking) -> dict[str, Fragment]:
    """The guards' fragment, by its owner; none if the file has no guard."""
    if not config.guards:
        return {}
    guarded = {guard.name: listeners_of(guard, {s.name: s for s in config.services}) for guard in config.guards}
    chains = [Chain("guard-windows", tuple(_windows(config, guarded)), _BEHIND_TRACKING)]
    for guard in config.guards:
        chains += [Chain(guard_name(guard.name), tuple(_kept_out(guard))), _refusal(guard)]
    chains += [*_asking(asking)] if any(guard.connections for guard in config.guards) else []
    sets = [_banned(guard, family) for guard in config.guards for family in FAMILIES]
    fragment = Fragment(
        owner=OWNER,
        chains={chain.name: chain for chain in chains},
        sets={item.name: item for item in sets},
        objects=tuple(f"counter {guard_name(guard.name)}" for guard in config.guards),
    )
    return {OWNER: fragment}


def guard_name(name: str) -> str:
    """A guard's chain, and its counter of what it refused."""
    return f"guard/{name}"


def guards_in(program: Program) -> list[str]:
    """The names of the guards in a program."""
    fragment = program.fragments.get(OWNER)
    return [item.removeprefix(f"counter {guard_name('')}") for item in fragment.objects] if fragment else []


def asking_of(program: Program) -> Asking | None:
    """How the guards of a program ask the counter; None if none of them counts connections."""
    fragment = program.fragments.get(OWNER)
    return asking_by(fragment.chains.get("guard/queue")) if fragment else None


def banned_set(name: str, version: int) -> str:
    """The set of a guard's banned sources, of one family."""
    return f"guard/{name}/{version}"


def listeners_of(guard: Guard, services: Mapping[str, Service]) -> tuple[Guarded, ...]:
    """All that a guard guards, with the listeners of its services."""
    own = [Guarded(one.protocol, one.ports, one.address) for name in guard.services for one in services[name].listeners]
    return (*guard.listeners, *own)


def _banned(guard: Guard, family: Family) -> Set:
    name = banned_set(guard.name, family.version)
    return Set(name, (family.kind,), flags=("dynamic", "timeout"), size=SOURCES, dynamic=True)


def _windows(config: Config, guarded: Mapping[str, tuple[Guarded, ...]]) -> Iterator[Rule]:
    yield (Match(Term("ct state"), "!=", Term("new")), Written("return"))
    yield _OWN
    for guard in config.guards:
        jump = Written(f"jump {guard_name(guard.name)}")
        if guard.scope is Scope.ALL:
            yield (jump,)
        else:
            yield from ((*_at(one), jump) for one in guarded[guard.name])
    counted = dict.fromkeys(one for guard in config.guards if guard.connections for one in guarded[guard.name])
    yield from ((*_at(one), _FIRST, Written("goto guard/ask")) for one in counted)


def _at(one: Guarded) -> Iterator[Statement]:
    """Is for what is guarded."""
    if one.address is not None:
        family = next(family for family in FAMILIES if family.version == one.address.version)
        yield Match(Term(f"{family.name} daddr"), "", Term(str(one.address)))
    yield Match(Term(f"{one.protocol} dport"), "", Term(f"{{ {', '.join(map(str, one.ports))} }}"))
    if one.address is None:
        yield Written("fib daddr type local")


def _kept_out(guard: Guard) -> Iterator[Rule]:
    for family in FAMILIES:
        if allowed := networks(guard.allow, family):
            yield (Match(Term(f"{family.name} saddr"), "", Term(allowed)), Written("return"))
    for family in FAMILIES:
        name, key = banned_set(guard.name, family.version), _key(guard, family)
        renewed = (Update("update", name, key, timeout=f"{guard.ban.seconds:g}s"),) if guard.ban.until_quiet else ()
        yield (Match(key, "", Term(f"@{name}")), *renewed, Written(f"goto {guard_name(guard.name)}/refuse"))


def _key(guard: Guard, family: Family) -> Term | And:
    source, length = Term(f"{family.name} saddr"), family.choose(guard.prefix, guard.prefix6)
    return source if length == family.bits else And(source, Term(family.netmask(length)))


def _refusal(guard: Guard) -> Chain:
    name = guard_name(guard.name)
    counted: Rule = (Written(f"counter name {name}"),)
    if not guard.reset:
        return Chain(f"{name}/refuse", (counted, (Written("drop"),)))
    tcp = Match(Term("meta l4proto"), "", Term(Protocol.TCP))
    unreachable = Written("reject with icmpx type port-unreachable")
    return Chain(f"{name}/refuse", (counted, (tcp, Written("reject with tcp reset")), (unreachable,)))


def _asking(asking: Asking) -> Iterator[Chain]:
    """Nobody there, or too busy: the packet goes on, uncounted."""
    question: dict[Asking, tuple[Rule, ...]] = {
        Asking.QUEUE: ((Written(f"queue flags bypass to {QUEUE}"),),),
        Asking.TARGET: ((Written(f"{UNWRITTEN}NFQUEUE {QUEUE} bypass"),),),
        Asking.NOT: (),
    }
    midst = (
        Match(Term("meta l4proto"), "", Term(Protocol.TCP)),
        Match(Term("tcp flags & (fin | syn | rst | ack)"), "!=", Term("syn")),
        Written("return"),
    )
    yield Chain("guard/ask", (midst, (Written("goto guard/queue"),)))
    yield Chain("guard/queue", question[asking])
