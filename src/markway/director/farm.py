"""Every backend of every service as it is now, and what follows when something happens to one. No I/O, no clock.

Whatever happens is a call with the time as an argument; it returns the events that came of it, and leaves the names
of the services whose weights may have changed in `dirty`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markway.balance.feedback import FRESH, Seen, next_ramp, ramp, ramped_for, step, told
from markway.balance.state import UNTOUCHED, BackendState, Hold, unproved, weights
from markway.config.model import LoadKind, Protocol
from markway.director.events import Event
from markway.director.health import Health, State
from markway.director.model import Target, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from markway.config.model import Backend, Check, Config, Service
    from markway.director.model import Outcome

_OUT = {Word.DRAIN, Word.MAINT, Word.DOWN}


@dataclass(frozen=True, slots=True)
class Drain:
    """How a backend is emptied: when its patience ends (None: never), and whether what is left is cut then.

    `deadline` is in seconds of the daemon's clock; `left` the flows at the last count.
    """

    begun: float
    deadline: float | None = None
    cut: bool = False
    left: int | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One backend at run time. `seen` is what load feedback remembers, `reading` the last load as it was read."""

    service: str
    backend: Backend
    health: Health
    hold: Hold = Hold.NONE
    weight: int | None = None
    out: bool = False
    drain: Drain | None = None
    seen: Seen = FRESH
    reading: float | None = None
    outcome: Outcome | None = None
    ramp_begun: float | None = None
    ramp: float = 1.0
    word: Word | None = None
    advised: float = 1.0

    @property
    def name(self) -> str:
        """The backend's name among all services."""
        return f"{self.service}/{self.backend.name}"

    @property
    def state(self) -> BackendState:
        """What the weights follow from."""
        return BackendState(
            up=self.health.up,
            hold=self.hold,
            weight=self.weight,
            out=self.out,
            factor=self.seen.factor * self.advised,
            ramp=self.ramp,
        )

    @property
    def status(self) -> str:
        """The state in one word: up, down, unknown, drain, drained, disabled or out."""
        if self.hold is Hold.DISABLE:
            return "disabled"
        if self.hold is Hold.DRAIN:
            return "drained" if self.drain and self.drain.ended else "drain"
        if not self.health.up:
            return self.health.state.value
        return "out" if self.out else "up"


class NoSuchBackendError(LookupError):
    """No service has a backend of this name."""


