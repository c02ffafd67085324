"""One program after another in the kernel: look, compare, write, verify."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from markway.apply.log import beside, position, program_at
from markway.apply.observe import Baseline, baseline
from markway.apply.plumbing import PlumbingError, look, verified, way_to
from markway.apply.store import LOG
from markway.balance.state import BackendState, all_weights, unproved
from markway.compiler import Compiled, CompileError, compile_config
from markway.config.model import Config
from markway.config.place import problem_at
from markway.config.problems import ConfigError
from markway.kernel import nft, rules, table
from markway.kernel.capabilities.shaping import abilities_for
from markway.kernel.netlink import Message, Netlink, NetlinkError
from markway.kernel.tc import RefusedError, perform, take_back
from markway.marks import Registry
from markway.program.diff import Changes, diff, lines
from markway.program.model import TABLE, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from markway.apply.log import Entry
    from markway.apply.plumbing import Way
    from markway.apply.standing import Standing
    from markway.apply.store import Store
    from markway.balance.state import States
    from markway.config.load import Source
    from markway.program.plumbing import Part
    from markway.program.steps import Command


class ApplyError(RuntimeError):
    """The kernel did not take a program; the one before it is in force."""


@dataclass(frozen=True)
class Present:
    """What is in force in the kernel.

    `program` is None if the kernel holds no program that the log knows, or another one than
    it says; `damage` then says why, unless the kernel holds nothing of ours.
    """

    marker: str | None
    program: Program | None
    damage: str | None
    entries: list[Entry]
    """The log up to the program in force; all of it, if that is unknown."""
    standing: Standing | None = None
    """What stands beside the table, if that is not what the program wants; None if it is."""

    @property
    def faults(self) -> tuple[str, ...]:
        """In words, what in the kernel is not as the program has it."""
        return tuple(fault for fault in (self.damage, self.standing and self.standing.why) if fault)

    @property
    def config(self) -> str:
        """The configuration that was applied last; empty if none was."""
        return self.entries[-1].config if self.entries else ""


class Done(NamedTuple):
    """What a `put` changed, and what is in force since."""

    changes: Changes
    now: Present


def present(store: Store, netlink: Netlink) -> Present:
    """Find out what is in force, and whether someone else changed it.

    Raises:
        StoreError: the state folder is broken.
        NetlinkError: the kernel refused.
    """
    entries = store.entries()
    marker = table.program_id(netlink)
    index = position(entries, marker)
    if marker is None:
        held = table.structure(netlink)
        damage = "the kernel's table does not say which program it holds" if held.chains else None
    elif index is None:
        damage = f"program {marker[:8]} in the kernel is not in the log"
    if index is None:
        last, others = _logged(store, entries, len(entries) - 1)
        standing, _ = look(store, last, others)
        return Present(marker, None, damage, entries, standing)
    program, others = _logged(store, entries, index)
    damage = _damage(store, netlink, program)
    standing, digests = look(store, program, others)
    entries = entries[: index + 1]
    if damage:
        return Present(marker, None, damage, entries, standing)
    _keep_digests(store, digests)
    entries = [replace(entry, changed={}) for entry in entries]  # the program has it
    return Present(marker, program, None, entries, standing if standing.why else None)


def _logged(store: Store, entries: list[Entry], index: int) -> tuple[Program, list[Part]]:
    """A program of the log, and what those around it want beside the table."""
    try:
        return program_at(entries, index), beside(entries, index)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise store.broken(LOG, error) from error


def _keep_digests(store: Store, digests: Mapping[str, str]) -> None:
    """Remember what stands beside the table, if it is not known yet."""
    verified = store.verified()
    if digests and verified["plumbing"] != digests:
        store.set_verified(**{**verified, "plumbing": digests})


def _damage(store: Store, netlink: Netlink, program: Program) -> str | None:
    """What in the kernel's table differs from the program that it claims to hold."""
    verified = store.verified()
    seen = table.generation(netlink)
    known = verified.get("program") == program.id
    if known and verified["generation"] == seen:
        return None
    held = table.structure(netlink)
    if known and verified["digest"] != held.digest:
        return "somebody else has changed the rules of our table"
    if fault := _misfit(held, program):
        return fault
    for name, item in program.sets.items():
        if not (item.dynamic or name == table.MARKER) and not table.elements_match(
            netlink, item, _wanted(program, name)
        ):
            return f"somebody else has changed the elements of {item.noun} {name}"
    store.set_verified(program.id, seen, held.digest, verified.get("plumbing", {}) if known else {})
    return None


def verified_before(store: Store, netlink: Netlink, now: Present) -> bool:
    """Whether nobody has written to nftables since the program in force was last verified."""
    verified = store.verified()
    return verified.get("program") == now.marker and verified["generation"] == table.generation(netlink)


def _misfit(held: table.Structure, program: Program) -> str | None:
    chains = {name: len(c.rules) for f in program.fragments.values() for name, c in f.chains.items()}
    if held.chains != chains:
        odd = sorted(name for name in held.chains | chains if held.chains.get(name) != chains.get(name))
        return f"chain {odd[0]} is not as the program has it"
    if held.sets.keys() != program.sets.keys():
        return f"set {min(held.sets.keys() ^ program.sets.keys())} is not as the program has it"
    return None


