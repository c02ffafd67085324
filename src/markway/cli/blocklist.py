"""`markway blocklist`: what the lists say, what of it is in force, and changes by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import Json, fail, need_root, told
from markway.program.words import count

if TYPE_CHECKING:
    from markway.apply.store import Store
    from markway.config.model import Address
    from markway.guard.prefixes import AddressSet
    from markway.kernel.netlink import Netlink

app = typer.Typer(no_args_is_help=True, help="Look at the lists of who is kept out, and change them by hand.")

_SHOWN = 5
"""Changes by hand, before the rest is counted."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The list, as the file calls it.")]
Entries = Annotated[list[str], typer.Argument(metavar="ENTRY", help="Addresses, prefixes and ranges.")]


@app.callback()
def _root() -> None:
    """Look at the lists of who is kept out, and change them by hand."""


@app.command(
    epilog="At once, and until you remove it: also over restarts, a reboot, and whatever the list's source says. "
    "Who is allowed, by [allowlist] or by the list, passes all the same."
)
def add(name: Name, entries: Entries, as_json: Json = False) -> None:
    """Keep somebody out by a list, by hand."""
    _edit("add", name, entries, as_json=as_json)


@app.command(epilog="At once; what the list's source names is left out from then on too, until you add it.")
def remove(name: Name, entries: Entries, as_json: Json = False) -> None:
    """Take somebody out of a list, by hand."""
    _edit("remove", name, entries, as_json=as_json)


def _edit(verb: str, name: str, entries: list[str], *, as_json: bool) -> None:
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.config.problems import WrongValue
    from markway.director.blocklists import NoSuchListError, NotNowError
    from markway.guard.overlays import entries_of

    need_root(f"blocklist {verb}")
    store = Store(state_folder())
    try:
        wanted = entries_of(entries)
        with told(as_json=as_json):
            if verb == "add":
                _refuse_lockout(store, name, wanted)
            done = _edited(store, verb, name, wanted)
    except WrongValue as wrong:
        fail(wrong.text)
    except (NoSuchListError, NotNowError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"it cannot be written down: {error.strerror or error}")
    if as_json:
        print(json.dumps(done, indent=2))
        return
    what = f"{count(len(entries), 'entry')} {'added' if verb == 'add' else 'removed'}"
    print(f"{name}: {what}{'' if done['changed'] else ', which changes nothing in the kernel'}.")
    if done["allowed"]:
        print(f"Allowed all the same: {_some(done['allowed'])}")


def _edited(store: Store, verb: str, name: str, wanted: AddressSet) -> dict[str, Any]:
    """What came of it, by the daemon if it runs."""
    from urllib.parse import quote

    from markway.apply.confirm import configured
    from markway.apply.transaction import present
    from markway.cli.ask import NoDaemonError
    from markway.cli.operator import Operator
    from markway.director.alone import Alone
    from markway.guard.overlays import Overlay, overlay_record
    from markway.guard.prefixes import AddressSet
    from markway.kernel.netlink import Netlink

    body = {verb: overlay_record(Overlay(wanted))["added"]}
    try:
        with Operator(store) as operator:
            done: dict[str, Any] = operator.tell("POST", f"blocklists/{quote(name)}/entries", body)
            return done
    except NoDaemonError:
        with Netlink() as netlink:
            lists = Alone(store, configured(store, present(store, netlink)).blocklisting)
        added, removed = (wanted, AddressSet()) if verb == "add" else (AddressSet(), wanted)
        return lists.edit(name, added, removed, lambda _: None).record


def _refuse_lockout(store: Store, name: str, added: AddressSet) -> None:
    """End the command if it would cut the ssh connection that it is run from."""
    from markway.apply.confirm import configured
    from markway.apply.transaction import present
    from markway.cli.lockout import reaches
    from markway.guard.prefixes import AddressSet
    from markway.kernel.netlink import Netlink
    from markway.kernel.ssh import session

    found = session()
    if found is None or found.client not in added:
        return
    with Netlink() as netlink:
        config = configured(store, present(store, netlink))
    item = next((one for one in config.blocklisting.lists if one.name == name), None)
    if item is None or not reaches(item, found):
        return
    allowed = AddressSet.of((*config.blocklisting.allow, *item.allow))
    if config.firewalling.refuse_lockout and found.client not in allowed:
        fail(f"it would lock you out: your ssh connection is from {found.client}; allow that first, in [allowlist]")


@app.command("test", epilog="Exit status 1 if no list refuses it.")
def look_up(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whom to look for.")], as_json: Json = False
) -> None:
    """Show which lists have an address, by which entry, and whether the kernel refuses it."""
    from ipaddress import ip_address

    from markway.kernel.netlink import Netlink

    need_root("blocklist test")
    try:
        wanted = ip_address(address)
    except ValueError:
        fail(f'"{address}" is no address', 2)
    with told(as_json=as_json), Netlink() as netlink:
        found = _tested(netlink, wanted)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        for one in found:
            state = "refused" if one["refused"] else "allowed" if one["allowed"] else "NOT IN FORCE"
            where = ", ".join((one["direction"], *one["devices"]))
            print(f"{one['name']}: {state} ({where}), {one['entry']}{' added by hand' if one['by_hand'] else ''}")
        if not found:
            print(f"{address} is on no list")
    if not any(one["refused"] for one in found):
        raise typer.Exit(1)


def _tested(netlink: Netlink, address: Address) -> list[dict[str, Any]]:
    from markway.apply.confirm import configured
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present
    from markway.compiler.blocklists import Layouts, set_names
    from markway.director.alone import Alone
    from markway.kernel import prefix_sets

    store = Store(state_folder())
    layouts, found = store.layouts(), []
    lists = Alone(store, configured(store, present(store, netlink)).blocklisting)
    lists.restore()
    for hit in lists.hits(address):
        layout = layouts.get(hit.item.name, Layouts()).layout
        refused = layout is not None and prefix_sets.covers(netlink, set_names(hit.item.name, layout), address)
        facts = {"entry": hit.entry, "by_hand": hit.by_hand, "allowed": hit.allowed, "refused": refused}
        of = {"name": hit.item.name, "direction": hit.item.direction.value, "devices": [*hit.item.devices]}
        found.append(of | facts)
    return found


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
    from markway.apply.confirm import configured
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present

    store = Store(state_folder())
    return blocklists(store, netlink, configured(store, present(store, netlink)).blocklisting.lists)


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
        for what in ("added", "removed"):
            if one[what]:
                print(f"  {what} by hand: {_some(one[what])}")
        if one["failure"]:
            print(f"  {one['failure']}")
    if not found:
        print("no lists")


def _some(entries: list[str]) -> str:
    more = len(entries) - _SHOWN
    return ", ".join(entries[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
