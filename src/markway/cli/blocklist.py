"""`markway blocklist status`: what the lists say, and what of it is in force."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from markway.cli.common import Json, need_root, told
from markway.program.words import count

if TYPE_CHECKING:
    from markway.kernel.netlink import Netlink

app = typer.Typer(no_args_is_help=True, help="Look at the lists of who is kept out.")


@app.callback()
def _root() -> None:
    """Look at the lists of who is kept out."""


@app.command(
    epilog="Entries are those of the list as it was read last, elements what the kernel holds of them, by "
    "prefix length: merged, and without who is allowed. Exit status 1 if one of the lists is not in force."
)
def status(as_json: Json = False) -> None:
    """Show each list: where it comes from, what it said, whether it is in force, and what it has refused."""
    from markway.kernel.netlink import Netlink

    need_root("blocklist status")
    with told(), Netlink() as netlink:
        found = _taken(netlink)
    if as_json:
        print(json.dumps({"blocklists": found}, indent=2))
    else:
        _show(found)
    if not all(one["in_force"] for one in found):
        raise typer.Exit(1)


def _taken(netlink: Netlink) -> list[dict[str, Any]]:
    from markway.api.lists import blocklists
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present
    from markway.config.load import load

    store = Store(state_folder())
    now = present(store, netlink)
    lists = load(store.config(now.config)).config.blocklisting.lists if now.config else ()
    return blocklists(store, netlink, lists)


def _show(found: list[dict[str, Any]]) -> None:
    from datetime import UTC, datetime

    for one in found:
        state = "in force" if one["in_force"] else "NOT IN FORCE"
        print(f"{one['name']}: {state}, {count(one['entries'], 'entry')}, {count(one['packets'], 'packet')} refused")
        print(f"  from {one['source']}, {one['direction']}")
        if one["changed"]:
            print(f"  read {datetime.fromtimestamp(one['changed'], UTC):%Y-%m-%d %H:%M:%S} UTC")
        held = ", ".join(f"/{place.partition('/')[2]}: {number}" for place, number in one["elements"].items())
        if held:
            print(f"  elements {held}")
        if one["faulty"]:
            print(f"  {count(one['faulty'], 'line')} left out, as {one['fault']}")
        if one["hosts"]:
            print(f"  {count(one['hosts'], 'prefix')} with bits of a host, which were ignored")
        if one["failure"]:
            print(f"  {one['failure']}")
    if not found:
        print("no lists")