def _wanted(program: Program, name: str) -> Mapping[str, str]:
    return {
        key: value for f in program.fragments.values() if name in f.elements for key, value in f.elements[name].items()
    }


def empty_program(registry: Registry) -> Program:
    """The program of an empty file.

    Where there were services, our base chains stay and let everything pass: without a nat chain the kernel forgets
    translations.
    """
    return compile_config(Config(), registry).program


def states_for(store: Store, config: Config, now: Present) -> dict[str, BackendState]:
    """What a configuration has to be compiled with, in the place of the program that is in force now.

    That is what is remembered of its backends. If the daemon runs, backends that are new, or have moved, get no
    connections until it has asked them.
    """
    states = store.states()
    if not store.is_attended():
        return states
    entries = now.program.services if now.program else ()
    held = {f"{entry.name}/{backend.name}": set(backend.endpoints) for entry in entries for backend in entry.backends}
    wanted = {f"{s.name}/{b.name}": {str(end) for end in b.endpoints} for s in config.services for b in s.backends}
    known = {name for name, endpoints in wanted.items() if held.get(name) == endpoints}
    return {**states, **unproved(config, known, states)}


def compiled_for(
    store: Store, config: Config, states: States, sources: Sequence[Source] = (), before: Compiled | None = None
) -> Compiled:
    """A configuration compiled for this machine: its kernel, the numbers given so far, its backends' states.

    Args:
        store: knows the numbers.
        config: what the operator asked for.
        states: of its backends.
        sources: the files that say so, to show there what is wrong.
        before: what was compiled last; what has not changed is not compiled again.

    Raises:
        ConfigError: it asks for what this kernel has not, or for what cannot be had together.
        MarksError: the mask is too small.
        NftMissingError: libnftables is not installed.
    """
    weights, abilities = all_weights(config.services, states), abilities_for(config)
    before = before or Compiled(Config(), Registry(), Program())
    try:
        return compile_config(config, store.registry(), before, weights, abilities, layouts=store.layouts())
    except CompileError as error:
        raise ConfigError([problem_at(sources, error.origin, error.message, error.hint or None)]) from error


def changes_to(now: Present, program: Program) -> Changes:
    """What must change for a program to be in force; all of it where the present one is unknown."""
    return diff(now.program or Program(), program)


def put(
    store: Store,
    netlink: Netlink,
    now: Present,
    program: Program,
    *,
    config: str,
    why: str,
    patient: bool = False,
    written: Callable[[], object] = bool,
) -> Done:
    """Bring a program into force; nothing happens if it is. The caller holds the store's lock.

    Args:
        store: where it is written down.
        netlink: a socket in the namespace.
        now: what is in force.
        program: what is to be.
        config: the configuration that it is of, as the store names it.
        why: for people: who asked.
        patient: whether shapes may wait for devices that are not there.
        written: is called when all is written and before it is read back.

    Raises:
        ApplyError: the kernel refused; what was in force still is.
    """
    changes = changes_to(now, program)
    known = now.program is not None
    if known and not (changes or now.standing) and now.marker == program.id and now.config == config:
        return Done(changes, now)
    old = now.program or program_at(now.entries, len(now.entries) - 1)
    try:
        way = way_to(store, now.standing, changes, patient=patient)
        entries = store.append(now.entries, old, program, config=config, why=why, at=time.time())
        counted = _counted_since(store, netlink, now, changes)
        _bring(store, netlink, now, changes, way, written=written)
    except PlumbingError as error:
        raise ApplyError(_placed(store, config, error)) from error
    if counted != store.baseline():
        store.keep_baseline(counted)
    return Done(changes, Present(program.id, program, None, entries))


def _placed(store: Store, config: str, error: PlumbingError) -> str:
    """What went wrong, with the place in the file that asked for it."""
    said = str(error) if "could not" in str(error) else f"{error}; nothing was changed"
    return str(problem_at(store.config(config), error.origin, said)) if config and error.origin else said


def _bring(
    store: Store, netlink: Netlink, now: Present, changes: Changes, way: Way, *, written: Callable[[], object]
) -> None:
    """Make what is new beside the table, change the table, remove what goes, read all of it back.

    If anything of it fails, all of it is taken back.
    """
    left: list[str] = []
    try:
        with ExitStack() as undo:
            undo.callback(_take_back, perform(way.steps.before), left)
            if changes or now.program is None or now.marker != changes.new.id:
                known = store.verified() if now.program is not None else {}
                undo.callback(_write_back, netlink, now, changes, left)
                _write(netlink, now, changes)
                seen = _read_back(netlink, changes, known)
            else:
                known = seen = store.verified()
            undo.callback(_take_back, perform(way.steps.after), left)
            written()
            plumbing = known.get("plumbing", {}) if known.get("program") == changes.old.id else {}
            plumbing = verified(way, plumbing)
            undo.pop_all()
    except (RefusedError, PlumbingError) as error:
        left += [error.left] if isinstance(error, RefusedError) else []
        rest = "; ".join(filter(None, left))
        raise PlumbingError(f"{error}{rest and f'; and it could not all be undone: {rest}'}", error.origin) from error
    except (nft.NftError, NetlinkError) as error:
        raise ApplyError(f"the kernel refused the program; nothing was changed\n{error}") from error
    store.set_verified(changes.new.id, seen["generation"], seen["digest"], plumbing)


