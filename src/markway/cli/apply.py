"""`markway apply`, `confirm` and `rollback`: the verbs that change the kernel."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from markway.cli.common import DEFAULT_PATH, File, Json, Wait, load, need_root, refuse, say, seconds, told

if TYPE_CHECKING:
    from markway.apply.store import Store
    from markway.apply.transaction import Present
    from markway.config.load import Loaded
    from markway.config.model import Config
    from markway.director.alone import Alone
    from markway.program.diff import Changes
    from markway.program.model import Program

_WAIT = "30s"

_ADOPTED = 2.0
"""Seconds in which the daemon should have taken a change over."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="The kernel takes the change whole or not at all. Established connections keep their backend, "
        "persistence and counters stay, and no table, rule or mark bit of others is touched. "
        "With --confirm 60s the change is undone after that time unless `markway confirm` is run, "
        "also if this terminal dies. "
        "Over ssh, a change after which the same ssh could not connect again is refused without it."
    )(apply)
    app.command()(confirm)
    app.command(
        epilog="Twice in a row returns to where you were. Before the first apply there was nothing: "
        "then all services go."
    )(rollback)


def apply(
    file: File = DEFAULT_PATH,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="TIME", help="Undo the change after this time unless confirmed."),
    ] = None,
    wait: Wait = _WAIT,
    as_json: Json = False,
) -> None:
    """Bring a configuration into force."""
    from markway.apply.confirm import arm, configured, otherwise, outside, refuse_if_awaited, settle, undoable
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import compiled_for, present, put, states_for
    from markway.cli import listing
    from markway.kernel.netlink import Netlink

    begun = time.monotonic()
    deadline = None if confirm is None else seconds(confirm)
    patience = seconds(wait)
    loaded = load(file, as_json=as_json)
    for warning in loaded.warnings:
        say(f"{warning} (a warning)")
    need_root("apply")
    _refuse_lockout(loaded, risked=confirm is not None, as_json=as_json)
    store = Store(state_folder())
    with told(as_json=as_json):
        lists = listing.read(store, loaded.config)
    with told(as_json=as_json), store.locked(patience, say), Netlink() as netlink:
        settle(store, netlink)
        now = present(store, netlink)
        refuse_if_awaited(store, now)
        compiled = compiled_for(store, loaded.config, states_for(store, loaded.config, now), loaded.sources)
        digest = store.keep_config(loaded.sources)
        beside = deadline is not None and bool(lists or loaded.config.guards)
        kept_out = beside and outside(configured(store, now)) != outside(loaded.config)
        waits = deadline is not None and undoable(now, compiled.program, digest, otherwise=kept_out)
        _refuse_listed(loaded, lists, risked=waits)
        _say_mended(now)
        store.keep_registry(compiled.registry)
        if waits and deadline is not None:
            arm(store, compiled.program, digest, deadline, "markway.director.undo")
        try:
            changes = put(store, netlink, now, compiled.program, config=digest, why=f"apply {file}").changes
        except Exception:
            store.set_pending(None)
            raise
        differs = digest != now.config and otherwise(store, now, changes, loaded.config)
    _warn(store, loaded.config, compiled.program)
    _adopt(store)
    with told(as_json=as_json):
        _restore_bans(store, loaded.config, changes)
        whole = listing.load(store, lists)
    took = time.monotonic() - begun
    mended = not changes and bool(now.faults)
    _report(changes, took, confirm if waits else None, mended=mended, differs=differs, as_json=as_json)
    if not whole:
        raise typer.Exit(1)


def _say_mended(now: Present) -> None:
    """Say what somebody else has done to what was in force."""
    if now.damage:
        say(f"{now.damage}: writing the table anew")
    if now.standing and now.standing.why:
        say(f"{now.standing.why}: putting it right")


def _refuse_lockout(loaded: Loaded, *, risked: bool, as_json: bool) -> None:
    """End the command if who runs it over ssh could not come back; only say so if he takes that risk."""
    from markway.cli.lockout import lockout
    from markway.config.problems import ConfigError

    problem = lockout(loaded)
    if problem and not (risked or not loaded.config.firewalling.refuse_lockout):
        refuse(ConfigError([problem]), as_json=as_json)
    if problem:
        say(f"{problem} (a warning)")


def _refuse_listed(loaded: Loaded, lists: Alone | None, *, risked: bool) -> None:
    """The same of who is on a list, whose packets are refused also in the connection that there is."""
    from markway.cli.lockout import listed
    from markway.config.problems import ConfigError

    problem = lists and listed(loaded, lists)
    if problem and not (risked or not loaded.config.firewalling.refuse_lockout):
        raise ConfigError([problem])
    if problem:
        say(f"{problem} (a warning)")


