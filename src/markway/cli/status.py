"""`markway status`: what is in force, and what it did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from markway.cli.common import Json, count, need_root, told

if TYPE_CHECKING:
    from markway.apply.observe import ServiceSeen
    from markway.apply.store import Pending
    from markway.apply.transaction import Present


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="ASKED and GOT are shares of the service's new connections since its last change; the counts "
        "are since the backend came into force. ACTIVE are those not closed yet. Exit status 1 if the kernel "
        "does not hold what was applied."
    )(status)


def status(as_json: Json = False) -> None:
    """Show the program in force, its services, and each backend's share asked beside share got."""
    from markway.apply.confirm import awaited
    from markway.apply.observe import observe
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present
    from markway.kernel.netlink import Netlink

    need_root("status")
    store = Store(state_folder())
    with told(), Netlink() as netlink:
        now = present(store, netlink)
        services = observe(netlink, now.program, store.baseline()) if now.program else []
        pending = awaited(store, now)
    if as_json:
        print(json.dumps(_record(now, services, pending), indent=2))
    else:
        _show(now, services, pending)
    if now.damage or (now.entries and not now.program):
        raise typer.Exit(1)


def _record(now: Present, services: list[ServiceSeen], pending: Pending | None) -> dict[str, object]:
    from dataclasses import asdict

    applied = now.entries[-1] if now.marker and now.entries else None
    return {
        "program": now.marker,
        "applied": applied and {"at": applied.at, "why": applied.why},
        "damage": now.damage,
        "confirm_within": pending and round(pending.left, 1),
        "services": [asdict(service) for service in services],
    }


def _show(now: Present, services: list[ServiceSeen], pending: Pending | None) -> None:
    from datetime import UTC, datetime

    if now.damage:
        print(f"Damaged: {now.damage}. Mend it with: markway apply")
        return
    if not now.entries:
        print("Nothing in force. Begin with: markway apply FILE")
        return
    applied = now.entries[-1]
    at = datetime.fromtimestamp(applied.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if now.program is None:
        print(f"Nothing in force, since a restart or a flush. Last was {applied.why}, {at}: apply it again")
        return
    print(f"Program {now.program.id[:8]}, {count(len(services), 'service')}, since {at} ({applied.why})")
    if pending:
        print(f"Awaits confirmation for {max(pending.left, 0):.0f} s more: markway confirm, or it is undone")
    for service in services:
        _show_service(service)


def _show_service(service: ServiceSeen) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    refused = f", {service.refused:,} refused" if service.refused else ""
    print(f"\n{service.name}  {' '.join(service.listeners)}  {service.mode} {service.schedule}")
    print(f"  {count(service.offered, 'connection')} offered{refused}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in ("  BACKEND", "MARK", "ADDRESS"):
        table.add_column(name, no_wrap=True)
    for name in ("WEIGHT", "ASKED", "GOT", "CONNECTIONS", "ACTIVE", "PACKETS", "BYTES"):
        table.add_column(name, justify="right", no_wrap=True)
    for b in service.backends:
        table.add_row(
            f"  {b.name}",
            f"{b.mark:#x}",
            Text(", ".join(b.endpoints)),
            str(b.weight),
            f"{b.asked:.1%}",
            "-" if b.got is None else f"{b.got:.1%}",
            f"{b.connections:,}",
            f"{b.active:,}",
            f"{b.packets:,}",
            f"{b.bytes:,}",
        )
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    console.print(table)
