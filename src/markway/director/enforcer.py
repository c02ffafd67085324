"""The daemon's hand on the kernel: one thread's work, under the lock that every command takes.

Whoever has the lock and finds that another brought a program into force takes that one over first. So commands work
beside the daemon, before it and after it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.apply.confirm import await_confirmation, outside, refuse_if_awaited, settle, undoable
from markway.apply.folder import BusyError, StoreError
from markway.apply.log import program_at
from markway.apply.observe import packets
from markway.apply.transaction import ApplyError, compiled_for, present, put, verified_before
from markway.balance.state import all_weights
from markway.compiler import Compiled, compile_config, reweigh
from markway.config.load import load
from markway.config.model import Config
from markway.config.problems import ConfigError
from markway.director.silence import Passed
from markway.kernel import table
from markway.kernel.conntrack import connections_by_mark, forget
from markway.kernel.netlink import Netlink
from markway.kernel.nft import NftError
from markway.kernel.rtnetlink import Stir
from markway.marks import MarksError, Registry
from markway.program.model import Program

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterable, Mapping

    from markway.apply.store import Store
    from markway.apply.transaction import Present
    from markway.balance.state import BackendState
    from markway.compiler.blocklists import Layouts
    from markway.config.load import Loaded
    from markway.config.model import Protocol
    from markway.program.diff import Changes

KERNEL_ERRORS = (ApplyError, BusyError, StoreError, OSError, NftError, ConfigError, MarksError)
"""What can go wrong between the daemon and the machine; OSError is the kernel's no, and a disk that is full."""

_PATIENCE = 30.0
"""Seconds to wait for a command that holds the lock."""

_RETRY = 10.0
"""Seconds after which what could not be mended is tried again."""

_IDLE_SHARE = 20
"""Looking for damage may take this part of the time at most."""


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a write: whether anything changed, or whether somebody else's program came first."""

    changed: bool
    foreign: bool


