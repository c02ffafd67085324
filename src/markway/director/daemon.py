"""The running daemon: what happens to backends in, weights in the kernel out."""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from markway.apply.store import BusyError, Patience, StoreError
from markway.apply.transaction import ApplyError
from markway.balance.state import Hold
from markway.config.model import Config, Schedule
from markway.config.problems import ConfigError
from markway.director.answers import Answers
from markway.director.enforcer import Enforcer, ForeignError
from markway.director.events import Event, Events
from markway.director.evidence import Evidence
from markway.director.farm import Farm
from markway.director.loads import Loads
from markway.director.orphans import Orphans, remove
from markway.director.queueing import QueueWorker, queued_services
from markway.director.silence import listen
from markway.director.watchers import Checker, LoadReader
from markway.kernel.netlink import NetlinkError
from markway.kernel.nft import NftError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from markway.apply.store import Store
    from markway.config.load import Loaded
    from markway.config.model import Protocol
    from markway.director.events import Noted
    from markway.director.model import Outcome
    from markway.director.silence import Passed
    from markway.program.diff import Changes

T = TypeVar("T")

KERNEL_ERRORS = (ApplyError, BusyError, StoreError, NetlinkError, NftError, ConfigError)
"""What can go wrong between the daemon and the machine."""

_LOOK = 1.0
"""Seconds between two looks at whether the kernel still holds the program, and at how many flows a drain has left."""

_SHORTEST_LOOK = 0.05
"""Seconds between two counts at least, also when a deadline has passed."""

_RETRY = 2.0
"""Seconds after which a write that failed is tried again."""


class NoSuchBackendError(LookupError):
    """No service has a backend of this name."""


