"""`markway status`: what is in force, how it fares, and what it did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import Json, need_root, told
from markway.program.words import count, held

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from markway.cli.columns import Columns, Row

Record = dict[str, Any]

_ANSWER = 5.0
"""Seconds in which the daemon must answer before the kernel is asked instead."""


_ASKING = {"not at all": "This kernel cannot ask the queue worker: the slot tables decide for every service."}


_INDENT = "  "
_NOUNS = {
    "service": "services", "shape": "shapes", "mark": "marks", "policy": "policies", "guard": "guards",
    "blocklist": "blocklists",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="WEIGHT is what new connections are shared by now, of what the file or an operator says; LOAD what "
        "its load leaves of it; CHECK the last answer. ASKED and GOT are shares of the service's new connections "
        "since its last change; the counts are since the backend came into force. ACTIVE are those not closed yet. "
        "Of a class, RATE and CEIL are asked, in bits a second, and NOW is got; BORROWED are packets that left on the "
        "rate of a class above it, BACKLOG waits. "
        "Of a policy, PACKETS are those that began what it decides, OVER those of sources that had too much. "
        "Of a guard, BANNED are sources that are kept out now, of IPv4 + of IPv6, REFUSED their packets, ATTEMPTS are "
        "since the daemon began. "
        "Exit status 1 if the kernel does not hold what was applied."
    )(status)


def status(
    full: Annotated[bool, typer.Option("--full", help="Show every class of a shape, however many.")] = False,
    as_json: Json = False,
) -> None:
    """Show the program in force, and of services, backends, shapes and classes what was asked beside what they got."""
    need_root("status")
    with told():
        record = taken()
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        _show(record, full=full)
    if record["damage"] or record["beside"] or (record["last"] and not record["in_force"]):
        raise typer.Exit(1)


def taken() -> Record:
    """The status: the daemon's if it answers, else what the kernel and the state folder tell."""
    from markway.api.look import look
    from markway.api.view import status as viewed
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.cli.ask import Daemon, NoDaemonError, RefusedError
    from markway.kernel.netlink import Netlink

    store = Store(state_folder())
    try:
        found: Record = Daemon(store).get("status", timeout=_ANSWER)
    except (NoDaemonError, RefusedError):
        with Netlink() as netlink:
            return viewed(look(store, netlink))
    return found


def _show(record: Record, *, full: bool) -> None:
    if record["damage"]:
        print(f"Damaged: {record['damage']}. Mend it with: markway apply")
        return
    if not record["last"]:
        print("Nothing in force. Begin with: markway apply FILE")
        return
    at, why = _at(record["last"]["at"]), record["last"]["why"]
    if not record["in_force"]:
        print(f"Nothing in force, since a restart or a flush. Last was {why}, {at}: apply it again")
        return
    services = record["services"]
    has = held({noun: [one["name"] for one in record.get(key, [])] for noun, key in _NOUNS.items()})
    print(f"Program {record['program'][:8]}, {has}, since {at} ({why})")
    if record["beside"]:
        print(f"Beside the table: {record['beside']}. Mend it with: markway apply")
    if record["confirm_within"] is not None:
        print(
            f"Awaits confirmation for {max(record['confirm_within'], 0):.0f} s more: markway confirm, or it is undone"
        )
    if not record["daemon"] and any(service["check"] or service["load"] for service in services):
        print("No daemon: health and load are as they were last. Begin with: markway run")
    if record["asking"]:
        print(_ASKING.get(record["asking"], f"The queue worker is asked by {record['asking']}."))
    for service in services:
        _show_service(service)
    for shape in record["shapes"]:
        _show_shape(shape, full=full)
    _show_marks(record["marks"])
    _show_policies(record.get("policies", []))
    _show_guards(record.get("guards", []), daemon=record["daemon"])
    _show_blocklists(record.get("blocklists", []))


def _at(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_service(service: Record) -> None:
    from markway.cli.backends import BACKENDS, backend_rows

    refused = f", {service['refused']:,} refused" if service["refused"] else ""
    print(f"\n{service['name']}  {' '.join(service['listeners'])}  {service['mode']} {service['schedule']}")
    print(f"  {count(service['offered'], 'connection')} offered{refused}")
    _print_rows(BACKENDS, backend_rows(service))


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=250)


def _show_shape(shape: Record, *, full: bool) -> None:
    from markway.cli.shapes import COLUMNS, about, table, trouble, whole

    print(f"\n{shape['name']}  {about(shape)}")
    print(f"  {trouble(shape) or whole(shape)}")
    for notice in shape["notices"]:
        print(f"  {notice}")
    rows, left_out = table(shape) if not full else table(shape, None)
    if trouble(shape) or not rows:
        return
    _print_rows(COLUMNS, rows)
    if left_out:
        print(f"  and {left_out:,} quieter ones: markway status --full")


def _show_marks(marks: list[Record]) -> None:
    if marks:
        from markway.cli.shapes import MARKS, mark_rows

        print("\nmarks")
        _print_rows(MARKS, mark_rows(marks))


def _show_policies(policies: list[Record]) -> None:
    if policies:
        from markway.cli.policies import POLICIES, policy_rows

        print("\npolicies")
        _print_rows(POLICIES, policy_rows(policies))


def _show_guards(guards: list[Record], *, daemon: bool) -> None:
    if guards:
        from markway.cli.guards import GUARDS, guard_notes, guard_rows

        print("\nguards")
        _print_rows(GUARDS, guard_rows(guards))
        _print_notes(guard_notes(guards, daemon=daemon))


def _show_blocklists(blocklists: list[Record]) -> None:
    if blocklists:
        from markway.cli.guards import BLOCKLISTS, blocklist_rows

        print("\nblocklists")
        _print_rows(BLOCKLISTS, blocklist_rows(blocklists, _at))
        _print_notes(f"{one['name']}: {one['failure']}" for one in blocklists if one["failure"])


def _print_notes(notes: Iterable[str]) -> None:
    from rich.text import Text

    from markway.cli.columns import cut

    console = _console()
    for note in notes:
        console.print(cut(Text(f"{_INDENT}{note}"), console.width), no_wrap=True, soft_wrap=True)


def _print_rows(columns: Columns, rows: list[Row]) -> None:
    from rich.text import Text

    console = _console()
    fitted = columns.fit(rows, console.width - len(_INDENT))
    for line in (fitted.header(), *map(fitted.line, rows)):
        line.rstrip()
        console.print(Text(_INDENT).append(line), no_wrap=True, soft_wrap=True)