class Enforcer:
    """Keeps the program of a configuration in force. Not to be used by two threads at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._netlink = Netlink()
        self._stir = Stir()
        self._stirred = False
        self._refused = ""
        self._retry = math.inf
        self._now: Present | None = None
        self._look_again = 0.0
        self._log = 0
        self._marks: dict[int, str] = {}
        self._marks_of: Registry | None = None
        self.compiled = Compiled(Config(), Registry(), Program())

    def close(self) -> None:
        """Let the kernel go; what is in force stays."""
        self._netlink.close()
        self._stir.close()

    def take_over(self) -> Config | None:
        """Learn what is in force, from the kernel and the log; None if no configuration was ever applied.

        Raises:
            StoreError: the state folder is broken.
            ConfigError: the configuration that is in force is none for this version.
        """
        with self._store.locked(_PATIENCE):
            settle(self._store, self._netlink)
            return self._take_over()

    def _take_over(self) -> Config | None:
        self._store.forget()
        self._log = self._store.log_size()
        self._now = self._present()
        if not self._now.config:
            self.compiled = compile_config(Config(), self._store.registry())
            return None
        loaded = load(self._store.config(self._now.config))
        self.compiled = compiled_for(self._store, loaded.config, self._store.states(), loaded.sources)
        return loaded.config

    @property
    def in_force(self) -> bool:
        """Whether the kernel holds a program of the log, be it damaged."""
        return self._now is not None and bool(self._now.entries) and self._now.entries[-1].id == self._now.marker

    def serving(self) -> frozenset[str]:
        """Backends that the program in force believes to be up, by `service/backend`."""
        if self._now is None or not self.in_force:
            return frozenset()
        program = self._now.program or program_at(self._now.entries, len(self._now.entries) - 1)
        entries = program.services
        return frozenset(f"{entry.name}/{b.name}" for entry in entries for b in entry.backends if b.weight)

    @property
    def now(self) -> Present | None:
        """What was in force when the kernel was last written or taken over; None before that."""
        return self._now

    def apply(
        self, loaded: Loaded, states: Mapping[str, BackendState], why: str, confirm: float | None = None
    ) -> Changes:
        """Bring a configuration into force; with `confirm`, to be undone by `settle` after so many seconds.

        Raises:
            AwaitedError: the apply before this one awaits its confirmation.
            ApplyError: the kernel refused.
            MarksError: the mask is too small.
        """
        with self._store.locked(_PATIENCE):
            settle(self._store, self._netlink)
            if self._now is None or not self._untouched(self._now):
                self._store.forget()
                self._now = self._present()
            refuse_if_awaited(self._store, self._now)
            digest = self._store.keep_config(loaded.sources)
            before = self.compiled if self.compiled.program.id == self._now.marker else None
            compiled = compiled_for(self._store, loaded.config, states, loaded.sources, before)
            otherwise = outside(loaded.config) != outside(self.compiled.config)
            if confirm is not None and undoable(self._now, compiled.program, digest, otherwise=otherwise):
                await_confirmation(self._store, compiled.program, digest, confirm)
            try:
                changes = self._put(compiled, digest, why, patient=False)
            except Exception:
                self._store.set_pending(None)
                raise
            self._store.keep_states(states)
            return changes

    def reweigh(self, weights: Mapping[str, Mapping[str, int] | None]) -> Written:
        """Bring new weights of some services into force; a service without any has the file's.

        Does nothing if somebody else has changed the program meanwhile: then `foreign` is true, and `take_over` comes
        first.

        Raises:
            ApplyError: the kernel refused.
        """
        with self._store.locked(_PATIENCE):
            if self._now is None or not self.current():
                return Written(changed=False, foreign=True)
            changes = self._put(reweigh(self.compiled, weights), self._now.config, "weights")
            return Written(bool(changes), foreign=False)

    def relist(self, layouts: Mapping[str, Layouts]) -> Written:
        """Bring other sets of lists into force; if somebody else has changed the program meanwhile, as `reweigh`.

        Raises:
            ApplyError: the kernel refused; the lists have the sets that they had.
        """
        with self._store.locked(_PATIENCE):
            if self._now is None or not self.current():
                return Written(changed=False, foreign=True)
            config, before = self.compiled.config, self._store.layouts()
            names = {item.name for item in config.blocklisting.lists}
            self._store.keep_layouts({name: both for name, both in layouts.items() if name in names})
            old = self.compiled
            compiled = compile_config(config, old.registry, old, old.weights, layouts=layouts)
            try:
                changes = self._put(compiled, self._now.config, self._now.entries[-1].why)  # still what was applied
            except BaseException:
                self._store.keep_layouts(before)
                raise
            return Written(bool(changes), foreign=False)

    def amend(self, change: Callable[[Config, dict[str, BackendState]], Mapping[str, BackendState]]) -> bool:
        """Bring other states of backends into force in one step, for who works without the daemon.

        Args:
            change: from the configuration in force and what is remembered of its backends to what holds from now on;
                what it raises comes through, and nothing is changed then.

        Returns:
            Whether anybody's share of new connections changed.

        Raises:
            ApplyError: nothing is in force, or the kernel refused.
            BusyError: a daemon has begun meanwhile, which is to be asked instead.
        """
        with self._store.locked(_PATIENCE):
            if self._store.is_attended():
                raise BusyError("markway run begins just now: try again")
            settle(self._store, self._netlink)
            config = self._take_over()
            if self._now is None or config is None or not self.in_force:
                raise ApplyError("nothing is in force: markway apply FILE first")
            states = change(config, self._store.states())
            weights = all_weights(config.services, states)
            compiled = compile_config(config, self.compiled.registry, self.compiled, weights)
            changes = self._put(compiled, self._now.config, "weights")
            self._store.keep_states(states)
            return bool(changes)

    def remember(self, states: Mapping[str, BackendState]) -> None:
        """Keep what checks, load and operators say of backends for the next process."""
        self._store.keep_states(states)

    def flush(self) -> None:
        """Write down what can wait."""
        self._store.flush()

    def _put(
        self, compiled: Compiled, digest: str, why: str, found: Present | None = None, *, patient: bool = True
    ) -> Changes:
        now = found or self._now
        if now is None:
            raise ApplyError("nothing is known of the kernel yet")
        if compiled.registry is not self.compiled.registry:
            self._store.keep_registry(compiled.registry)
        try:
            done = put(
                self._store,
                self._netlink,
                now,
                compiled.program,
                config=digest,
                why=why,
                patient=patient,
                written=self._stir.heard,
            )
        finally:
            self._log = self._store.log_size()  # of a refused program there is a line too, until the next
        self._now, self.compiled = done.now, compiled
        return done.changes

    def mended(self) -> str | None:
        """Look whether the kernel still holds the program, and write it again if not; why, if it did.

        Costs next to nothing while nobody writes to nftables, nor to devices and what stands on them.

        Raises:
            ForeignError: another program is in force; `take_over` it.
            ApplyError: the kernel refused; it is said once.
        """
        if self._now is None or self._now.marker is None:
            return None
        alone = self._store.log_size() == self._log
        if alone and self._untouched(self._now):
            return None
        begun = time.monotonic()
        if alone and begun < self._look_again:
            return None
        with self._store.locked(_PATIENCE):
            settle(self._store, self._netlink)
            self._store.flush()
            if self._store.log_size() != self._log:
                raise ForeignError
            found = self._present()
            if found.marker not in {None, self._now.marker} and found.damage is None:
                raise ForeignError
            self._look_again = time.monotonic() + _IDLE_SHARE * (time.monotonic() - begun)
            if found.program is not None and found.standing is None:
                self._refused = ""
                return None
            if not self._mend(found, self._now.config):
                return None
            return "; ".join(found.faults) or "the table was gone"

    def _present(self) -> Present:
        """What is in force; whatever is changed from now on is heard."""
        self._stir.heard()
        self._stirred, self._retry = False, math.inf
        return present(self._store, self._netlink)

    def _mend(self, found: Present, config: str) -> bool:
        """Write the program again; whether the kernel has taken it. What it refuses is said once."""
        try:
            self._put(self.compiled, config, "mended", found)
        except ApplyError as error:
            self._stir.heard()  # what was tried, and taken back
            self._retry = time.monotonic() + _RETRY
            if str(error) == self._refused:
                return False
            self._refused = str(error)
            raise
        self._refused = ""
        return True

    def _untouched(self, now: Present) -> bool:
        """Whether nobody else has written to the kernel, as far as it tells at no cost, nor to the log."""
        self._stirred |= self._stir.heard() or time.monotonic() >= self._retry
        same = self._store.log_size() == self._log and now.program is not None and now.standing is None
        return same and not self._stirred and verified_before(self._store, self._netlink, now)

    def current(self) -> bool:
        """Whether what is in force is still what was taken over or written here.

        Another configuration may be of the same program: then only the log tells.
        """
        same = self._now is not None and table.program_id(self._netlink) == self._now.marker
        return same and self._store.log_size() == self._log

    def lost(self) -> bool:
        """Whether the kernel has forgotten what was written here, and nobody has written anything since: mend it."""
        written = self._now is not None and self._now.marker is not None
        return written and table.program_id(self._netlink) is None and self._store.log_size() == self._log

    def remembered(self) -> Loaded:
        """The configuration that was applied last, also if the kernel has forgotten it since."""
        digest = self._now.config if self._now else ""
        return load(self._store.config(digest))

    @property
    def marks(self) -> dict[int, str]:
        """Backends by mark."""
        compiled = self.compiled  # the kernel's thread may put another in its place meanwhile
        if self._marks_of is not compiled.registry:
            entries = compiled.program.services
            self._marks = {b.mark: f"{entry.name}/{b.name}" for entry in entries for b in entry.backends}
            self._marks_of = compiled.registry
        return self._marks

    def forget(self, marks: Iterable[int], protocols: Iterable[Protocol]) -> int:
        """Remove the flows of these marks from the connection table, of these protocols or unanswered; how many."""
        return forget(self._netlink, self.compiled.marks.mask, set(marks), set(protocols), unanswered=True)

    def passed(self) -> dict[int, Passed]:
        """What the connections of each mark came to so far; empty if nobody's signs of death are asked for."""
        program = self.compiled.program
        if "passive" not in program.sets:
            return {}
        return {mark: Passed(*counted) for mark, counted in packets(self._netlink, program).items()}

    def flows(self, marks: Collection[int]) -> Counter[int]:
        """Open connections of these marks."""
        return connections_by_mark(self._netlink, self.compiled.marks.mask, marks)


class ForeignError(Exception):
    """Somebody else brought another program into force."""
