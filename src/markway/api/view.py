"""What is in force and how it fares, as JSON can hold it. Pure: the API and the command line show the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from markway.balance.feedback import SCALE
from markway.balance.state import UNTOUCHED, Hold
from markway.compiler.asking import Asking, asking_of
from markway.compiler.guarding import asking_of as guards_ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.api.look import Live, Look
    from markway.apply.banning import Held
    from markway.apply.observe import BackendSeen, ServiceSeen
    from markway.balance.state import BackendState
    from markway.config.model import Service
    from markway.director.farm import Drain, Member
    from markway.kernel.tc_stats import Counters
    from markway.program.model import ClassEntry, ShapeEntry

Record = dict[str, Any]

STATES = ("up", "down", "unknown", "drain", "drained", "disabled", "out", "sorry")
"""What a backend can be: `unknown` was not asked yet, its agent keeps `out`, `sorry` is the fallback server."""


def status(look: Look) -> Record:
    """Everything: the program in force, and every service with its backends."""
    now = look.present
    applied = now.entries[-1] if now.marker and now.entries else None
    last = now.entries[-1] if now.entries else None
    return {
        "daemon": look.live is not None,
        "pid": look.live and look.live.pid,
        "program": now.marker,
        "in_force": now.program is not None,
        "applied": applied and {"at": applied.at, "why": applied.why},
        "last": last and {"at": last.at, "why": last.why},
        "asking": asking_of(now.program) if now.program else None,
        "damage": now.damage,
        "beside": now.standing and (now.standing.why or None),
        "confirm_within": look.pending and round(look.pending.left, 1),
        "services": list(services(look)),
        "shapes": list(shapes(look)),
        "marks": list(marks(look)),
        "policies": list(policies(look)),
        "guards": list(guards(look)),
        "blocklists": list(look.blocklists),
    }


def services(look: Look) -> Iterator[Record]:
    """Every service, by name."""
    configured = {service.name: service for service in look.config.services} if look.config else {}
    for seen in look.services:
        yield _service(look, seen, configured.get(seen.name))


def shapes(look: Look) -> Iterator[Record]:
    """Every shape, by name: what was asked beside what the kernel counted."""
    for seen in look.shapes:
        yield {
            **_asked(seen.entry),
            "state": str(seen.standing),
            **_counted(seen.counted),
            "classes": [{**_asked(one.entry), **one.counted._asdict()} for one in seen.classes],
        }


def marks(look: Look) -> Iterator[Record]:
    """Every marking rule, in the order in which they are tried, with the packets that it marked."""
    for entry, counted in look.marks:
        sets = {"class": entry.class_ or None, "uplink": entry.uplink or None}
        yield {"name": entry.name, **sets, "on": entry.on, "packets": counted.packets, "bytes": counted.octets}


def policies(look: Look) -> Iterator[Record]:
    """Every policy in the order in which they are tried, then the other reasons to drop, with what they took."""
    for entry, counted, over in look.policies:
        yield {
            "name": entry.name,
            "from": entry.sources,
            "to": entry.targets,
            "verdict": entry.verdict,
            "packets": counted.packets,
            "bytes": counted.octets,
            "over": over and over.packets,
        }


def guards(look: Look) -> Iterator[Record]:
    """Every guard, by name: what it guards, whom it bans and slows, and whether attempts are counted."""
    counter = look.live.counter if look.live else None
    asking = guards_ask(look.present.program) if look.present.program else None
    for guard, banned, slowed, refused in look.guards:
        tally = counter and counter.tallies.get(guard.name)
        asked = asking if guard.connections else None
        heard = bool(guard.logs) or asked not in {None, Asking.NOT}
        yield {
            "name": guard.name,
            "listen": [*map(str, guard.listeners), *(f"service:{name}" for name in guard.services)],
            "logs": [str(source) for source in guard.logs],
            "windows": [str(window) for window in guard.windows],
            "ban": asdict(guard.ban),
            "slow": guard.slow,
            "scope": guard.scope.value,
            "refuse": "reset" if guard.reset else "drop",
            "prefix": guard.prefix,
            "prefix6": guard.prefix6,
            "allow": [str(network) for network in guard.allow],
            "banned": {f"ipv{version}": number for version, number in banned.items()},
            "slowed": {f"ipv{version}": number for version, number in slowed.items()},
            "packets": refused.packets,
            "bytes": refused.octets,
            "asking": asked,
            "counting": counter is not None and counter.ready and heard,
            "problem": counter and counter.problems.get(guard.name),
            "attempts": tally and tally.attempts,
            "bans": tally and tally.bans,
        }


def ban(found: Held, now: float) -> Record:
    """A ban or a slowing, with its end; times in seconds, `now` and `until` since the epoch."""
    return {**found._asdict(), "action": found.action.value, "until": round(now + found.left, 3)}


def _asked(entry: ShapeEntry | ClassEntry) -> Record:
    return {name: getattr(entry, name) for name in entry.__slots__}


def _counted(counters: Counters) -> Record:
    """What a whole shape has counted: there is nothing to borrow from."""
    return {name: value for name, value in counters._asdict().items() if name not in {"borrowed", "lent"}}


def _service(look: Look, seen: ServiceSeen, service: Service | None) -> Record:
    unit = _unit(seen, service)
    return {
        **asdict(seen),
        "check": service and service.check and str(service.check.kind),
        "load": service and service.load and str(service.load.kind),
        "policy": service and (service.policy or None),
        "backends": [_backend(look, seen.name, service, b, b.weight / unit) for b in seen.backends],
    }


def _unit(seen: ServiceSeen, service: Service | None) -> int:
    """What a weight of 1 is in the program: it has the file's weights, or, once any is changed, finer ones."""
    if service is None:
        return 1
    file = {backend.name: backend.weight for backend in service.backends}
    return 1 if all(file.get(backend.name, 0) == backend.weight for backend in seen.backends) else SCALE


