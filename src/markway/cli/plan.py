"""`markway plan`: what an apply would change, in the kernel's own language."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from markway.cli.common import DEFAULT_PATH, File, Json, load, need_root, told
from markway.program.words import count, held

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from markway.api.plans import Todo
    from markway.apply.transaction import Present
    from markway.program.diff import Change, Changes
    from markway.program.model import Fragment
    from markway.program.steps import Steps

_WIDE = 8
"""Elements of one set that are shown before the rest is counted."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="With --exit-code: 0 there is nothing to change, 2 there is, 1 an error. "
        "Lines are nft(8) syntax, or begin with tc, ip or sysctl; marks are shown beside the names they stand for."
    )(plan)


def plan(
    file: File = DEFAULT_PATH,
    full: Annotated[bool, typer.Option("--full", help="Show every element, class and command, however many.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Say by the exit status if there are changes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what apply would change, why, and whom it touches. Changes nothing."""
    from markway.api.plans import planned, todo
    from markway.apply.confirm import otherwise
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import changes_to, compiled_for, present, states_for
    from markway.kernel.conntrack import connections_by_mark
    from markway.kernel.netlink import Netlink

    loaded = load(file, as_json=as_json)
    need_root("plan")
    store = Store(state_folder())
    with told(as_json=as_json), Netlink() as netlink:
        now = present(store, netlink)
        compiled = compiled_for(store, loaded.config, states_for(store, loaded.config, now), loaded.sources)
        changes = changes_to(now, compiled.program)
        beside = todo(store, now, changes)
        differs = otherwise(store, now, changes, loaded.config)
        flows = connections_by_mark(netlink, compiled.registry.backend_field(loaded.config.mask).mask)
    if as_json:
        print(json.dumps(planned(now, changes, beside, flows, otherwise=differs), indent=2))
    else:
        for line in _text(now, changes, beside, flows, full=full):
            print(line)
        if differs:
            print("What the file says besides is taken over by apply: checks, loads, windows or lists differ.")
    if exit_code and (changes or beside.steps or differs):
        raise typer.Exit(2)


def _text(now: Present, changes: Changes, beside: Todo, flows: Counter[int], *, full: bool) -> Iterator[str]:
    from markway.api.plans import by_owner
    from markway.cli.plan_shapes import mended
    from markway.compiler.held import held_by
    from markway.program.steps import Steps

    if now.damage:
        yield f"# {now.damage}: the table is written anew"
    if now.standing and now.standing.why:
        yield f"# {now.standing.why}: it is put right"
    if beside.refused:
        yield f"# apply would refuse this: {beside.refused}"
    if not changes and not beside.steps:
        yield f"Nothing to change: the kernel holds this program, {held(held_by(changes.new))}."
        return
    nothing, owned = Steps(), by_owner(beside.steps)
    for part in changes.parts:
        yield from _part(changes, part, owned.pop(part.owner, nothing), full=full)
    yield from mended(owned, full=full)
    yield from summary(changes, beside, flows)


def _part(changes: Changes, part: Change, steps: Steps, *, full: bool) -> Iterator[str]:
    from markway.cli.plan_shapes import folded
    from markway.program.diff import Changes as Part
    from markway.program.diff import lines

    old, new = (program.fragments.get(part.owner) for program in (changes.old, changes.new))
    yield from _described(part, old, new, full=full)
    yield from folded(steps.before, full=full)
    for line in lines(Part(changes.old, changes.new, (part,))):
        if not line.startswith("add table"):
            yield line if full else _folded(line)
    yield from folded(steps.after, full=full)
    yield ""


def _described(part: Change, old: Fragment | None, new: Fragment | None, *, full: bool) -> Iterator[str]:
    """Whom a part is of, why it changes, and what it becomes, as comments."""
    from markway.cli.plan_shapes import described, head
    from markway.program.impact import entry_of, reasons

    if "/" in part.owner:
        yield f"# {head(part, old, new)}"
        yield from (f"#   {line}" for line in (described(new, full=full) if new else ()))
        return
    before, after = entry_of(old), entry_of(new)
    why = ", ".join(reasons(before, after))
    whom = f"service {part.owner}" if part.owner else "what all services share"
    yield f"# {whom}: {part.kind}{': ' + why if why else ''}"
    entry = after or before
    for backend in entry.backends if entry else ():
        share = " and ".join(f"{share:.1%} of new connections" for share in sorted({*backend.shares.values()}))
        where = ", ".join(backend.endpoints)
        yield f"#   {backend.name}: mark 0x{backend.mark:08x}, {where}, {share or 'no new connection'}"


def _folded(line: str) -> str:
    """A line of many elements, shortened."""
    head, brace, rest = line.partition("{ ")
    elements = rest.removesuffix(" }").split(", ")
    if " element " not in head or not brace or len(elements) <= _WIDE:
        return line
    return f"{head}{{ {', '.join(elements[:4])}, … {len(elements) - 5} more …, {elements[-1]} }}"


def summary(changes: Changes, beside: Todo, flows: Counter[int]) -> Iterator[str]:
    """The blast radius in words."""
    from markway.api.plans import touched
    from markway.cli.plan_shapes import summary as of_shapes
    from markway.compiler.held import held_by
    from markway.program.impact import impacts

    listed = impacts(changes)
    for impact in listed:
        if impact.moved is not None:
            yield f"{impact.service}: {impact.moved:.1%} of new connections move to another backend"
    old, new = held_by(changes.old), held_by(changes.new)
    for noun in ("service", "policy", "guard", "blocklist"):
        for words, there, before in (("new", new[noun], old[noun]), ("gone", old[noun], new[noun])):
            names = [name for name in there if "/" not in name and name not in {*before}]
            if names:
                shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")  # noqa: PLR2004
                yield f"{count(len(names), noun)} {words}: {shown}"
    yield from of_shapes(changes, beside.absent)
    yield f"{touched(changes, flows)} of {count(flows.total(), 'established connection')} touched"
