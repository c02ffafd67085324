"""The command line: nouns read, verbs write."""

from __future__ import annotations

import gc

import typer

from markway import __version__

app = typer.Typer(
    name="markway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turns this machine into a traffic director, from one file.",
    epilog="Exit status: 0 done; 1 refused or failed, with the reason on standard error; 2 wrong usage "
    "(plan --exit-code: changes to make).",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"markway {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Turn this machine into a traffic director, from one file."""


def main() -> None:
    """Run the command line."""
    gc.disable()  # a command is short, and ten thousand services are a million objects to walk
    from markway.cli import (
        apply,
        bans,
        blocklist,
        check,
        doctor,
        drain,
        events,
        guard,
        lab,
        plan,
        run,
        schema,
        status,
        top,
    )

    for module in (check, plan, apply, run, status, top, events, drain, bans, doctor, schema):
        module.register(app)
    app.add_typer(blocklist.app, name="blocklist")
    app.add_typer(guard.app, name="guard")
    app.add_typer(lab.app, name="lab")
    app()