def _backend(look: Look, service: str, of: Service | None, seen: BackendSeen, effective: float) -> Record:
    name = f"{service}/{seen.name}"
    member = look.live.members.get(name) if look.live else None
    state = member.state if member else look.states.get(name, UNTOUCHED)
    file = next((b.weight for b in of.backends if b.name == seen.name), None) if of else None
    configured = file if state.weight is None else state.weight
    return {
        **asdict(seen),
        "weight": effective if configured is None else configured,
        "effective": round(effective, 4),
        "file_weight": file,
        "state": "sorry"
        if of and file is None
        else member.status
        if member
        else _remembered(state, seen, bool(configured)),
        "factor": round(state.factor, 4),
        "ramp": round(state.ramp, 4),
        **_live(look.live, name, member),
    }


def _remembered(state: BackendState, seen: BackendSeen, configured: bool) -> str:
    """The state in one word, without the daemon: as it was last."""
    if state.hold is not Hold.NONE:
        held = "drain" if seen.active else "drained"
        return held if state.hold is Hold.DRAIN else "disabled"
    if not state.up:
        return "down"
    if state.out:
        return "out"
    return "up" if seen.weight or state != UNTOUCHED or not configured else "unknown"


def _live(live: Live | None, name: str, member: Member | None) -> Record:
    """What only the daemon knows; None each without it."""
    if live is None or member is None:
        return dict.fromkeys(("seconds", "checked", "reading", "load_error", "drain"))
    outcome = member.outcome
    return {
        "seconds": round(live.now - member.health.since, 3),
        "checked": outcome
        and {
            "well": outcome.well,
            "took": round(outcome.took, 6),
            "reason": outcome.reason,
            "warning": outcome.warning,
        },
        "reading": member.reading,
        "load_error": live.load_reasons.get(name),
        "drain": member.drain and drain(member.drain, live.now),
    }


def brief(member: Member, now: float) -> Record:
    """A backend without what the kernel counted."""
    outcome = member.outcome
    return {
        "name": member.name,
        "state": member.status,
        "weight": member.backend.weight if member.weight is None else member.weight,
        "reason": outcome.reason if outcome else "",
        "drain": member.drain and drain(member.drain, now),
    }


def drain(found: Drain, now: float) -> Record:
    """How far a backend is emptied; times in seconds, None where there is no deadline, or no count yet."""
    return {
        "left": found.left,
        "ended": found.ended,
        "cut": found.cut,
        "deadline_in": None if found.deadline is None else round(max(found.deadline - now, 0.0), 3),
        "for": round(now - found.begun, 3),
    }


def drains(members: Mapping[str, Member], now: float) -> dict[str, Record]:
    """Every backend that is emptied, by `service/backend`."""
    return {name: drain(member.drain, now) for name, member in members.items() if member.drain}
