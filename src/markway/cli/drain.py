"""`markway drain`, `enable`, `disable` and `weight`: what operators want of single backends.

The daemon does it if it runs. Without it the command does the same by itself, and the next daemon takes it over.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.balance.state import Hold
from markway.cli.common import Json, fail, need_root, seconds, told

if TYPE_CHECKING:
    from markway.cli.operator import Operator

Record = dict[str, Any]

Names = Annotated[list[str], typer.Argument(metavar="SERVICE/BACKEND...", help="The backends.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="SERVICE/BACKEND", help="The backend.", show_default=False)]

_LEFT = 3
"""The exit status of a drain whose deadline came first."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="New connections go to the other backends at once; those that are open keep being served. The command "
        "ends when the last of them has. Interrupted, it leaves the drain going on. Exit status 3 if connections are "
        "left at the deadline and --cut was not given."
    )(drain)
    app.command()(enable)
    app.command(epilog="It stays out until it is enabled, over restarts and changes of the file too.")(disable)
    app.command(epilog="It stays until it is reset, over restarts and changes of the file too.")(weight)


def drain(
    names: Names,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="TIME", help="End after this time at the latest.")
    ] = None,
    cut: Annotated[
        bool, typer.Option("--cut/--leave", help="Whether connections left at the deadline are cut.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the last connection's end.")] = False,
    as_json: Json = False,
) -> None:
    """Give backends no new connections, and wait until their last has ended."""
    from markway.cli.emptying import wait

    patience = None if deadline is None else seconds(deadline)
    if cut and patience is None:
        fail("--cut cuts what is left at the --deadline: give one, as --deadline 5m", 2)
    with told(), _operator("drain", names) as operator:
        done = operator.hold(names, Hold.DRAIN, deadline=patience, cut=cut)
        _warn(operator, done)
        if no_wait:
            _say(done, "takes no new connections", as_json=as_json)
            return
        try:
            ended = wait(operator, names, as_json=as_json)
        except KeyboardInterrupt:
            later = "" if operator.by_daemon or patience is None else "; without the daemon nobody minds its deadline"
            fail(f"the drain goes on{later}. To end it: markway enable {' '.join(names)}", 130)
    if as_json:
        print(json.dumps([one.record for one in ended], indent=2))
    if any(one.left and not one.cut for one in ended):
        raise typer.Exit(_LEFT)


def enable(names: Names, as_json: Json = False) -> None:
    """Let backends take new connections again."""
    with told(), _operator("enable", names) as operator:
        done = operator.hold(names, Hold.NONE)
        _warn(operator, done)
    _say(done, "takes new connections", as_json=as_json)


def disable(
    names: Names,
    cut: Annotated[bool, typer.Option("--cut", help="Cut their connections too.")] = False,
    as_json: Json = False,
) -> None:
    """Take backends out: they get no new connections."""
    with told(), _operator("disable", names) as operator:
        done = operator.hold(names, Hold.DISABLE, cut=cut)
        _warn(operator, done)
    _say(done, "is out", as_json=as_json)


def weight(
    name: Name,
    value: Annotated[
        int | None, typer.Argument(metavar="WEIGHT", min=0, max=65535, help="0 takes no new ones.", show_default=False)
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="The file's weight again.")] = False,
    as_json: Json = False,
) -> None:
    """Give a backend another weight than the file's."""
    if (value is None) is not reset:
        fail("give a weight, as markway weight web/a 5, or --reset", 2)
    with told(), _operator("weight", [name]) as operator:
        done = [operator.weigh(name, value)]
        _warn(operator, done)
    _say(done, f"has the file's weight, {done[0]['weight']:g}" if reset else f"has weight {value}", as_json=as_json)


def _operator(command: str, names: list[str]) -> Operator:
    """Whoever does it, once the names look like names."""
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.cli.operator import Operator

    for name in names:
        if name.count("/") != 1 or not all(name.split("/")):
            fail(f'"{name}" is no backend: write SERVICE/BACKEND, as web/a', 2)
    need_root(command)
    return Operator(Store(state_folder()))


def _warn(operator: Operator, done: list[Record]) -> None:
    import sys

    if not operator.by_daemon:
        print("markway: the daemon does not run: done without it", file=sys.stderr)
    for record in done:
        if not record["in_force"]:
            print(f"markway: {record['name']}: the kernel has not taken it yet; the daemon tries on", file=sys.stderr)


def _say(done: list[Record], what: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(done, indent=2))
        return
    for record in done:
        why = f" ({record['reason']})" if record["state"] == "down" and record["reason"] else ""
        but = f", but is {record['state']}{why}" if record["state"] in {"down", "unknown", "out"} else ""
        held = f", but is held: {record['state']}" if "weight" in what and record["state"].startswith("d") else ""
        print(f"{record['name']} {what}{but or held}.")
