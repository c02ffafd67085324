"""`markway bans`, `ban`, `unban`: whom guards keep out or slow, from the kernel; with the daemon and without."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from markway.cli.common import Json, count, fail, need_root, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markway.apply.store import Store
    from markway.config.guarding import Guard
    from markway.guard.sources import Sources
    from markway.kernel.netlink import Netlink

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
        rows = [(guard.name, *held) for guard in desk.guards.values() for held in desk.held(guard)]
    rows.sort(key=lambda row: (row[0], row[3]))
    if as_json:
        now = time.time()
        found = [
            {"guard": name, "source": source, "action": action, "left": left, "until": round(now + left, 3)}
            for name, source, action, left in rows
        ]
        print(json.dumps(found, indent=2))
    elif plain:
        for source in dict.fromkeys(source for _, source, action, _ in rows if action == "ban"):
            print(source)
    else:
        _print_table(rows)


def ban(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whom: an address, or a network.")],
    guard: Name = "",
    long: Long = "",
) -> None:
    """Keep a source out by hand."""
    need_root("ban")
    with _desk() as desk:
        found = desk.guard(guard)
        key = desk.key(found, address)
        if key is None:
            fail(f"guard {found.name} allows {address} everything: take it out of allow first")
        seconds = _seconds(long) or found.ban.seconds
        desk.put(found, {key: seconds})
        print(f"{desk.spelled(found, key)} is kept out by guard {found.name} for {seconds:g} s.")


def unban(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whom: an address, or a network.")],
    guard: Annotated[str, typer.Option("--guard", metavar="NAME", help="Of this guard alone.")] = "",
) -> None:
    """Let a source in again."""
    need_root("unban")
    with _desk() as desk:
        guards = [desk.guard(guard)] if guard else [*desk.guards.values()]
        freed = [one.name for one in guards if desk.free(one, address)]
    if not freed:
        fail(f"{address} is not banned or slowed")
    print(f"{address} is free again, for {'guard' if len(freed) == 1 else 'guards'} {', '.join(freed)}.")


@app.command(
    "import",
    epilog="Of fail2ban's database, usually /var/lib/fail2ban/fail2ban.sqlite3, the bans that have time left.",
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A list of addresses, or fail2ban's database.")],
    guard: Name = "",
    jail: Annotated[str, typer.Option(metavar="NAME", help="Of a database, only the bans of this jail.")] = "",
    long: Long = "",
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
        already = {source for source, action, _ in desk.held(one) if action == "ban"}
        fresh = {key: left for key, left in wanted.items() if desk.spelled(one, key) not in already}
        desk.put(one, fresh)
    print(f"{count(len(fresh), 'source')} of {file} kept out by guard {one.name}; "
          f"{len(found) - len(fresh):,} were already, or are allowed, or one with others.")  # fmt: skip


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
    from markway.config.problems import WrongValue
    from markway.config.units import parse_timeout

    try:
        return float(parse_timeout(text)) if text else 0.0
    except WrongValue as wrong:
        fail(f"{wrong.message} ({wrong.suggestion})" if wrong.suggestion else wrong.message, 2)


def _print_table(rows: Sequence[tuple[str, str, str, float]]) -> None:
    if not rows:
        print("Nobody is banned or slowed.")
        return
    table = [("GUARD", "SOURCE", "ACTION", "LEFT"), *((*row[:3], f"{row[3]:,.0f} s") for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for *words, left in table:
        shown = [word.ljust(width) for word, width in zip(words, widths, strict=False)]
        print("  ".join([*shown, left.rjust(widths[-1])]))


@dataclass(frozen=True)
class _Desk:
    """The guards in force, and their sets in the kernel."""

    store: Store
    netlink: Netlink
    guards: dict[str, Guard]

    def guard(self, name: str) -> Guard:
        """The one meant."""
        from markway.config.problems import did_you_mean

        if not name and len(self.guards) == 1:
            return next(iter(self.guards.values()))
        if name not in self.guards:
            known = did_you_mean(name, [*self.guards]) or f"there are {', '.join(self.guards)}"
            fail(f'no guard is called "{name}" ({known})' if name else f"--guard says which ({known})", 2)
        return self.guards[name]

    def _sources(self, guard: Guard) -> Sources:
        from markway.guard.sources import Sources

        return Sources(guard)

    def key(self, guard: Guard, text: str) -> bytes | None:
        """What an address counts for; None if it is allowed everything."""
        from ipaddress import ip_network

        try:
            network = ip_network(text)
        except ValueError:
            fail(f'"{text}" is no address or network', 2)
        length = guard.prefix if network.version == 4 else guard.prefix6  # noqa: PLR2004
        if network.prefixlen < length:
            fail(f"{text} is more than one source of guard {guard.name}, which is a /{length}: a blocklist takes it", 2)
        return self._sources(guard).key(network.network_address.packed)

    def spelled(self, guard: Guard, key: bytes) -> str:
        """A source as people write it."""
        return str(self._sources(guard).network(key)).removesuffix("/32").removesuffix("/128")

    def held(self, guard: Guard) -> Iterator[tuple[str, str, float]]:
        """Whom it bans or slows, which of the two, and for how many seconds."""
        from markway.compiler.guarding import sets_of
        from markway.guard.windows import Action
        from markway.kernel.bans import banned

        for version in (4, 6):
            found: dict[bytes, tuple[str, float]] = {}
            for action, name in zip((Action.BAN, Action.SLOW), sets_of(guard, version), strict=False):
                there = banned(self.netlink, name)
                found = {key: (action.value, left) for key, left in there.items()} | found
            yield from ((self.spelled(guard, key), *held) for key, held in found.items())

    def put(self, guard: Guard, wanted: dict[bytes, float]) -> None:
        """Keep sources out for so many seconds."""
        from markway.kernel.bans import ban

        for key, seconds in wanted.items():
            for name in self._sets(guard, key):
                ban(self.netlink, name, key, seconds)
        until = {str(self._sources(guard).network(key)): time.time() + left for key, left in wanted.items()}
        self._remember(guard, until, ())

    def free(self, guard: Guard, text: str) -> bool:
        """Let a source in again; whether it was kept out or slowed."""
        from markway.kernel.bans import unban

        key = self.key(guard, text)
        if key is None:
            return False
        freed = [unban(self.netlink, name, key) for name in self._sets(guard, key)]
        if any(freed):
            self._remember(guard, {}, [str(self._sources(guard).network(key))])
        return any(freed)

    def _sets(self, guard: Guard, key: bytes) -> tuple[str, ...]:
        """Those that a banned source is in."""
        from markway.compiler.guarding import sets_of

        return sets_of(guard, 4 if len(key) == 4 else 6)  # noqa: PLR2004

    def _remember(self, guard: Guard, added: dict[str, float], removed: Sequence[str]) -> None:
        """Write it down where no daemon does."""
        from markway.apply.bans import FILE, amend

        if not self.store.is_attended():
            amend(self.store.folder / FILE, guard.name, added, removed)


@contextmanager
def _desk() -> Iterator[_Desk]:
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.apply.transaction import present
    from markway.config.load import load
    from markway.kernel.netlink import Netlink

    store = Store(state_folder())
    with told(), Netlink() as netlink:
        now = present(store, netlink)
        guards = load(store.config(now.config)).config.guards if now.marker and now.config else ()
        if not guards:
            fail("no guard is in force: write one ([guard.NAME]) and markway apply it")
        yield _Desk(store, netlink, {guard.name: guard for guard in guards})