class Farm:
    """All members by name."""

    def __init__(self) -> None:
        self.config: Config | None = None
        self.members: dict[str, Member] = {}
        self.services: dict[str, Service] = {}
        self.dirty: set[str] = set()
        self.unsaved = False
        self._ramping: set[str] = set()
        self._absent: dict[str, BackendState] = {}
        """What operators said of backends that the configuration does not name now: it holds when they come back."""
        self.urgent = False
        """Whether `states` has changed since it was saved, and in more than load and slow start."""

    def adopt(
        self, config: Config, states: Mapping[str, BackendState], in_force: Callable[[str], bool], now: float
    ) -> None:
        """Take a configuration over: members that stay keep what is known of them.

        Args:
            config: the configuration in force.
            states: what was remembered of backends that are new here, from before a restart.
            in_force: whether a backend gets connections now: then it was up a moment ago.
            now: the daemon's clock.
        """
        before, self.members = self.members, {}
        states = {**self._absent, **states}
        self.config, self.services = config, {service.name: service for service in config.services}
        for service in config.services:
            for backend in service.backends:
                name = f"{service.name}/{backend.name}"
                known = before.get(name)
                if known is None or known.backend.endpoints != backend.endpoints:
                    self.members[name] = _member(service, backend, states.get(name, UNTOUCHED), in_force(name), now)
                else:
                    self.members[name] = _kept(known, service, backend, now)
        self._ramping = {name for name, member in self.members.items() if member.ramp_begun is not None}
        states |= {name: member.state for name, member in before.items()}
        self._absent = {
            name: BackendState(hold=state.hold, weight=state.weight)
            for name, state in states.items()
            if name not in self.members and (state.hold is not Hold.NONE or state.weight is not None)
        }
        self.dirty |= self.services.keys()
        self.unsaved = self.urgent = True  # that a newcomer is not up yet, too

    def expected(self, config: Config) -> dict[str, BackendState]:
        """The states to begin another configuration with: who is new there, or elsewhere, is asked before it counts."""
        states = self.states()
        named = ((f"{service.name}/{b.name}", b) for service in config.services for b in service.backends)
        known = {n for n, b in named if n in self.members and self.members[n].backend.endpoints == b.endpoints}
        return {**states, **unproved(config, known, states)}

    def known(self, names: Iterable[str]) -> list[str]:
        """The same names; NoSuchBackendError if one is nobody's."""
        wanted = list(names)
        for name in wanted:
            if name not in self.members:
                raise NoSuchBackendError(name)
        return wanted

    def checked(self, name: str, outcome: Outcome, now: float) -> Iterator[Event]:
        """A check was answered; or could not be made, which says nothing of the backend."""
        member = self.members[name]
        check = self.services[member.service].check
        if outcome.ours:
            self.members[name] = replace(member, outcome=outcome)
            if member.outcome is None or not member.outcome.ours:
                yield self._event("warning", member, f"could not be asked: {outcome.reason}")
        elif check is not None:
            yield from self._answered(member, check, outcome, now)

    def _answered(self, member: Member, check: Check, outcome: Outcome, now: float) -> Iterator[Event]:
        slow_start = self.services[member.service].slow_start
        answers = 2 if outcome.silent and not outcome.well else 1
        health = member.health.after(well=outcome.well, check=check, now=now, answers=answers)
        changed = replace(member, health=health, outcome=outcome)
        if outcome.agent is not None:
            changed = _advised(changed, outcome)
        known = member.health.state is not State.UNKNOWN
        rose = health.up and not member.health.up
        if rose and known and slow_start:
            changed = replace(changed, ramp_begun=now, ramp=ramp(0.0, slow_start))
        if not health.up:
            changed = replace(changed, ramp_begun=None, ramp=1.0)
        self._put(changed)
        if rose:
            text = "answers" if known else "answers for the first time"
            yield self._event("up", changed, text, took=round(outcome.took, 6))
        elif not health.up and (member.health.up or not known):
            yield self._event("down", changed, outcome.reason, took=round(outcome.took, 6))
        if outcome.warning and (member.outcome is None or member.outcome.warning != outcome.warning):
            yield self._event("warning", changed, outcome.warning)
        if changed.word is not member.word and changed.word is not None:
            yield self._event("agent", changed, f"its agent says {changed.word}")

    def loaded(self, service_name: str, readings: Mapping[str, float | None], now: float) -> Iterator[Event]:
        """The loads of a service's backends were read; None where one could not be."""
        service = self.services[service_name]
        if service.load is None:
            return
        mine = {b.name: self.members[f"{service_name}/{b.name}"] for b in service.backends}
        before = {name: member.seen for name, member in mine.items()}
        if service.load.kind is LoadKind.AGENT:
            after = told(service.load, before, readings, now)
        else:
            worth = {n: m.backend.weight if m.weight is None else m.weight for n, m in mine.items() if m.state.takes}
            after = step(service.load, before, readings, now, worth)
        for name, member in mine.items():
            seen = after.get(name, FRESH)
            out = seen.factor <= 0 if service.load.kind is LoadKind.AGENT else member.out
            changed = replace(member, seen=seen, reading=readings.get(name), out=out)
            self._put(changed)
            silent = member.seen.smooth is not None and seen.smooth is None
            if silent or seen.factor != member.seen.factor:
                share = f"{seen.factor:.0%}"
                text = f"load {_shown(changed.reading)}, so {share} of its weight"
                yield self._event("load", changed, text, load=changed.reading, factor=round(seen.factor, 4))

    def held(
        self, name: str, hold: Hold, now: float, *, deadline: float | None = None, cut: bool = False
    ) -> Iterator[Event]:
        """An operator drains, disables or enables a backend; `deadline` is in seconds from now."""
        member = self.members[name]
        drain = None
        if hold is Hold.DRAIN:
            drain = Drain(now, None if deadline is None else now + deadline, cut)
        self._put(replace(member, hold=hold, drain=drain))
        words = {Hold.NONE: "enable", Hold.DRAIN: "drain", Hold.DISABLE: "disable"}
        texts = {
            Hold.NONE: "takes new connections again",
            Hold.DRAIN: "takes no new connections, until its last has ended",
            Hold.DISABLE: "takes no new connections",
        }
        yield self._event(words[hold], member, texts[hold])

    def draining(self) -> Iterator[str]:
        """Backends whose last connection is waited for, once the kernel gives them no new ones."""
        for name, member in self.members.items():
            if member.drain and not member.drain.ended and member.service not in self.dirty:
                yield name

    def next_deadline(self, latest: float) -> float:
        """When the patience with the next drain ends, or `latest`."""
        drains = (member.drain for member in self.members.values())
        return min([latest, *(d.deadline for d in drains if d and not d.ended and d.deadline is not None)])

    def resumed(self, name: str, deadline: float, now: float, *, cut: bool) -> None:
        """A backend was being emptied before a restart, and has `deadline` seconds left."""
        member = self.members.get(name)
        if member is not None and member.drain is not None:
            self.members[name] = replace(member, drain=replace(member.drain, deadline=now + deadline, cut=cut))

    def weighed(self, name: str, weight: int | None) -> Iterator[Event]:
        """An operator gives a backend another weight than the file's, or (None) the file's again."""
        member = self.members[name]
        self._put(replace(member, weight=weight))
        text = f"the file's weight, {member.backend.weight}" if weight is None else f"weight {weight}"
        yield self._event("weight", member, text, weight=weight)

    def counted(self, flows: Mapping[str, int], now: float) -> Iterator[tuple[Event, bool]]:
        """The flows of draining backends were counted; with each event, whether what is left is to be cut."""
        for name, left in flows.items():
            member = self.members.get(name)
            if member is None or member.drain is None or member.drain.ended:
                continue
            drain = replace(member.drain, left=left)
            over = drain.deadline is not None and now >= drain.deadline
            took = f"{now - drain.begun:.0f} s"
            if left == 0 or over:
                drain = replace(drain, ended=True)
            self.members[name] = replace(member, drain=drain)
            if left == 0:
                yield self._event("drained", member, f"its last connection ended after {took}", left=0), False
            elif over:
                fate = "cut" if drain.cut else "left alone"
                text = f"{left} connections left after {took}, {fate}"
                yield self._event("drained", member, text, left=left), drain.cut

    def ramped(self, now: float) -> None:
        """Let backends that come back slowly come on."""
        for member in [self.members[name] for name in sorted(self._ramping)]:
            if member.ramp_begun is not None:
                reached = ramp(now - member.ramp_begun, self.services[member.service].slow_start)
                if reached != member.ramp:
                    self._put(replace(member, ramp=reached, ramp_begun=None if reached >= 1 else member.ramp_begun))

    def next_ramp(self, now: float) -> float | None:
        """When `ramped` has something to do next; None if nothing comes back slowly."""
        times = (
            member.ramp_begun + next_ramp(now - member.ramp_begun, self.services[member.service].slow_start)
            for member in map(self.members.__getitem__, self._ramping)
            if member.ramp_begun is not None
        )
        return min(times, default=None)

    def states(self) -> dict[str, BackendState]:
        """What is to be remembered: every backend that is not as its file says."""
        here = {name: member.state for name, member in self.members.items() if member.state != UNTOUCHED}
        return {**self._absent, **here}

    def weights(self, names: set[str]) -> dict[str, dict[str, int] | None]:
        """The weights of these services now; None for one that is as its file says."""
        found: dict[str, dict[str, int] | None] = {}
        for name in names & self.services.keys():
            service = self.services[name]
            mine = {f"{name}/{b.name}": self.members[f"{name}/{b.name}"].state for b in service.backends}
            found[name] = weights(service, mine)
        return found

    def hears_silence(self, name: str) -> bool:
        """Whether connections that nobody answers speak against a backend: a datagram may want no answer."""
        member = self.members[name]
        service = self.services[member.service]
        spoken = {listener.protocol for listener in service.listeners}
        return member.health.up and service.check is not None and service.check.passive and spoken == {Protocol.TCP}

    def targets(self, name: str, port: int | None) -> list[Target]:
        """How a backend is asked: one target for each of its addresses."""
        member = self.members[name]
        service = self.services[member.service]
        own = {address.version: address for address in service.source}
        return [
            Target(member.service, member.backend.name, end.address, port or end.port, own.get(end.address.version))
            for end in member.backend.endpoints
        ]

    def _put(self, member: Member) -> None:
        old = self.members[member.name]
        self.members[member.name] = member
        (self._ramping.discard if member.ramp_begun is None else self._ramping.add)(member.name)
        before, after = old.state, member.state
        if before != after:
            self.dirty.add(member.service)
            self.unsaved = True
            self.urgent = self.urgent or replace(before, factor=1, ramp=1) != replace(after, factor=1, ramp=1)

    def _event(self, kind: str, member: Member, text: str, **data: object) -> Event:
        return Event(kind, text, member.service, member.backend.name, data)


