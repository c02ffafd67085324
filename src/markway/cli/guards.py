"""Guards and lists as tables and lines for a person. Pure: records in, text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from markway.cli.columns import Columns, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Record = dict[str, Any]

GUARDS = Columns(
    ("GUARD", "OF", "WINDOWS", "BAN", "BANNED", "SLOWED", "REFUSED", "ATTEMPTS", "COUNTED"),
    left=frozenset({"GUARD", "OF", "WINDOWS", "BAN", "COUNTED"}),
    dropped=("WINDOWS", "BAN", "OF"),
    optional=frozenset({"SLOWED", "ATTEMPTS"}),
)
BLOCKLISTS = Columns(
    ("BLOCKLIST", "ENTRIES", "IN FORCE", "REFUSED", "READ"),
    left=frozenset({"BLOCKLIST", "IN FORCE", "READ"}),
    dropped=(),
)


_NOT = "not at all"
_ASKING = {_NOT: "Connections are not counted by this kernel, only what logs say."}


def guard_rows(guards: Sequence[Record]) -> list[Row]:
    """A row for each guard."""
    return [
        Row(
            {
                "GUARD": Text(one["name"]),
                "OF": Text(_first([*one["listen"], *one["logs"]])),
                "WINDOWS": Text(_first(one["windows"])),
                "BAN": Text(_ban(one["ban"])),
                "BANNED": Text(_sources(one["banned"])),
                "SLOWED": Text(_sources(one["slowed"]) if any(one["slowed"].values()) else "-"),
                "REFUSED": Text(f"{one['packets']:,}"),
                "ATTEMPTS": Text("-" if one["attempts"] is None else f"{one['attempts']:,}"),
                "COUNTED": Text(_counted(one)),
            }
        )
        for one in guards
    ]


def guard_notes(guards: Sequence[Record], *, daemon: bool) -> Iterator[str]:
    """What keeps attempts from being counted."""
    if not daemon:
        yield "No daemon: bans hold, nothing is counted. Begin with: markway run"
        return
    if not all(one["counting"] for one in guards if one["logs"] or one["asking"] != _NOT):
        yield "The counter of attempts is not ready: bans hold, nothing is counted."
    for asking in dict.fromkeys(one["asking"] for one in guards if one["asking"]):
        yield _ASKING.get(asking, f"The counter of attempts is asked by {asking}.")
    yield from (f"{one['name']}: {one['problem']}" for one in guards if one["problem"])


def blocklist_rows(blocklists: Sequence[Record], at: Callable[[float], str]) -> list[Row]:
    """A row for each list; `at` writes a time of seconds since the epoch."""
    return [
        Row(
            {
                "BLOCKLIST": Text(one["name"]),
                "ENTRIES": Text(f"{one['entries']:,}"),
                "IN FORCE": Text("yes" if one["in_force"] else "NO"),
                "REFUSED": Text(f"{one['packets']:,}"),
                "READ": Text(at(one["changed"]) if one["changed"] else "-"),
            }
        )
        for one in blocklists
    ]


def _first(names: Sequence[str]) -> str:
    """The first, and how many more."""
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "-"


def _ban(ban: Record) -> str:
    longer = "" if ban["factor"] == 1 else f" x{ban['factor']:g}"
    return f"{ban['seconds']:g}s{longer}{' quiet' if ban['until_quiet'] else ''}"


def _sources(numbers: Record) -> str:
    """Sources of IPv4, and of IPv6 if there are any: `3`, or `3 + 1`."""
    return f"{numbers['ipv4']:,} + {numbers['ipv6']:,}" if numbers["ipv6"] else f"{numbers['ipv4']:,}"


def _counted(guard: Record) -> str:
    """Whether its attempts are counted now, or those alone that logs tell of."""
    if not guard["counting"]:
        return "no"
    return "logs" if guard["asking"] == _NOT else "yes"
