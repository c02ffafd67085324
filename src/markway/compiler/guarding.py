"""Guards: who is banned is kept out by sets whose elements time out, and new connections are shown to the counter.

A ban that lasts until its source is quiet is renewed by the rule that refuses it, and a slowing by one that its
source's attempts pass: the kernel needs nobody for that. The elements belong to whoever counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.asking import Asking, asking_by
from markway.compiler.names import FAMILIES, Family, networks
from markway.config.guarding import Guard, Guarded, Scope, listeners_of
from markway.config.model import Protocol
from markway.guard.windows import SOURCES, Action
from markway.program.model import Fragment
from markway.program.nft import UNWRITTEN, Chain, Hook, Match, Rule, Set, Statement, Term, Update, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.config.model import Config
    from markway.program.model import Program

OWNER = "guard/windows"

QUEUE = 26998
"""The number of the queue in which first packets wait for the counter, in this network namespace."""

_BEHIND_TRACKING = Hook("filter", "prerouting", "-160")
"""Behind the connection tracking (-200), in front of the chains that restore marks (-150) and translate (-100)."""

_OWN: Rule = (Match(Term("iif"), "", Term('"lo"')), Written("return"))
_UNTRACKED: Rule = (
    Match(Term("ct state"), "", Term("untracked")),
    Match(Term("meta l4proto"), "!=", Term("tcp")),
    Written("return"),
)
"""Handshakes that `synproxy` answers are not tracked yet, and neither is IPv6's discovery of neighbours, ever."""

_FIRST = Match(Term("ct status"), "!", Term("confirmed"))
"""Of a connection only the first packet: one that is sent again is no further attempt."""


def guard_of(config: Config, asking: Asking) -> dict[str, Fragment]:
    """The guards' fragment, by its owner; none if the file has no guard."""
    if not config.guards:
        return {}
    guarded = {guard.name: listeners_of(guard, {s.name: s for s in config.services}) for guard in config.guards}
    chains = [Chain("guard-windows", tuple(_windows(config, guarded)), _BEHIND_TRACKING)]
    for guard in config.guards:
        chains += [Chain(guard_name(guard.name), tuple(_known(guard, guarded[guard.name]))), _refusal(guard)]
    chains += [*_asking(asking)] if any(guard.connections for guard in config.guards) else []
    sets = [
        _set(name, family) for guard in config.guards for family in FAMILIES for name in sets_of(guard, family.version)
    ]
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


def slow_set(name: str, version: int) -> str:
    """The set of a guard's slowed sources, of one family."""
    return f"guard/{name}/slow/{version}"


def sets_of(guard: Guard, version: int, action: Action = Action.BAN) -> tuple[str, ...]:
    """The sets of one family that a source is in; who is in the first of them is banned or slowed.

    A guard that slows also slows whom it bans: else connections that they have yet would gain by the ban.
    """
    slow = (slow_set(guard.name, version),) if guard.slow else ()
    return slow if action is Action.SLOW else (banned_set(guard.name, version), *slow)


def _set(name: str, family: Family) -> Set:
    return Set(name, (family.kind,), flags=("dynamic", "timeout"), size=SOURCES, dynamic=True)


def _windows(config: Config, guarded: Mapping[str, tuple[Guarded, ...]]) -> Iterator[Rule]:
    yield (Match(Term("ct state"), "", Term("established,related,invalid")), Written("return"))
    yield _UNTRACKED
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


def _known(guard: Guard, guarded: tuple[Guarded, ...]) -> Iterator[Rule]:
    """Who is allowed goes by, who is slowed begins the time anew with an attempt, and who is banned is kept out."""
    for family in FAMILIES:
        if allowed := networks(guard.allow, family):
            yield (Match(Term(f"{family.name} saddr"), "", Term(allowed)), Written("return"))
    if guard.slow and guard.connections and guard.ban.until_quiet:
        for family, attempt in _attempts(guard, guarded):
            yield (*attempt, *_held(guard, family, slow_set(guard.name, family.version)))
    for family in FAMILIES:
        held = _held(guard, family, banned_set(guard.name, family.version))
        yield (*held, Written(f"goto {guard_name(guard.name)}/refuse"))


def _held(guard: Guard, family: Family, name: str) -> Iterator[Statement]:
    """Is of a source in this set, whose time begins anew if that lasts until the source is quiet."""
    key = family.network("saddr", family.choose(guard.prefix, guard.prefix6))
    yield Match(key, "", Term(f"@{name}"))
    if guard.ban.until_quiet:
        yield Update("update", name, key, timeout=f"{guard.ban.seconds:g}s")


def _attempts(guard: Guard, guarded: tuple[Guarded, ...]) -> Iterator[tuple[Family, tuple[Statement, ...]]]:
    """What is an attempt among what a guard's chain sees: all of it, if that is only what is guarded."""
    for family in FAMILIES:
        if guard.scope is Scope.LISTENER:
            yield family, ()
        else:
            mine = (one for one in guarded if one.address is None or one.address.version == family.version)
            yield from ((family, tuple(_at(one))) for one in mine)


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
