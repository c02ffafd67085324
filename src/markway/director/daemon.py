"""The running daemon: what happens to backends in, weights in the kernel out."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from markway.apply.bans import FILE
from markway.apply.store import Patience
from markway.balance.state import Hold
from markway.compiler.held import held_by
from markway.config.model import Config, Schedule
from markway.config.problems import ConfigError
from markway.director.blocklists import Lists, NotNowError
from markway.director.enforcer import KERNEL_ERRORS, Enforcer, ForeignError
from markway.director.events import Event, Events
from markway.director.farm import Farm
from markway.director.guarding.watch import Guarding
from markway.director.life import Life
from markway.director.orphans import Orphans, remove
from markway.director.queueing import QueueWorker, Telling
from markway.director.signs import Signs
from markway.director.watch import Watch
from markway.program.words import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from markway.apply.store import Store
    from markway.compiler.blocklists import Layouts
    from markway.config.load import Loaded
    from markway.config.model import Protocol
    from markway.director.events import Noted
    from markway.director.model import Outcome
    from markway.director.silence import Passed
    from markway.program.diff import Changes

T = TypeVar("T")

_LOOK = 1.0
"""Seconds between two looks at whether the kernel still holds the program, and at how many flows a drain has left."""

_SHORTEST_LOOK = 0.05
"""Seconds between two counts at least, also when a deadline has passed."""

_RETRY = 2.0
"""Seconds after which a write that failed is tried again."""


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
        self.life = Life(self._failed)
        self.watch = Watch(self.farm, self.life.lasting(self._checked), self.life.lasting(self._loaded))
        self._signs = Signs(self.farm, self.watch, lambda: self.marks)
        self._enforcer = Enforcer(store)
        self._thread = ThreadPoolExecutor(1, "kernel")
        self.queue = QueueWorker()
        self._telling = Telling(self.queue)
        self.guarding = Guarding(store.folder / FILE, self._note)
        self.lists = Lists(store, self._relist, self._note)
        self._orphans = Orphans()
        self._adopted: Mapping[int, str] = {}
        self._wake = asyncio.Event()
        self._drains = asyncio.Event()
        self._writing = asyncio.Lock()
        self._ramp_timer: asyncio.TimerHandle | None = None

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
            self._note(Event("start", f"took over {self._held()} in force"))
            await self._compare(config, at_start)
        for name, patience in self.store.drains().items():
            self.farm.resumed(name, patience.until - time.time(), self.now, cut=patience.cut)
        await self._flush()
        await self.queue.start()
        self._signs.begin(self._enforcer.compiled.marks.mask, self.life, self._passed, self._note)
        self._changed()
        for loop in (self._write_when_dirty, self._guard, self._watch_drains, self.lists.keep):
            self.life.keep_up(loop())

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
        self._note(Event("start", f"brought {self._held()} into force"))
        self._follow(loaded.config)
        return loaded.config

    async def end(self) -> None:
        """Stop watching; what is in force stays."""
        begun = await self.life.end()
        await self.watch.stop()
        if self._ramp_timer:
            self._ramp_timer.cancel()
        await self.queue.aclose()
        await self.guarding.aclose()
        await self._remember()
        with suppress(OSError):  # the disk may be full
            await self.in_kernel(self._enforcer.flush)
        if begun:
            self._note(Event("stop", "stopped; what is in force stays"))
        self._signs.close()
        self.lists.close()
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
            self._note(Event("apply", f"{why}: {self._held()} in force"))
        await self._flush()
        return changes

    async def adopt(self) -> bool:
        """Take over what another command has brought into force; whether there was anything."""
        async with self._writing:
            if await self.in_kernel(self._enforcer.current) or await self.in_kernel(self._enforcer.lost):
                return False
            config = await self.in_kernel(self._enforcer.take_over) or Config()
            self._adopt(config)
        self._note(Event("apply", f"another command applied a configuration: {self._held()} in force"))
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
        for name in self.farm.known(names):
            self._note_all(self.farm.held(name, hold, self.now, deadline=deadline, cut=cut))
            if cut and hold is Hold.DISABLE:
                self._orphans.cut(name)
        self._changed()
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
        for known in self.farm.known([name]):
            self._note_all(self.farm.weighed(known, weight))
        await self._flush()

    # What happens.

    @property
    def marks(self) -> Mapping[int, str]:
        """Backends of the program in force by mark."""
        return self._enforcer.marks

    def _checked(self, name: str, outcome: Outcome) -> None:
        was_up = self.farm.members[name].health.up
        self._note_all(self.farm.checked(name, outcome, self.now))
        member = self.farm.members[name]
        if was_up and not member.health.up:
            self._orphans.died(self.farm.services[member.service], name)
        self._changed()

    def _loaded(self, service: str, readings: Mapping[str, float | None]) -> None:
        self._note_all(self.farm.loaded(service, readings, self.now))
        if self.farm.services[service].schedule is Schedule.LEAST_LOAD:
            self._telling.tell([service], self._enforcer.compiled, self.farm)
        self._changed()

    def _ramped(self) -> None:
        self._ramp_timer = None
        self.farm.ramped(self.now)
        self._changed()

    def _changed(self) -> None:
        if self.farm.dirty:
            self._wake.set()
        if self._ramp_timer is None and (when := self.farm.next_ramp(self.now)) is not None:
            self._ramp_timer = asyncio.get_running_loop().call_at(when, self.life.lasting(self._ramped))

    def _adopt(self, config: Config) -> None:
        """Watch the backends of a configuration that is in force."""
        serving = self._enforcer.serving()
        states = self.store.states()
        self._orphans.removed(self.farm, config, self._adopted)
        self.farm.adopt(config, states, serving.__contains__, self.now)
        self._follow(config)

    def _follow(self, config: Config) -> None:
        self._adopted = self.marks
        self._signs.follow(self._enforcer.compiled.marks.mask)
        self._telling.follow(config, self._enforcer.compiled)
        self.watch.follow(config)
        self.guarding.follow(config)
        self.lists.follow(config.blocklisting)

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
            written = not dirty or await self._write(dirty)
            if self.farm.urgent:
                await self._remember()
            if written and (orphans := self._orphans.take(self.marks)):
                await self._cut(orphans)

    async def _remember(self) -> None:
        """What an operator or a check has said must outlive a kill; a load's factor may be a second old."""
        self.farm.urgent = False
        if not self.farm.unsaved:
            return
        self.farm.unsaved = False
        try:
            await self.in_kernel(self._enforcer.remember, self.farm.states())
        except KERNEL_ERRORS as error:
            self.farm.unsaved = True
            self._note(Event("error", f"the states of backends could not be written down: {error}"))

    async def _cut(self, orphans: Mapping[int, tuple[str, frozenset[Protocol]]]) -> None:
        try:
            self._note_all(await self.in_kernel(remove, self._enforcer, orphans))
        except OSError as error:
            self._note(Event("error", f"flows of dead backends could not be removed: {error.strerror}"))

    async def _write(self, dirty: set[str]) -> bool:
        """Whether the kernel has the weights of these services now; if not, it is tried again."""
        begun = time.perf_counter()
        try:
            written = await self.in_kernel(self._enforcer.reweigh, self.farm.weights(dirty))
        except KERNEL_ERRORS as error:
            self._note(Event("error", f"the weights could not be changed: {error}"))
            self.farm.dirty |= dirty
            asyncio.get_running_loop().call_later(_RETRY, self._wake.set)
            return False
        if written.foreign:
            self.farm.dirty |= dirty
            self.life.keep_up(self._try_to_adopt())
            return False
        if written.changed:
            self.latency = time.perf_counter() - begun
        self._telling.tell(dirty, self._enforcer.compiled, self.farm)
        return True

    async def _relist(self, layouts: Mapping[str, Layouts]) -> None:
        try:
            async with self._writing:
                written = await self.in_kernel(self._enforcer.relist, layouts)
        except KERNEL_ERRORS as error:
            raise NotNowError(str(error)) from error
        if written.foreign:
            self.life.keep_up(self._try_to_adopt())
            raise NotNowError("another command has applied a configuration")

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
                    self.lists.doubt()
                    self._changed()

    async def _watch_drains(self) -> None:
        while True:
            due = self.farm.next_deadline(self.now + _LOOK) - self.now
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drains.wait(), max(due, _SHORTEST_LOOK))
            self._drains.clear()
            if draining := list(self.farm.draining()):
                with suppress(OSError):
                    await self._count(draining)

    async def _count(self, draining: list[str]) -> None:
        wanted = set(draining)
        marks = {name: mark for mark, name in self.marks.items() if name in wanted}
        flows = await self.in_kernel(self._enforcer.flows, marks.values())
        left = {name: flows[marks[name]] if name in marks else 0 for name in draining}
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

    def _held(self) -> str:
        """What is in force, in words."""
        return held(held_by(self._enforcer.compiled.program))

    def _failed(self, error: BaseException) -> None:
        self._note(Event("error", f"a fault of Markway's own ends the daemon: {error!r}"))

    def _note(self, event: Event) -> None:
        self.events.note(event)

    def _note_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.events.note(event)