def _adopt(store: Store) -> None:
    """Tell the daemon, if it runs, that another program is in force; it would find that out within a second."""
    from markway.cli.ask import Daemon, NoDaemonError, RefusedError

    try:
        Daemon(store).send("POST", "adopt", timeout=_ADOPTED)
    except NoDaemonError:
        return
    except RefusedError as error:
        say(f"the daemon has not taken it over yet: {error}")


def _restore_bans(store: Store, config: Config, changes: Changes) -> None:
    """Have the bans that are written down in force again, as after a reboot; a daemon does it itself."""
    if not config.guards or store.is_attended():
        return
    from markway.apply.banning import Desk
    from markway.kernel.netlink import Netlink

    with Netlink() as netlink:
        Desk.of(store, netlink, config.guards).restore(changes.old.sets)


def _warn(store: Store, config: Config, program: Program) -> None:
    """Say what is in force and yet does nothing."""
    _warn_unforwarded(program)
    if not store.is_attended():
        _warn_unwatched(config)


def _warn_unwatched(config: Config) -> None:
    """Say so if services want to be watched and nobody does it."""
    watched = [service for service in config.services if service.watched or service.schedule.queued]
    if watched:
        first = watched[0]
        what = "check" if first.check else "load to be read" if first.load else "schedule that asks the daemon"
        others = f" (and {len(watched) - 1} more)" if len(watched) > 1 else ""
        say(f"service {first.name}{others} has a {what}, and the daemon does not run: markway run")
    if config.guards:
        first_guard, others = config.guards[0], f" (and {len(config.guards) - 1} more)" if config.guards[1:] else ""
        say(f"guard {first_guard.name}{others} counts nothing while the daemon does not run: markway run")


def _warn_unforwarded(program: Program) -> None:
    """Say so if the kernel forwards nothing: a service would be silent, and its file not at fault."""
    from markway.kernel.sysctl import forwarding, forwarding_name

    for version in (4, 6):
        if f"listeners{version}" in program.sets and not forwarding(version):
            name = forwarding_name(version)
            say(f"this machine does not forward IPv{version}, so no backend can be reached: sysctl -w {name}=1")


def _report(changes: Changes, took: float, confirm: str | None, *, mended: bool, differs: bool, as_json: bool) -> None:
    from markway.api.plans import applied
    from markway.compiler.held import held_by
    from markway.program.impact import impacts
    from markway.program.shape_impact import shape_impacts
    from markway.program.words import held

    if as_json:
        print(json.dumps(applied(changes, took, confirm), indent=2))
        return
    has = held(held_by(changes.new))
    kinds = [impact.kind for impact in impacts(changes)] + [impact.kind for impact in shape_impacts(changes)]
    told_kinds = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("added", "changed", "removed") if kind in kinds)
    if not changes:
        rest = " What the file says besides is taken over." if differs else ""
        print(f"{'Put right' if mended else 'Nothing to change'}: {has} in force, program {changes.new.id[:8]}.{rest}")
    else:
        more = f" ({told_kinds})" if told_kinds else ""
        print(f"In force: {has}{more}, program {changes.new.id[:8]}, {took:.2f} s.")
    if confirm:
        print(f"It is undone in {confirm} unless you run: markway confirm")


def confirm(wait: Wait = _WAIT, as_json: Json = False) -> None:
    """Keep what `apply --confirm` has applied."""
    from markway.apply.confirm import confirmed
    from markway.apply.place import state_folder
    from markway.apply.store import Store

    need_root("confirm")
    store = Store(state_folder())
    with told(), store.locked(seconds(wait), say):
        pending = confirmed(store)
    print(json.dumps({"confirmed": pending.program}) if as_json else f"Confirmed: program {pending.program[:8]} stays.")


def rollback(wait: Wait = _WAIT, as_json: Json = False) -> None:
    """Go back to the program that was in force before the present one."""
    from markway.apply.confirm import configured, roll_back
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present
    from markway.cli import listing
    from markway.compiler.held import held_by
    from markway.kernel.netlink import Netlink
    from markway.program.words import held

    need_root("rollback")
    store = Store(state_folder())
    with told(), store.locked(seconds(wait), say), Netlink() as netlink:
        now = present(store, netlink)
        changes = roll_back(store, netlink, now, "rollback")
        store.set_pending(None)
    _adopt(store)
    with told(as_json=as_json), Netlink() as netlink:
        config = configured(store, present(store, netlink))
        _restore_bans(store, config, changes)
        whole = listing.load(store, listing.read(store, config))
    if as_json:
        print(json.dumps({"from": now.marker, "program": changes.new.id}))
    else:
        has = held(held_by(changes.new))
        print(f"Back to program {changes.new.id[:8]}: {has} in force.")
    if not whole:
        raise typer.Exit(1)