class Director:
    """Keeps the program true while backends fail, recover, drain and load up. Runs on one event loop."""

    def __init__(self, store: Store, tell: Callable[[Noted], None]) -> None:
        """Prepare; nothing is touched before `begin`.

        Args:
            store: the state folder of this network namespace.
            tell: is called with every event, as to log it.
        """
        self.store = store
        self.events = Events(time.time, tell)
        self.farm = Farm()
        self.latency = 0.0
        """Seconds that the last change of weights took until the kernel had it."""
        self.answers: dict[str, Answers] = {}
        """What checks came to, by backend."""
        self._enforcer = Enforcer(store)
        self._thread = ThreadPoolExecutor(1, "kernel")
        self._loads = Loads()
        self.queue = QueueWorker()
        self._orphans = Orphans()
        self._checkers: dict[str, Checker] = {}
        self._readers: dict[str, LoadReader] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._drains = asyncio.Event()
        self._writing = asyncio.Lock()
        self._ramp_timer: asyncio.TimerHandle | None = None
        self._evidence: Evidence | None = None

    @property
    def now(self) -> float:
        """The daemon's clock: seconds of the event loop."""
        return asyncio.get_running_loop().time()

    async def begin(self, at_start: Callable[[], Loaded]) -> None:
        """Take over what is in force, or bring a configuration into force where nothing is.

        Args:
            at_start: reads the configuration to begin with; asked only when the kernel holds no program.

        Raises:
            ConfigError: there is no usable configuration at all.
            ApplyError, StoreError: the machine does not let us.
        """
        config = await self.in_kernel(self._enforcer.take_over)
        if config is None or not self._enforcer.in_force:
            config = await self._first(config, at_start)
        else:
            self._adopt(config)
            self._note(Event("start", f"took over {_count(config)} in force"))
            await self._compare(config, at_start)
        for name, patience in self.store.drains().items():
            self.farm.resumed(name, patience.until - time.time(), self.now, cut=patience.cut)
        await self._flush()
        await self.queue.start()
        self._listen()
        for loop in (self._write_when_dirty, self._guard, self._watch_drains):
            self._tasks.append(asyncio.create_task(loop()))

    async def _compare(self, config: Config, at_start: Callable[[], Loaded]) -> None:
        """Say so if the file is not what is in force: nobody may have meant to apply it yet."""
        try:
            loaded = await asyncio.to_thread(at_start)
        except (ConfigError, OSError) as error:
            self._note(Event("warning", f"the file cannot be used, and is not what is in force: {error}"))
            return
        if loaded.config != config:
            self._note(Event("warning", "the file differs from what is in force: a reload or apply would change that"))

    async def _first(self, config: Config | None, at_start: Callable[[], Loaded]) -> Config:
        """Nothing is in force: the file is applied, with no backend up that no check has found so."""
        try:
            loaded = at_start()
        except ConfigError as error:
            if config is None:
                raise
            self._note(Event("error", f"the file cannot be used, so the configuration of before is: {error}"))
            loaded = await self.in_kernel(self._enforcer.remembered)
        self.farm.adopt(loaded.config, self.store.states(), lambda _: False, self.now)
        await self.in_kernel(self._enforcer.apply, loaded, self.farm.states(), "start")
        self._note(Event("start", f"brought {_count(loaded.config)} into force"))
        self._watch(loaded.config)
        return loaded.config

    def _listen(self) -> None:
        """Hear of the kernel's signs of death, unless another process does."""
        try:
            self._evidence = Evidence(self._enforcer.compiled.marks.mask)
        except OSError as error:
            self._note(Event("warning", f"no passive detection of dead backends: {error.strerror}"))
            return
        self._evidence.watch(self._suspect)
        self._tasks.append(asyncio.create_task(listen(self._passed, self._silent)))

    async def end(self) -> None:
        """Stop watching; what is in force stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for checker in self._checkers.values():
            checker.stop()
        for reader in self._readers.values():
            reader.stop()
        if self._ramp_timer:
            self._ramp_timer.cancel()
        await self.queue.aclose()
        await self._loads.close()
        await self._remember()
        await self.in_kernel(self._enforcer.flush)
        if self._tasks:
            self._note(Event("stop", "stopped; what is in force stays"))
        if self._evidence:
            self._evidence.close()
        self._thread.shutdown()
        self._enforcer.close()

    # What operators ask for.

    async def apply(self, loaded: Loaded, why: str, confirm: float | None = None) -> Changes:
        """Bring a configuration into force; what that changed.

        Args:
            loaded: the configuration.
            why: for people: who asked.
            confirm: seconds after which it is undone, unless confirmed.

        Raises:
            AwaitedError: the apply before this one awaits its confirmation.
            ApplyError, BusyError, StoreError: the machine does not let us; what was in force still is.
            MarksError: the mask is too small.
        """
        async with self._writing:
            states = self.farm.expected(loaded.config)
            changes = await self.in_kernel(self._enforcer.apply, loaded, states, why, confirm)
            self._adopt(loaded.config)
        if changes:
            self._note(Event("apply", f"{why}: {_count(loaded.config)} in force"))
        await self._flush()
        return changes

    async def adopt(self) -> bool:
        """Take over what another command has brought into force; whether there was anything."""
        async with self._writing:
            if await self.in_kernel(self._enforcer.current):
                return False
            config = await self.in_kernel(self._enforcer.take_over) or Config()
            self._adopt(config)
        self._note(Event("apply", f"another command applied a configuration: {_count(config)} in force"))
        await self._flush()
        return True

    async def hold(self, names: Iterable[str], hold: Hold, *, deadline: float | None = None, cut: bool = False) -> None:
        """Drain, disable or enable backends.

        Args:
            names: as `service/backend`.
            hold: what is wanted of them.
            deadline: seconds after which a drain ends, also with connections left.
            cut: whether what is left is cut then; or at once, when backends are disabled.

        Raises:
            NoSuchBackendError: one of the names is unknown; nothing was done.
        """
        known = self._known(names)
        for name in known:
            self._note_all(self.farm.held(name, hold, self.now, deadline=deadline, cut=cut))
            if cut and hold is Hold.DISABLE:
                self._orphans.cut(name)
        await self.in_kernel(self.store.keep_drains, self._patience())
        await self._flush()
        self._drains.set()

    def _patience(self) -> dict[str, Patience]:
        drains = ((name, member.drain) for name, member in self.farm.members.items())
        here = time.time() - self.now
        return {name: Patience(here + d.deadline, d.cut) for name, d in drains if d and d.deadline is not None}

    async def weigh(self, name: str, weight: int | None) -> None:
        """Give a backend another weight than the file's, or (None) the file's again.

        Raises:
            NoSuchBackendError: the name is unknown.
        """
        for known in self._known([name]):
            self._note_all(self.farm.weighed(known, weight))
        await self._flush()

    def _known(self, names: Iterable[str]) -> list[str]:
        wanted = list(names)
        for name in wanted:
            if name not in self.farm.members:
                raise NoSuchBackendError(name)
        return wanted

    # What happens.

    def _suspect(self, mark: int) -> None:
        """The kernel has seen a sign that the backend with this mark died: ask it now."""
        name = self.marks.get(mark)
        checker = self._checkers.get(name) if name else None
        if checker is not None and name and self.farm.members[name].health.up:
            checker.hurry()

    def _silent(self, mark: int) -> None:
        """The backend with this mark leaves new connections unanswered: ask it now, and believe the worst of it."""
        name = self.marks.get(mark)
        checker = self._checkers.get(name) if name else None
        if checker is not None and name and self.farm.hears_silence(name):
            checker.hurry(silent=True)

    @property
    def marks(self) -> Mapping[int, str]:
        """Backends of the program in force by mark."""
        return self._enforcer.marks

    def _checked(self, name: str, outcome: Outcome) -> None:
        self.answers.setdefault(name, Answers()).add(outcome)
        was_up = self.farm.members[name].health.up
        self._note_all(self.farm.checked(name, outcome, self.now))
        member = self.farm.members[name]
        if was_up and not member.health.up:
            self._orphans.died(self.farm.services[member.service], name)
        self._changed()

    def _loaded(self, service: str, readings: Mapping[str, float | None]) -> None:
        self._note_all(self.farm.loaded(service, readings, self.now))
        if self.farm.services[service].schedule is Schedule.LEAST_LOAD:
            self._publish()
        self._changed()

    def _ramped(self) -> None:
        self._ramp_timer = None
        self.farm.ramped(self.now)
        self._changed()

    def _changed(self) -> None:
        if self.farm.dirty:
            self._wake.set()
        if self._ramp_timer is None and (when := self.farm.next_ramp(self.now)) is not None:
            self._ramp_timer = asyncio.get_running_loop().call_at(when, self._ramped)

    def _adopt(self, config: Config) -> None:
        """Watch the backends of a configuration that is in force."""
        serving = self._enforcer.serving()
        self._orphans.removed(self.farm, config, self.marks)
        self.farm.adopt(config, self.store.states(), serving.__contains__, self.now)
        if self._evidence:
            self._evidence.mask = self._enforcer.compiled.marks.mask
        self._watch(config)

    def _watch(self, config: Config) -> None:
        checked = {f"{s.name}/{b.name}" for s in config.services if s.check for b in s.backends}
        loaded = {s.name for s in config.services if s.load}
        for name in self._checkers.keys() - checked:
            self._checkers.pop(name).stop()
            self.answers.pop(name, None)
        for name in self._readers.keys() - loaded:
            self._readers.pop(name).stop()
        for checker in self._checkers.values():
            checker.renew()
        for name in sorted(checked - self._checkers.keys()):
            self._checkers[name] = Checker(self.farm, name, self._checked, random.random)
        for name in sorted(loaded - self._readers.keys()):
            self._readers[name] = LoadReader(self.farm, name, self._loads, self._loaded)

    # What goes on all the time.

    async def _write_when_dirty(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Bring into force what has changed; what comes meanwhile goes with the next."""
        async with self._writing:
            dirty, self.farm.dirty = self.farm.dirty, set()
            if dirty:
                await self._write(dirty)
                self._publish()
            if self.farm.urgent:
                await self._remember()
            if orphans := self._orphans.take(self.marks):
                await self._cut(orphans)

    def _publish(self) -> None:
        """Tell the queue worker by what to decide."""
        if not any(service.schedule.queued for service in self.farm.services.values()) and self.queue.pid is None:
            return
        members = self.farm.members.values()
        loads = {member.name: member.seen.smooth for member in members if member.seen.smooth is not None}
        compiled = self._enforcer.compiled
        self.queue.publish(compiled.marks.mask, queued_services(compiled, loads))

    async def _remember(self) -> None:
        """What an operator or a check has said must outlive a kill; a load's factor may be a second old."""
        self.farm.urgent = False
        if self.farm.unsaved:
            self.farm.unsaved = False
            await self.in_kernel(self._enforcer.remember, self.farm.states())

    async def _cut(self, orphans: Mapping[int, tuple[str, frozenset[Protocol]]]) -> None:
        try:
            self._note_all(await self.in_kernel(remove, self._enforcer, orphans))
        except NetlinkError as error:
            self._note(Event("error", f"flows of dead backends could not be removed: {error.strerror}"))

    async def _write(self, dirty: set[str]) -> None:
        begun = time.perf_counter()
        try:
            written = await self.in_kernel(self._enforcer.reweigh, self.farm.weights(dirty))
        except KERNEL_ERRORS as error:
            self._note(Event("error", f"the weights could not be changed: {error}"))
            self.farm.dirty |= dirty
            asyncio.get_running_loop().call_later(_RETRY, self._wake.set)
            return
        if written.foreign:
            self.farm.dirty |= dirty
            asyncio.get_running_loop().call_soon(self._adopt_soon)
        elif written.changed:
            self.latency = time.perf_counter() - begun

    def _adopt_soon(self) -> None:
        task = asyncio.create_task(self._try_to_adopt())
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _try_to_adopt(self) -> None:
        try:
            await self.adopt()
        except KERNEL_ERRORS as error:
            self._note(Event("error", f"what is in force could not be taken over: {error}"))

    async def _guard(self) -> None:
        """Keep the kernel true to the program, whoever else writes to it."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                async with self._writing:
                    why = await self.in_kernel(self._enforcer.mended)
                    await self._remember()
            except ForeignError:
                await self._try_to_adopt()
            except KERNEL_ERRORS as error:
                self._note(Event("error", f"the program could not be mended: {error}"))
            else:
                if why:
                    self._note(Event("mended", f"{why}: written again"))

    async def _watch_drains(self) -> None:
        while True:
            due = self.farm.next_deadline(self.now + _LOOK) - self.now
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drains.wait(), max(due, _SHORTEST_LOOK))
            self._drains.clear()
            if draining := list(self.farm.draining()):
                with suppress(NetlinkError):
                    await self._count(draining)

    async def _count(self, draining: list[str]) -> None:
        flows = await self.in_kernel(self._enforcer.flows)
        by_name = {name: flows[mark] for mark, name in self.marks.items()}
        left = {name: by_name.get(name, 0) for name in draining}
        for event, cut in list(self.farm.counted(left, self.now)):
            self._note(event)
            if cut:
                self._orphans.cut(event.name)
        await self._flush()

    async def _passed(self) -> Mapping[int, Passed]:
        return await self.in_kernel(self._enforcer.passed)

    async def in_kernel(self, work: Callable[..., T], *args: object) -> T:
        """Do something in the thread that talks to the kernel; one thing at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    @property
    def enforcer(self) -> Enforcer:
        """The hand on the kernel, for `in_kernel`."""
        return self._enforcer

    @property
    def load_reasons(self) -> dict[str, str]:
        """Why loads cannot be read, by backend."""
        return {f"{s}/{b}": why for s, reader in self._readers.items() for b, why in reader.reasons.items()}

    def _note(self, event: Event) -> None:
        self.events.note(event)

    def _note_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.events.note(event)


def _count(config: Config) -> str:
    number = len(config.services)
    return f"{number:,} service{'' if number == 1 else 's'}"
