"""`markway guard replay`: who would have been banned?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from markway.cli.common import DEFAULT_PATH, Json, fail, load
from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

    from markway.config.guarding import Guard
    from markway.guard.logs import Attempt, Reader
    from markway.guard.replay import Sentenced

app = typer.Typer(no_args_is_help=True, help="Look at who tries too often.")

_CHUNK = 1 << 16


@app.command(
    epilog="""Examples:

markway guard replay /var/log/auth.log

markway guard replay --format nginx-access --window "20 in 1m" --time 10m /var/log/nginx/access.log.2.gz

markway guard replay --config /etc/markway --guard ssh /var/log/auth.log

journalctl -u ssh -o json | markway guard replay -

markway guard replay --port 22 ssh.pcap

Reads logs, also compressed by gzip, records of the journal, and captures of tcpdump. Needs no root."""
)
def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The log or capture; - is the standard input.")],
    *,
    format_: Annotated[str, typer.Option("--format", metavar="NAME", help="Whose log it is.")] = "sshd",
    pattern: Annotated[str, typer.Option(metavar="REGEX", help="A failure's line, instead of a format.")] = "",
    date: Annotated[str, typer.Option(metavar="FORM", help="How that line has its time, as in strptime(3).")] = "",
    port: Annotated[list[int] | None, typer.Option(help="Of a capture, only connections to it; may repeat.")] = None,
    window: Annotated[
        list[str] | None, typer.Option(metavar="N in TIME", help="More than N attempts in TIME ban; may repeat.")
    ] = None,
    until_quiet: Annotated[str, typer.Option(metavar="TIME", help="A ban lasts until there was no attempt.")] = "600s",
    time: Annotated[str, typer.Option(metavar="TIME", help="A ban lasts for a fixed time instead.")] = "",
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Take windows and ban from this configuration.")
    ] = None,
    name: Annotated[str, typer.Option("--guard", metavar="NAME", help="Which guard of it.")] = "",
    as_json: Json = False,
) -> None:
    """Say who would have been banned when, had these windows been in force."""
    from markway.config.problems import WrongValue
    from markway.guard.captures import CaptureError
    from markway.guard.replay import replay as replayed

    try:
        guard = _guard(window or [], time or until_quiet, quiet=not time)
        if config is not None or name:
            guard = _configured(config or DEFAULT_PATH, name, guard, window=bool(window), ban=bool(time))
        reading = _Reading(file, _reader(format_, pattern, date), frozenset(port) if port else None)
        bans = replayed(reading.attempts(), guard)
    except WrongValue as error:
        fail(f"{error.message} ({error.suggestion})" if error.suggestion else error.message, 2)
    except CaptureError as error:
        fail(f"{file}: {error}")
    except (OSError, EOFError) as error:
        fail(f"cannot read {file}: {getattr(error, 'strerror', None) or error}")
    if as_json:
        print(json.dumps({"read": reading.counts(), "bans": [_plain(ban) for ban in bans]}, indent=2))
    else:
        _print_table(bans, reading)


def _guard(windows: Sequence[str], seconds: str, *, quiet: bool) -> Guard:
    from markway.config.guarding import LADDER, Ban, Guard
    from markway.config.ladder import parse_window
    from markway.config.units import parse_timeout

    ban = Ban(float(parse_timeout(seconds)), until_quiet=quiet)
    return Guard("replay", windows=tuple(map(parse_window, windows)) or LADDER, ban=ban)


def _configured(path: Path, name: str, asked: Guard, *, window: bool, ban: bool) -> Guard:
    """The file's guard, with the windows and the ban of the command line where they are given."""
    from markway.config.problems import did_you_mean

    guards = {guard.name: guard for guard in load(path).config.guards}
    if not name and len(guards) == 1:
        [name] = guards
    if name not in guards:
        known = did_you_mean(name, [*guards]) or f"there are {', '.join(guards)}" if guards else "it has none"
        fail(f'{path}: no guard is called "{name}" ({known})' if name else f"{path}: --guard says which ({known})", 2)
    found = guards[name]
    found = replace(found, windows=asked.windows) if window else found
    return replace(found, ban=asked.ban) if ban else found


