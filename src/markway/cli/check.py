"""`markway check`: is the file right?"""

from __future__ import annotations

import json

import typer

from markway.cli.common import DEFAULT_PATH, File, Json, load
from markway.program.words import count


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Reads only the file: needs no root, asks no kernel.")(check)


def check(file: File = DEFAULT_PATH, as_json: Json = False) -> None:
    """Report every problem of a configuration, each with its place and what to do."""
    loaded = load(file, as_json=as_json)
    services, shapes = loaded.config.services, loaded.config.shaping.shapes
    if as_json:
        print(json.dumps({"problems": [], "warnings": [warning.as_dict() for warning in loaded.warnings]}, indent=2))
        return
    for warning in loaded.warnings:
        print(f"{warning} (a warning)")
    backends = sum(len(service.backends) for service in services)
    found = [count(len(services), "service"), count(backends, "backend")] if services else []
    if shapes:
        classes = sum(len(shape.classes) for shape in shapes)
        found += [count(len(shapes), "shape"), count(classes, "class")]
    if (closing := loaded.config.firewalling).zones or closing.closed:
        zones, policies = closing.zones, closing.policies
        found += [count(len(zones), "zone"), count(len(policies), "policy")]
    found += [count(len(guards), "guard")] if (guards := loaded.config.guards) else []
    found += [count(len(lists), "blocklist")] if (lists := loaded.config.blocklisting.lists) else []
    print(f"{file}: {', '.join(found) or 'nothing to bring into force'}: right")
