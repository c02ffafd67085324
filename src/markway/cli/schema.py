"""`markway schema` and `markway reference`: what a file may say."""

from __future__ import annotations

import json

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(schema)
    app.command()(reference)


def schema() -> None:
    """Print the JSON Schema of the configuration, with which editors complete and check it."""
    from markway.config.reference import json_schema

    print(json.dumps(json_schema(), indent=2))


def reference() -> None:
    """Print the reference of the configuration, as Markdown."""
    from markway.config.reference import reference_markdown

    print(reference_markdown(), end="")