def _take_back(done: list[Command], left: list[str]) -> None:
    left.append(take_back(done))


def _write_back(netlink: Netlink, now: Present, changes: Changes, left: list[str]) -> None:
    """Bring the table back to the old program, if it has the new one."""
    if table.program_id(netlink) != changes.new.id or changes.new.id == now.marker:
        return
    back = diff(changes.new, now.program or program_at(now.entries, len(now.entries) - 1))
    try:
        _write(netlink, Present(changes.new.id, changes.new, None, []), back)
    except (nft.NftError, NetlinkError) as error:
        left.append(str(error))


def _read_back(netlink: Netlink, changes: Changes, known: Mapping[str, Any]) -> dict[str, Any]:
    """Generation and digest of the table as written.

    After a change of nothing but elements, by nobody but us, the structure is what it was: the kernel's count of
    changes says so, and reading every chain is spared.
    """
    program = changes.new
    if table.program_id(netlink) != program.id:
        raise ApplyError("read back after the apply, the kernel differs: it holds another program")
    seen = table.generation(netlink)
    if not changes.structural and known.get("program") == changes.old.id and known["generation"] == seen - 1:
        return {"generation": seen, "digest": known["digest"]}
    held = table.structure(netlink)
    if fault := _misfit(held, program):
        raise ApplyError(f"read back after the apply, the kernel differs: {fault}")
    return {"generation": seen, "digest": held.digest}


def _counted_since(store: Store, netlink: Netlink, now: Present, changes: Changes) -> Baseline:
    """What the services had counted at their last change; nothing where counters start anew."""
    if now.program is None:
        return {}
    fresh = {part.owner for part in changes.parts if part.kind != "changed"}
    before = store.baseline()
    kept = {name: counts for name, counts in before.items() if name not in fresh}
    return kept | baseline(netlink, changes, before)


def _write(netlink: Netlink, now: Present, changes: Changes) -> None:
    """Small changes over netlink, in microseconds; others as one batch of text."""
    if now.program is None:
        _rebuild(netlink, changes)
    elif swift(changes):
        netlink.transaction(list(messages(changes, now.marker)))
    else:
        nft.run("\n".join([*lines(changes), *table.marker_lines(now.marker, changes.new.id)]))
    if beyond := list(rules.target_messages((chain for part in changes.parts for chain in part.chains), table.NAME)):
        netlink.transaction(beyond)  # what text cannot say; until it is there, nobody is asked


def swift(changes: Changes) -> bool:
    """Whether a change can go over netlink: elements, and rules of the kind that changes often."""
    touched = (changes.set(name) for part in changes.parts for name in (*part.add, *part.delete))
    rewritten = (rule for part in changes.parts for chain in part.chains for rule in chain.rules)
    return changes.plain and all(map(table.writable, touched)) and all(map(rules.writable, rewritten))


def messages(changes: Changes, marker: str | None) -> Iterator[Message]:
    """A `swift` change as netlink has it; the marker comes with it."""
    for part in changes.parts:
        for name, items in part.delete.items():
            yield from table.delete_messages(changes.set(name), items)
    for part in changes.parts:
        for name, added in part.add.items():
            yield from table.add_messages(changes.set(name), added)
        for chain in part.chains:
            yield from rules.rewrite_messages(chain, table.NAME)
    yield from table.marker_messages(marker, changes.new.id)


def _rebuild(netlink: Netlink, changes: Changes) -> None:
    """Write a program over a table whose content is unknown, in one batch.

    Sets that packets fill (persistence, limits) are kept if they can be.
    """
    held = table.structure(netlink)
    dynamic = {name for name, item in changes.new.sets.items() if item.dynamic}
    try:
        nft.run(_rebuilt(held, changes, keep=dynamic & held.sets.keys()))
    except nft.NftError:
        if not dynamic & held.sets.keys():
            raise
        nft.run(_rebuilt(held, changes, keep=set()))


def _rebuilt(held: table.Structure, changes: Changes, keep: set[str]) -> str:
    hooked = {name for f in changes.new.fragments.values() for name, chain in f.chains.items() if chain.hook}
    cleared = [
        f"add table {TABLE}",
        *(f"flush chain {TABLE} {name}" for name in held.chains),
        *(f"delete {noun} {TABLE} {name}" for name, noun in held.sets.items() if name not in keep),
        *(f"delete chain {TABLE} {name}" for name in held.chains if name not in hooked),
    ]
    return "\n".join([*cleared, *lines(changes), *table.marker_lines(None, changes.new.id)])
