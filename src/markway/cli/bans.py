"""`markway bans`, `ban`, `unban`: whom guards keep out or slow, from the kernel; with the daemon and without."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import Json, fail, need_root, told
from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markway.apply.banning import Desk, Held

app = typer.Typer(invoke_without_command=True, help="Show whom guards keep out or slow, and for how long.")

_FOREVER = 30 * 86400.0
"""Seconds for a ban of fail2ban's that has no end."""

_SQLITE = b"SQLite format 3\0"
_WRONG = 3
"""Lines that are no addresses, before the rest is counted."""

Name = Annotated[str, typer.Option("--guard", metavar="NAME", help="Whose ban; not needed if there is one guard.")]
Long = Annotated[
    str, typer.Option("--for", metavar="TIME", help="For how long, as 10m; as the guard bans if left out.")
]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="bans")
    root.command(epilog="A ban until the source is quiet begins anew with each attempt, also one that you made.")(ban)
    root.command(epilog="What it did before is forgotten with the ban.")(unban)


@app.callback()
def bans(
    context: typer.Context,
    plain: Annotated[bool, typer.Option("--plain", help="Print the banned sources alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """Show whom guards keep out or slow, and for how long."""
    if context.invoked_subcommand:
        return
    need_root("bans")
    with _desk() as desk:
        rows = desk.everybody()
    if as_json:
        print(json.dumps([_record(row) for row in rows], indent=2))
    elif plain:
        for source in dict.fromkeys(row.source for row in rows if row.action == "ban"):
            print(source)
    else:
        _print_table(rows)


def ban(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whom: an address, or a network.")],
    guard: Name = "",
    long: Long = "",
    as_json: Json = False,
) -> None:
    """Keep a source out by hand."""
    need_root("ban")
    with _desk() as desk:
        found = desk.guard(guard)
        made = desk.ban(found, address, _seconds(long))
    text = f"{made.source} is kept out by guard {made.guard} for {made.left:g} s."
    print(json.dumps(_record(made), indent=2) if as_json else text)


def unban(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whom: an address, or a network.")],
    guard: Annotated[str, typer.Option("--guard", metavar="NAME", help="Of this guard alone.")] = "",
    as_json: Json = False,
) -> None:
    """Let a source in again."""
    need_root("unban")
    with _desk() as desk:
        guards = [desk.guard(guard)] if guard else [*desk.guards.values()]
        freed = [one.name for one in guards if desk.free(one, address)]
    if not freed:
        fail(f"{address} is not banned or slowed")
    text = f"{address} is free again, for {'guard' if len(freed) == 1 else 'guards'} {', '.join(freed)}."
    print(json.dumps({"source": address, "guards": freed}, indent=2) if as_json else text)


@app.command(
    "import",
    epilog="Of fail2ban's database, usually /var/lib/fail2ban/fail2ban.sqlite3, the bans that have time left.",
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A list of addresses, or fail2ban's database.")],
    guard: Name = "",
    jail: Annotated[str, typer.Option(metavar="NAME", help="Of a database, only the bans of this jail.")] = "",
    long: Long = "",
    as_json: Json = False,
) -> None:
    """Take over bans from elsewhere."""
    need_root("bans import")
    try:
        with file.open("rb") as opened:
            database = opened.read(len(_SQLITE)) == _SQLITE
        found = _of_fail2ban(file, jail) if database else _of_list(file)
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}")
    with _desk() as desk:
        one = desk.guard(guard)
        length = _seconds(long)
        wanted = {
            key: length or left or one.ban.seconds for text, left in found if (key := desk.key(one, text)) is not None
        }
        already = {held.source for held in desk.held(one) if held.action == "ban"}
        fresh = {key: left for key, left in wanted.items() if desk.spelled(one, key) not in already}
        desk.put(one, fresh)
    left_out = len(found) - len(fresh)
    if as_json:
        print(json.dumps({"guard": one.name, "banned": len(fresh), "left_out": left_out}, indent=2))
    else:
        said = f"{left_out:,} were already, or are allowed, or one with others"
        print(f"{count(len(fresh), 'source')} of {file} kept out by guard {one.name}; {said}.")


def _of_list(file: Path) -> list[tuple[str, float]]:
    from ipaddress import ip_network

    found, wrong = [], []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        try:
            found += [(str(ip_network(text, strict=False)), 0.0)] if text else []
        except ValueError:
            wrong.append(f"{file}:{number}: {text[:60]!r} is no address or network")
    if wrong:
        more = f"\n… and {len(wrong) - _WRONG} more" if len(wrong) > _WRONG else ""
        fail("\n".join(wrong[:_WRONG]) + f"{more}\nnothing was changed")
    return found


def _of_fail2ban(file: Path, jail: str) -> list[tuple[str, float]]:
    """The bans of fail2ban's database that have time left (its server/database.py, the table `bips`, or `bans`)."""
    import sqlite3

    now = time.time()
    left: dict[str, float] = {}
    try:
        with sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            table = "bips" if "bips" in tables else "bans"
            rows = database.execute(f"SELECT ip, jail, timeofban, bantime FROM {table}").fetchall()  # noqa: S608
    except sqlite3.Error as error:
        fail(f"{file} is no database of fail2ban: {error}")
    for address, of, begun, length in rows:
        seconds = _FOREVER if length < 0 else begun + length - now
        if seconds > 0 and jail in {"", of}:
            left[str(address)] = max(left.get(str(address), 0.0), seconds)
    return [*left.items()]


def _seconds(text: str) -> float:
    from markway.config.units import parse_timeout

    return float(parse_timeout(text)) if text else 0.0


def _record(held: Held) -> dict[str, Any]:
    from markway.api.view import ban as viewed

    return viewed(held, time.time())


def _print_table(rows: Sequence[Held]) -> None:
    if not rows:
        print("Nobody is banned or slowed.")
        return
    table = [("GUARD", "SOURCE", "ACTION", "LEFT"), *((*row[:3], f"{row[3]:,.0f} s") for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for *words, left in table:
        shown = [word.ljust(width) for word, width in zip(words, widths, strict=False)]
        print("  ".join([*shown, left.rjust(widths[-1])]))


@contextmanager
def _desk() -> Iterator[Desk]:
    from markway.apply.banning import Desk
    from markway.apply.confirm import configured
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present
    from markway.config.problems import WrongValue
    from markway.kernel.netlink import Netlink

    store = Store(state_folder())
    with told(), Netlink() as netlink:
        now = present(store, netlink)
        if not now.marker:
            fail("nothing is in force: markway apply FILE first")
        guards = configured(store, now).guards
        if not guards:
            fail("no guard is in force: write one ([guard.NAME]) and markway apply it")
        try:
            yield Desk.of(store, netlink, guards)
        except WrongValue as wrong:
            fail(wrong.text, 2)
