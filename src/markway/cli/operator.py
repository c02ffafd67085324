"""An operator's hand: the daemon's if it runs, else the command's own."""

from __future__ import annotations

import time
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import quote

from markway.apply.store import Patience
from markway.balance.state import UNTOUCHED, Hold
from markway.cli.ask import Daemon, NoDaemonError, RefusedError
from markway.cli.common import fail
from markway.config.model import Config, Protocol
from markway.director.enforcer import Enforcer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from markway.apply.store import Store
    from markway.balance.state import BackendState

Record = dict[str, Any]

_PATIENCE = 20.0
"""Seconds that a daemon may take from its beginning to its first answer."""


class Emptying(NamedTuple):
    """How far a backend is emptied: connections left, whether that is the end, and seconds to the deadline."""

    name: str
    left: int | None
    ended: bool = False
    cut: bool = False
    deadline_in: float | None = None

    @property
    def record(self) -> Record:
        """As JSON can hold it."""
        return {"name": self.name, "left": self.left, "ended": self.ended, "cut": bool(self.left and self.cut)}


class Operator:
    """Says to backends what is wanted of them. Use it as a context."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._daemon = Daemon(store)
        self._enforcer: Enforcer | None = None
        self.by_daemon = True
        """Whether the daemon did it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enforcer:
            self._enforcer.close()

    def hold(self, names: list[str], hold: Hold, *, deadline: float | None = None, cut: bool = False) -> list[Record]:
        """Drain, disable or enable backends, all or, if one is unknown, none."""
        body = {"backends": names, "hold": str(hold), "deadline": deadline, "cut": cut}
        try:
            done: list[Record] = self.tell("POST", "hold", body)
        except NoDaemonError:
            done = self._amend(names, lambda state: replace(state, hold=hold))
            ends = None if deadline is None else Patience(time.time() + deadline, cut)
            drains = {name: ends for name in names if ends}
            kept = {name: one for name, one in self._store.drains().items() if name not in names}
            self._store.keep_drains({**kept, **drains})
            if cut and hold is Hold.DISABLE:
                self._cut(names)
        return done

    def weigh(self, name: str, weight: int | None) -> Record:
        """Give a backend another weight, or (None) the file's."""
        service, _, backend = (quote(part) for part in name.partition("/"))
        try:
            done: Record = self.tell("PUT", f"services/{service}/backends/{backend}/weight", {"weight": weight})
        except NoDaemonError:
            return self._amend([name], lambda state: replace(state, weight=weight))[0]
        return {**done, "name": name, "reason": (done["checked"] or {}).get("reason", "")}

    def emptying(self, names: list[str]) -> list[Emptying]:
        """How far backends are emptied; one that is not drained any more is missing."""
        if self.by_daemon:
            try:
                found: Mapping[str, Record] = self.tell("GET", "drains")
            except NoDaemonError:
                pass  # it ended meanwhile: what it began goes on
            else:
                return [
                    Emptying(name, one["left"], one["ended"], one["cut"], one["deadline_in"])
                    for name in names
                    if (one := found.get(name))
                ]
        return self._counted(names)

    def tell(self, method: str, path: str, body: Record | None = None) -> Any:
        """Ask the daemon, and end the command if it refuses; one that only begins or is about to end is waited for.

        Raises:
            NoDaemonError: none runs.
        """
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._daemon.send(method, path, body)
            except RefusedError as error:
                fail(str(error))
            except NoDaemonError:
                if not self._store.is_attended():
                    self.by_daemon = False
                    raise
                if time.monotonic() > end:
                    fail("the daemon runs, but nobody answers at its socket")
                time.sleep(0.05)

    def _counted(self, names: list[str]) -> list[Emptying]:
        """The same without the daemon: what is left is counted here, and cut here."""
        enforcer, states, drains = self._own(), self._store.states(), self._store.drains()
        marks = {name: mark for mark, name in enforcer.marks.items() if name in names}
        flows = enforcer.flows(marks.values())
        found = []
        for name in names:
            if states.get(name, UNTOUCHED).hold is Hold.DRAIN and name in marks:
                left, patience = flows[marks[name]], drains.get(name)
                deadline = patience.until - time.time() if patience else None
                over = deadline is not None and deadline <= 0
                cut = patience is not None and patience.cut
                found.append(Emptying(name, left, not left or over, cut, deadline))
        self._cut([one.name for one in found if one.ended and one.left and one.cut])
        return found

    def _cut(self, names: list[str]) -> None:
        enforcer = self._own()
        enforcer.forget([mark for mark, name in enforcer.marks.items() if name in names], Protocol)

    def _own(self) -> Enforcer:
        if self._enforcer is None:
            self._enforcer = Enforcer(self._store)
            self._enforcer.take_over()
        return self._enforcer

    def _amend(self, names: list[str], change: Callable[[BackendState], BackendState]) -> list[Record]:
        """Change the states of backends without the daemon."""

        def changed(config: Config, states: dict[str, BackendState]) -> dict[str, BackendState]:
            known = {f"{service.name}/{b.name}" for service in config.services for b in service.backends}
            for name in names:
                if name not in known:
                    close = get_close_matches(name, known, n=1, cutoff=0.5)
                    fail(f'there is no backend "{name}"' + (f', did you mean "{close[0]}"?' if close else ""))
            states |= {name: change(states.get(name, UNTOUCHED)) for name in names}
            return {name: state for name, state in states.items() if state != UNTOUCHED}

        self._own().amend(changed)
        states = self._store.states()
        worth = {f"{s.name}/{b.name}": b.weight for s in self._own().compiled.config.services for b in s.backends}
        return [_brief(name, states.get(name, UNTOUCHED), worth[name]) for name in names]


def _brief(name: str, state: BackendState, worth: int) -> Record:
    """As the daemon would answer."""
    held = {Hold.DRAIN: "drain", Hold.DISABLE: "disabled"}.get(state.hold)
    known = "down" if not state.up else "out" if state.out else "up"
    weight = worth if state.weight is None else state.weight
    return {"name": name, "state": held or known, "weight": weight, "reason": "", "drain": None, "in_force": True}