def _member(service: Service, backend: Backend, state: BackendState, in_force: bool, now: float) -> Member:
    """A backend that is new here: up without a check, if it was up a moment ago, else unknown until asked."""
    known = service.check is None or in_force
    health = Health.remembered(up=True, since=now) if known else Health()
    drain = Drain(now) if state.hold is Hold.DRAIN else None
    seen = replace(FRESH, factor=state.factor) if service.load else FRESH
    member = Member(
        service.name, backend, health, hold=state.hold, weight=state.weight, out=state.out, drain=drain, seen=seen
    )
    if not service.slow_start or not in_force or state.ramp >= 1:
        return member
    return replace(member, ramp=state.ramp, ramp_begun=now - ramped_for(state.ramp, service.slow_start))


def _kept(known: Member, service: Service, backend: Backend, now: float) -> Member:
    """A backend that stays, under another configuration."""
    member = replace(known, backend=backend)
    if service.check is None:
        member = replace(member, health=Health.remembered(up=True, since=now), ramp=1.0, ramp_begun=None, outcome=None)
    if service.load is None:
        agent = service.check is not None and known.word is not None
        member = replace(member, seen=FRESH, reading=None, out=member.out and agent)
    if not service.slow_start:
        member = replace(member, ramp=1.0, ramp_begun=None)
    return member


def _advised(member: Member, outcome: Outcome) -> Member:
    """What an agent asked by the check says: its state, and how much of the weight to give."""
    said = outcome.agent
    if said is None:
        return member
    word = member.word if said.word is None else said.word
    advised = member.advised if said.percent is None else min(max(said.percent / 100, 0.0), 1.0)
    return replace(member, word=word, out=word in _OUT or advised <= 0, advised=advised)


def _shown(reading: float | None) -> str:
    return "unknown" if reading is None else f"{reading:g}"