def _reader(name: str, pattern: str, date: str) -> Reader:
    import time

    from markway.config.guarding import LogFormat, LogSource
    from markway.config.log_patterns import parse_date_form, parse_pattern
    from markway.config.problems import WrongValue, did_you_mean
    from markway.director.zone import local_zone
    from markway.guard.logs import Reader

    if pattern:
        parse_pattern(pattern)
        if date:
            parse_date_form(date)
        return Reader(LogSource(pattern=pattern, date=date), local_zone(), time.time())
    if name not in list(LogFormat):
        known = did_you_mean(name, list(LogFormat)) or f"there are {', '.join(LogFormat)}"
        raise WrongValue(f'no format is called "{name}"', known)
    return Reader(LogSource(LogFormat(name)), local_zone(), time.time())


class _Reading:
    """Reads a file as what it turns out to be, and counts."""

    def __init__(self, file: str, reader: Reader, ports: frozenset[int] | None) -> None:
        from markway.director.following import Lines

        self._file, self._reader, self._ports = file, reader, ports
        self._split = Lines()
        self.lines = 0
        self.found = 0

    def attempts(self) -> Iterator[Attempt]:
        """All that it tells of."""
        from markway.guard.captures import MAGICS, connections

        with _opened(self._file, self._reader) as file:
            begins = file.peek(4)[:4]
            found = connections(file.read, self._ports) if begins in MAGICS else self._logged(file, begins)
            for attempt in found:
                self.found += attempt.times
                yield attempt

    def _logged(self, file: BufferedReader, begins: bytes) -> Iterator[Attempt]:
        read = self._reader.record if begins.startswith(b"{") else self._reader.line
        for line in self._lines_of(file):
            self.lines += 1
            if found := read(line):
                yield found

    def _lines_of(self, file: BufferedReader) -> Iterator[bytes]:
        while data := file.read1(_CHUNK):
            yield from self._split.take(data)
        if self._split.part:
            yield self._split.part

    def counts(self) -> dict[str, int]:
        """What was read."""
        return {"lines": self.lines, "skipped": self._reader.skipped + self._split.skipped, "attempts": self.found}


def _opened(file: str, reader: Reader) -> BufferedReader:
    """A file, unpacked if it has to be; and the reader told when it was written."""
    import gzip
    import io

    path = Path("/dev/stdin" if file == "-" else file)
    opened = path.open("rb")
    reader.passed(path.stat().st_mtime)
    packed = opened.peek(2)[:2] == b"\x1f\x8b"
    return io.BufferedReader(gzip.GzipFile(fileobj=opened)) if packed else opened


def _plain(ban: Sentenced) -> dict[str, Any]:
    return {
        "source": str(ban.source),
        "action": ban.action,
        "since": ban.begun,
        "until": ban.until,
        "window": str(ban.window),
        "offences": ban.offences,
        "attempts": ban.attempts,
    }


def _print_table(bans: Sequence[Sentenced], reading: _Reading) -> None:
    rows = [("since", "until", "source", "action", "because of more than", "attempts")]
    rows += [
        (_time(ban.begun), _time(ban.until), _name(ban), ban.action, str(ban.window), f"{ban.attempts:,}")
        for ban in bans
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows if bans else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), f" {row[-1]:>8}")
    sources = len({ban.source for ban in bans})
    read = f"{count(reading.lines, 'line')}, " if reading.lines else ""
    skipped = reading.counts()["skipped"]
    unread = f" ({count(skipped, 'line')} could not be read)" if skipped else ""
    slowings = sum(ban.action == "slow" for ban in bans)
    slowed = f"{count(slowings, 'slowing')} and " if slowings else ""
    banned = count(len(bans) - slowings, "ban")
    print(f"{read}{count(reading.found, 'attempt')}{unread}: {slowed}{banned} of {count(sources, 'source')}")


def _name(ban: Sentenced) -> str:
    whole = ban.source.prefixlen == ban.source.max_prefixlen
    return str(ban.source.network_address if whole else ban.source)


def _time(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
