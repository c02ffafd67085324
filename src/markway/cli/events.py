"""`markway events`: what happened, and what happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import Json, fail, need_root

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOURS = {"up": "green", "down": "red", "error": "red", "warning": "yellow", "mended": "yellow", "evidence": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="The daemon keeps its last 1000 events; those before are in the journal: journalctl -u markway."
    )(events)


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens now.")] = False,
    as_json: Json = False,
) -> None:
    """Show what happened: backends that came and went, loads, drains, configurations, errors."""
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.cli.ask import Daemon, NoDaemonError, RefusedError

    need_root("events")
    daemon = Daemon(Store(state_folder()))
    try:
        if follow:
            _print(daemon.events(), as_json=as_json)
            fail("the daemon has ended")
        _print(daemon.get("events?follow=false"), as_json=as_json)
    except NoDaemonError:
        fail("the daemon does not run, and nobody else remembers: journalctl -u markway")
    except RefusedError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _print(found: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for event in found:
        if as_json:
            print(json.dumps(event, separators=(",", ":")), flush=True)
        elif console.is_terminal:
            console.print(line(event), markup=False, soft_wrap=True)
        else:
            print(line(event), flush=True)


def line(event: dict[str, Any], *, date: bool = True) -> Any:
    """An event as one line: when, what, to whom, why."""
    from datetime import UTC, datetime

    from rich.text import Text

    at = datetime.fromtimestamp(event["at"], UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")
    name = f"{event['service']}/{event['backend']}" if event["backend"] else event["service"]
    text = Text.assemble((at, "dim"), "  ", (f"{event['kind']:<8}", _COLOURS.get(event["kind"], "")))
    text.append(f"  {name}" if name else "", "bold")
    return text.append(f"  {event['text']}")
