"""Undoing an apply that nobody confirmed, by a process that outlives the terminal."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from markway.apply.folder import boot_clock, this_boot
from markway.apply.store import Pending
from markway.apply.transaction import (
    ApplyError,
    Present,
    changes_to,
    compiled_for,
    empty_program,
    present,
    put,
    states_for,
)
from markway.config.load import load
from markway.config.model import Config
from markway.config.problems import ConfigError
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from markway.apply.store import Store
    from markway.program.diff import Changes
    from markway.program.model import Program


class NothingToUndoError(RuntimeError):
    """There is no earlier program."""


class AwaitedError(ApplyError):
    """The apply before this one awaits its confirmation."""


class NothingAwaitedError(RuntimeError):
    """No apply awaits its confirmation, or it is too late for that."""


def undoable(now: Present, program: Program, config: str, *, otherwise: bool) -> bool:
    """Whether an apply changes anything, and another configuration is there to go back to.

    `otherwise` is whether it does so beside the program, as `outside` tells.
    """
    return config != now.config and (now.program is None or otherwise or bool(changes_to(now, program)))


def outside(config: Config) -> tuple[object, ...]:
    """What a configuration says of who is kept out that is in no program: the lists' content, the guards' windows."""
    return config.blocklisting, config.guards


def otherwise(store: Store, now: Present, changes: Changes, config: Config) -> bool:
    """Whether a configuration differs from the one in force, and yet by nothing that is in programs.

    That is by checks, loads, windows or lists. One of another version, which cannot be read, differs.

    Raises:
        StoreError: the one in force is not there any more.
    """
    if changes or not now.config:
        return False
    try:
        return configured(store, now) != config
    except ConfigError:
        return True


def await_confirmation(store: Store, program: Program, config: str, seconds: float) -> None:
    """Start the clock; whoever calls this sees to it that `settle` is called in time."""
    store.set_pending(Pending(program.id, config, boot_clock() + seconds, this_boot()))


def arm(store: Store, program: Program, config: str, seconds: float, watcher: str) -> None:
    """Start the clock: before the kernel changes, so that no kill can leave the change unwatched.

    `watcher` is the module that calls `watch`, in a process of its own.
    """
    await_confirmation(store, program, config, seconds)
    if child := os.fork():
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    _detach()
    os.execv(sys.executable, [sys.executable, "-m", watcher, str(store.folder), program.id])  # noqa: S606


def _detach() -> None:
    """Let go of the terminal, so that its end does not reach us."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.chdir("/")


def watch(store: Store, program: str) -> bool:
    """Wait for the deadline of this program's confirmation, and undo it then; whether it was undone here."""
    while (pending := store.pending()) and pending.program == program:
        if pending.left <= 0:
            with store.locked(wait=60), Netlink() as netlink:
                return settle(store, netlink)
        time.sleep(min(pending.left, 0.5) + 0.001)
    return False


def settle(store: Store, netlink: Netlink) -> bool:
    """Undo what should have been confirmed by now; the caller holds the lock. Says whether it did."""
    pending = store.pending()
    if pending is None or pending.left > 0:
        return False
    now = present(store, netlink)
    if _awaits(pending, now):
        roll_back(store, netlink, now, "not confirmed in time")
    store.set_pending(None)
    return True


def awaited(store: Store, now: Present) -> Pending | None:
    """The confirmation that what is in force awaits; none if an apply was killed before it came into force."""
    pending = store.pending()
    return pending if pending and _awaits(pending, now) else None


def _awaits(pending: Pending, now: Present) -> bool:
    """Whether it is this apply that is in force; the daemon may have changed weights since."""
    return now.marker is not None and now.config == pending.config


def refuse_if_awaited(store: Store, now: Present) -> None:
    """Raise AwaitedError if the program in force awaits a confirmation."""
    if pending := awaited(store, now):
        left = f"{max(pending.left, 0):.0f} s"
        raise AwaitedError(f"an apply awaits confirmation for {left} more: markway confirm or markway rollback first")


def confirmed(store: Store) -> Pending:
    """Keep what awaits confirmation; the caller holds the lock.

    Raises:
        NothingAwaitedError: nothing does, or its time has passed.
    """
    pending = store.pending()
    if pending is None:
        raise NothingAwaitedError("nothing awaits confirmation")
    if pending.left <= 0:
        raise NothingAwaitedError("too late: the time for confirmation has passed and the change is being undone")
    store.set_pending(None)
    return pending


def configured(store: Store, now: Present) -> Config:
    """The configuration in force; an empty one if none is.

    Raises:
        StoreError: it is not there any more.
        ConfigError: it is none for this version.
    """
    return load(store.config(now.config)).config if now.config else Config()


def roll_back(store: Store, netlink: Netlink, now: Present, why: str) -> Changes:
    """Bring the configuration before the one in force back; the caller holds the lock.

    What checks, load and operators say of the backends stays as it is. Before the first configuration there was none:
    then all services go.

    Raises:
        NothingToUndoError: nothing was ever applied.
        ApplyError: the kernel refused.
    """
    if not now.entries:
        raise NothingToUndoError("nothing was applied yet, so there is nothing to go back to")
    before = now.entries[-1].before
    return put(store, netlink, now, _program(store, now, before), config=before, why=why, patient=True).changes


def _program(store: Store, now: Present, name: str) -> Program:
    """The program of an earlier configuration, under the present circumstances."""
    if not name:
        return empty_program(store.registry())
    loaded = load(store.config(name))
    config = loaded.config
    compiled = compiled_for(store, config, states_for(store, config, now), loaded.sources)
    store.keep_registry(compiled.registry)
    return compiled.program
