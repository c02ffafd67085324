"""From the tables `[guard]` of all files to the guards."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from markway.config.addresses import check_usable, parse_listen
from markway.config.build_matches import unknown
from markway.config.build_shape import all_named
from markway.config.guarding import LADDER, WEEK, Ban, Guard, Guarded, LogFormat, LogSource, Scope, Window
from markway.config.kinds import at
from markway.config.ladder import parse_window
from markway.config.log_patterns import parse_date_form, parse_pattern
from markway.config.problems import Place, WrongValue, did_you_mean, quote
from markway.config.schema_guard import BanTable, LogTable
from markway.config.units import parse_timeout
from markway.config.values import networks_of, parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.model import Network, Service
    from markway.config.problems import Path, Report
    from markway.config.schema import File
    from markway.config.schema_guard import GuardTable

_SERVICE = "service:"
_ANYWHERE = "0.0.0.0:"
"""Stands for no address while ports are read."""

_PORTS = re.compile(r"[0-9*][0-9,*-]*(?:/.*)?", re.DOTALL)
_LARGEST_FACTOR = 1000
_LONGEST_UNIT = 255  # characters: systemd.unit(5)
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+")


def guards_of(
    files: Sequence[tuple[int, File]], services: Sequence[Service], allow: tuple[Network, ...], report: Report
) -> tuple[Guard, ...]:
    """The guards of all files, sorted by name; `services` may be guarded, and `allow` are allowed by all of them."""
    tables = all_named("guard", [(source, file.guard) for source, file in files], report)
    names = [service.name for service in services]
    found = [_guard(place, table, names, report) for place, table in tables]
    found = [replace(guard, allow=(*guard.allow, *allow)) for guard in found] if allow else found
    return tuple(sorted(found, key=lambda one: one.name))


def _guard(place: Place, table: GuardTable, services: Sequence[str], report: Report) -> Guard:
    listeners, guarded = _listens(place, table, services, report)
    logs = tuple(_log(at(place, "logs", index), one, report) for index, one in enumerate(table.logs or ()))
    if not (listeners or guarded or report.doubtful(place, "listen")):
        _without_listener(place, table, report)
    connections = table.connections if table.connections is not None else not table.logs
    if not connections and not logs and not report.doubtful(place, "logs"):
        report.error(at(place, "connections"), "nothing else is counted", "leave it out, or name logs")
    return Guard(
        name=str(place.path[-1]),
        listeners=listeners,
        services=guarded,
        windows=_windows(place, table, report),
        ban=_ban(at(place, "ban"), table.ban or BanTable.model_construct(), report, slow=table.slow),
        prefix=table.prefix,
        prefix6=table.prefix6,
        allow=networks_of(place, "allow", table.allow, report) if table.allow else (),
        scope=Scope(table.scope),
        reset=table.refuse == "reset",
        slow=table.slow or report.doubtful(place, "slow"),
        connections=connections and bool(listeners or guarded),
        logs=logs,
        origin=place.path,
    )


def _without_listener(place: Place, table: GuardTable, report: Report) -> None:
    """Of a guard that guards no port, logs may tell who is banned, but from everything then."""
    if not table.logs and not report.doubtful(place, "logs"):
        report.missing(place, "listen", "nothing is guarded", 'for example listen = "22/tcp"')
    elif table.connections:
        report.error(at(place, "connections"), "nothing says to what", 'for example listen = "22/tcp"')
    elif table.scope == "listener" and not report.doubtful(place, "scope"):
        what = "nothing says what a banned source may not reach"
        report.missing(place, "listen", what, 'for example listen = "22/tcp", or scope = "all"')


def _listens(
    place: Place, table: GuardTable, services: Sequence[str], report: Report
) -> tuple[tuple[Guarded, ...], tuple[str, ...]]:
    found: dict[Guarded, None] = {}
    named: dict[str, None] = {}
    for path, one in parse_each(place, "listen", table.listen, _listen, report):
        if not isinstance(one, str):
            found |= dict.fromkeys(one)
        elif not unknown(Place(place.source, path), "service", one, services, report):
            named[one] = None
    return tuple(found), tuple(named)


def _listen(text: str) -> tuple[Guarded, ...] | str:
    """`22/tcp`, `192.0.2.1:22/tcp`: what is guarded; `service:web`: the service's name."""
    if text.startswith(_SERVICE):
        return text.removeprefix(_SERVICE)
    if _PORTS.fullmatch(text):
        return tuple(Guarded(one.protocol, one.ports) for one in parse_listen(_ANYWHERE + text))
    try:
        listeners = parse_listen(text)
    except WrongValue as wrong:
        hint = wrong.suggestion or 'for example "22/tcp", "192.0.2.1:22/tcp" or "service:web"'
        raise WrongValue(wrong.message, hint) from None
    check_usable(listeners[0].address)
    return tuple(Guarded(one.protocol, one.ports, one.address) for one in listeners)


