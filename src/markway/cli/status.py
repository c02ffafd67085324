"""`markway status`: what is in force, how it fares, and what it did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import Json, count, held, need_root, told

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from markway.cli.columns import Columns, Row

Record = dict[str, Any]

_WHOLE = 0.995
"""The factor of a load from which on it is shown as none."""

_ANSWER = 5.0
"""Seconds in which the daemon must answer before the kernel is asked instead."""


_ASKING = {"not at all": "This kernel cannot ask the queue worker: the slot tables decide for every service."}


_INDENT = "  "


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="WEIGHT is what new connections are shared by now, of what the file or an operator says; LOAD what "
        "its load leaves of it; CHECK the last answer. ASKED and GOT are shares of the service's new connections "
        "since its last change; the counts are since the backend came into force. ACTIVE are those not closed yet. "
        "Of a class, RATE and CEIL are asked, in bits a second, and NOW is got; BORROWED are packets that left on the "
        "rate of a class above it, BACKLOG waits. "
        "Of a policy, PACKETS are those that began what it decides, OVER those of sources that had too much. "
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
    services, shapes = record["services"], record["shapes"]
    policies = record.get("policies", [])
    own = sum("/" not in one["name"] for one in policies)
    print(f"Program {record['program'][:8]}, {held(len(services), len(shapes), own)}, since {at} ({why})")
    if record["beside"]:
        print(f"Beside the table: {record['beside']}. Mend it with: markway apply")
    if record["confirm_within"] is not None:
        print(
            f"Awaits confirmation for {max(record['confirm_within'], 0):.0f} s more: markway confirm, or it is undone"
        )
    if not record["daemon"] and any(service["check"] or service["load"] for service in services):
        print("The daemon does not run: health and load are as they were last. Begin with: markway run")
    if record["asking"]:
        print(_ASKING.get(record["asking"], f"The queue worker is asked by {record['asking']}."))
    for service in services:
        _show_service(service)
    for shape in shapes:
        _show_shape(shape, full=full)
    _show_marks(record["marks"])
    _show_policies(policies)


def _at(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_service(service: Record) -> None:
    refused = f", {service['refused']:,} refused" if service["refused"] else ""
    print(f"\n{service['name']}  {' '.join(service['listeners'])}  {service['mode']} {service['schedule']}")
    print(f"  {count(service['offered'], 'connection')} offered{refused}")
    _console().print(_table(service))


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


def _print_rows(columns: Columns, rows: list[Row]) -> None:
    from rich.text import Text

    console = _console()
    fitted = columns.fit(rows, console.width - len(_INDENT))
    for line in (fitted.header(), *map(fitted.line, rows)):
        console.print(Text(_INDENT).append(line), no_wrap=True, soft_wrap=True)


def _table(service: Record) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in ("  BACKEND", "STATE", "MARK", "ADDRESS"):
        table.add_column(name, no_wrap=True)
    for name in ("WEIGHT", *(["LOAD"] if service["load"] else [])):
        table.add_column(name, justify="right", no_wrap=True)
    if service["check"]:
        table.add_column("CHECK", no_wrap=True, max_width=40)
    for name in ("ASKED", "GOT", "CONNECTIONS", "ACTIVE", "PACKETS", "BYTES"):
        table.add_column(name, justify="right", no_wrap=True)
    for b in service["backends"]:
        table.add_row(
            Text(f"  {b['name']}"),
            state(b),
            f"{b['mark']:#x}",
            Text(", ".join(b["endpoints"])),
            weight(b),
            *([load(b)] if service["load"] else []),
            *([Text(checked(b))] if service["check"] else []),
            f"{b['asked']:.1%}",
            "-" if b["got"] is None else f"{b['got']:.1%}",
            *(f"{b[name]:,}" for name in ("connections", "active", "packets", "bytes")),
        )
    return table


def state(backend: Record) -> str:
    """A backend's state, with what is left where it is emptied."""
    word = str(backend["state"])
    return f"{word} ({backend['active']:,} left)" if word == "drain" else word


def weight(backend: Record) -> str:
    """What new connections are shared by, of what it is worth: `3`, or `1.5/3`."""
    now, whole = f"{backend['effective']:.4g}", f"{backend['weight']:.5g}"
    return now if now == whole else f"{now}/{whole}"


def load(backend: Record) -> str:
    """The load as it was read, and what it leaves of the weight: `12.5`, or `87 → 60%`."""
    reading = "?" if backend["reading"] is None else f"{backend['reading']:.3g}"
    return reading if backend["factor"] >= _WHOLE else f"{reading} → {backend['factor']:.0%}"


def checked(backend: Record) -> str:
    """The last answer to a check: how long it took, or what was wrong."""
    found = backend["checked"]
    if found is None:
        return "-"
    took = f"{found['took'] * 1000:.1f} ms"
    return (found["warning"] or took) if found["well"] else str(found["reason"])