def _windows(place: Place, table: GuardTable, report: Report) -> tuple[Window, ...]:
    if table.windows is None:
        return LADDER
    found: dict[Window, Path] = {}
    if table.windows == []:
        report.error(at(place, "windows"), "without a window nobody is banned", 'for example windows = "2 in 20s"')
    for path, window in parse_each(place, "windows", table.windows, parse_window, report):
        if window in found:
            report.error(Place(place.source, path), f"{quote(str(window))} is there already", "leave one of them out")
        found.setdefault(window, path)
    for window, path in found.items():
        wider = (one for one in found if one != window and one.count <= window.count and one.seconds >= window.seconds)
        if one := next(wider, None):
            what = f"{quote(str(one))} is broken whenever this one is"
            report.warning(Place(place.source, path), what, "leave it out")
    return tuple(found) or LADDER


def _ban(place: Place, table: BanTable, report: Report, *, slow: bool) -> Ban:
    def read(key: str, given: str | None, default: float) -> float:
        return float(value_of(at(place, key), given, parse_timeout, default, report))

    fixed = table.time is not None or report.doubtful(place, "time")
    if fixed and table.until_quiet is not None:
        report.error(place, "it lasts for a time or until the source is quiet", "write time or until-quiet")
    if not fixed:
        for key in ("factor", "longest", *(() if slow else ("memory",))):
            if getattr(table, key) is not None:
                report.error(at(place, key), "a ban until the source is quiet does not grow", 'it is for time = "10m"')
    seconds = read("time", table.time, 600.0) if fixed else read("until-quiet", table.until_quiet, 600.0)
    longest = read("longest", table.longest, WEEK)
    if table.longest is not None and longest < seconds:
        report.error(at(place, "longest"), "the first ban is longer", f'for example longest = "{seconds:g}s"')
    factor = 1.0 if table.factor is None else float(table.factor)
    if not 1 <= factor <= _LARGEST_FACTOR:
        report.error(at(place, "factor"), f"bans cannot grow by {factor:g}", f"1 to {_LARGEST_FACTOR}")
        factor = 1.0
    return Ban(seconds, not fixed, factor, longest, read("memory", table.memory, WEEK))


def _log(place: Place, table: LogTable, report: Report) -> LogSource:
    _one_of(place, {"format": table.format, "pattern": table.pattern}, "what a failure looks like", report)
    _one_of(place, {"file": table.file, "journal": table.journal}, "where the log is", report)
    if table.date is not None and table.pattern is None and not report.doubtful(place, "pattern"):
        report.error(at(place, "date"), "a format knows how its log writes times", "leave it out")
    pattern = value_of(at(place, "pattern"), table.pattern, parse_pattern, None, report)
    date = value_of(at(place, "date"), table.date, parse_date_form, None, report)
    return LogSource(
        format=value_of(at(place, "format"), table.format, _format, None, report),
        pattern=pattern.pattern if pattern else "",
        date=(table.date or "") if date else "",
        file=value_of(at(place, "file"), table.file, _file, "", report),
        journal=value_of(at(place, "journal"), table.journal, _unit, "", report),
        origin=place.path,
    )


def _one_of(place: Place, given: dict[str, str | None], what: str, report: Report) -> None:
    """Report two keys of which just one is needed, if both or neither are there."""
    one, other = given
    there = [key for key, value in given.items() if value is not None]
    if len(there) > 1:
        report.error(place, f"`{one}` and `{other}` at once", "keep one")
    elif not there and not report.doubtful(place, other):
        report.missing(place, one, f"nothing says {what}", f"there are `{one}` and `{other}`")


def _format(text: str) -> LogFormat:
    if text not in list(LogFormat):
        raise WrongValue(
            f"no format is called {quote(text)}",
            did_you_mean(text, [*LogFormat]) or f"there are {', '.join(LogFormat)}; or write a pattern",
        )
    return LogFormat(text)


def _file(text: str) -> str:
    if not text.startswith("/") or "\0" in text or text.endswith("/"):
        raise WrongValue(f"{quote(text)} is not the path of a file", f"for example {quote(str(_absolute(text)))}")
    return text


def _absolute(text: str) -> PurePosixPath:
    return PurePosixPath("/var/log") / (PurePosixPath(text.replace("\0", "")).name or "auth.log")


def _unit(text: str) -> str:
    if not _UNIT.fullmatch(text) or len(text) > _LONGEST_UNIT or text.startswith("-"):
        raise WrongValue(f"{quote(text)} is not the name of a unit", 'for example "ssh.service"')
    return text
