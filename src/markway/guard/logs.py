"""Finds failures in the lines of a log, or in the records of the journal."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from markway.config.log_patterns import needle, parse_date_form, parse_pattern
from markway.guard import dates
from markway.guard.dates import Dates, read_as
from markway.guard.formats import FORMATS
from markway.guard.sources import packed

if TYPE_CHECKING:
    from datetime import tzinfo

    from markway.config.guarding import LogSource
    from markway.guard.formats import Failure, Format

LONGEST_LINE = 8192
"""Bytes of a line; longer ones are skipped. sshd's longest is 1 KiB, nginx's 2 KiB, Postfix's 2 KiB."""

LONGEST_FOR_PATTERN = 2048
"""Bytes of a line for the operator's own pattern, which may take the cube of them."""

LONGEST_RECORD = 65536
"""Bytes of a record of the journal, with all of its fields."""

MOST_TIMES = 1000
"""How many failures one line may stand for."""

_CONNECTIONS = 4096
_REPEATED = re.compile(rb"message repeated (\d{1,4}) times: \[ ?(.*)\]")
_HEAD = re.compile(rb"\[?(" + dates.ANY + rb")")


class Attempt(NamedTuple):
    """A failure: when (seconds since 1970), from which address (its 4 or 16 bytes), what, and how many of them."""

    time: float
    address: bytes
    what: str
    times: int = 1


class Connections:
    """What has counted of each connection, told from others by address and port: so each of its failures counts once.

    sshd says of one that tried two passwords for an unknown user: unknown, failed, failed, gave up. Those are two
    failures. At most 4,096 are remembered; the oldest is forgotten first.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes], tuple[int, int]] = OrderedDict()

    def news(self, connection: tuple[bytes, bytes], times: int, *, sign: bool) -> int:
        """How many failures of this connection have not counted yet.

        Args:
            connection: its address and port.
            times: how many there were.
            sign: there was one, if there was no other.
        """
        counted, failed = self._known.get(connection, (0, 0))
        failed += 0 if sign else times
        total = max(counted, failed, 1)
        self._known[connection] = total, failed
        if len(self._known) > _CONNECTIONS:
            self._known.popitem(last=False)
        return total - counted


class Reader:
    """Reads one log, line by line or record by record. No line raises anything."""

    def __init__(self, source: LogSource, zone: tzinfo, now: float, *, undated: bool = False) -> None:
        """Prepare.

        Args:
            source: its format, or its pattern, which `parse_pattern` has accepted.
            zone: of times that do not say theirs.
            now: the time of reading, in seconds since 1970; `passed` sets it anew.
            undated: whether a line without a time counts at the time of reading. Else it is skipped.
        """
        self.skipped = 0
        """Lines and records that were too long, broken, or without a time."""
        self._dates = Dates(zone, now)
        self._zone, self._undated = zone, undated
        self._connections = Connections()
        self._format = FORMATS[source.format] if source.format else None
        if self._format:
            self._longest = LONGEST_LINE
            self._line = partial(self._known_line, self._format)
            self._needles = self._format.needles
        else:
            self._longest = LONGEST_FOR_PATTERN
            self._line = partial(self._own_line, parse_pattern(source.pattern), source.date)
            self._needles = ((needle(parse_pattern(source.pattern)).encode(),),)

    def passed(self, now: float) -> None:
        """It is later now."""
        self._dates.passed(now)

    def line(self, line: bytes) -> Attempt | None:
        """The failure that a line of a file tells of, if it does. Its newline may be there or not."""
        for needles in self._needles:
            for one in needles:
                if one in line:
                    break
            else:
                return None
        whole = self._whole(line)
        return None if whole is None else self._line(whole, None)

    def record(self, record: bytes) -> Attempt | None:
        """The failure that a record of the journal (`journalctl -o json`, systemd.journal-fields(7)) tells of."""
        if len(record) > LONGEST_RECORD:
            self.skipped += 1
            return None
        try:
            fields = json.loads(record)
            time = int(fields["__REALTIME_TIMESTAMP"]) / 1e6
            message = _bytes(fields["MESSAGE"])
            program = _bytes(fields.get("SYSLOG_IDENTIFIER") or fields.get("_COMM") or "")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            self.skipped += 1
            return None
        whole = self._whole(message)
        if whole is None:
            return None
        if self._format and self._format.programs:
            return self._message(self._format, program, whole, time)
        return self._line(whole, time)

    def _whole(self, text: bytes) -> bytes | None:
        """One line without its end; None if it is too long, or several: then some were written by a client."""
        text = text.rstrip(b"\r\n")
        if len(text) > self._longest or b"\n" in text:
            self.skipped += 1
            return None
        return text

    def _known_line(self, known: Format, line: bytes, time: float | None) -> Attempt | None:
        for form in known.lines:
            if found := form.fullmatch(line):
                parts = found.groupdict()
                time = self._dates.read(parts["date"]) if time is None else time
                return self._message(known, parts.get("program"), parts["message"], time)
        return None

    def _message(self, known: Format, program: bytes | None, message: bytes, time: float | None) -> Attempt | None:
        if program is not None and _service(program) not in known.programs:
            return None
        times = 1
        if known.programs and message.startswith(b"message repeated ") and (again := _REPEATED.fullmatch(message)):
            times, message = int(again[1]), again[2]
        for failure in known.failures.get(message.split(b" ", 1)[0]) or known.failures.get(b"", ()):
            if found := failure.pattern.fullmatch(message):
                return self._attempt(failure, found.groupdict(), times, time)
        return None

    def _attempt(self, failure: Failure, parts: dict[str, bytes], times: int, time: float | None) -> Attempt | None:
        address = packed(parts["address"])
        if address is None:
            return None
        if time is None:
            self.skipped += 1
            return None
        times = min(times * int(parts.get("times", b"1")), MOST_TIMES)
        if port := parts.get("port"):
            times = self._connections.news((address, port), times, sign=failure.sign)
        return Attempt(time, address, failure.what, times) if times else None

    def _own_line(self, pattern: re.Pattern[str], form: str, line: bytes, time: float | None) -> Attempt | None:
        text = line.decode("utf-8", "replace")
        found = pattern.fullmatch(text)
        address = packed((found["address"] or "").encode("utf-8", "replace")) if found else None
        if found is None or address is None:
            return None
        if time is None:
            time = self._own_time(text, form, found.groupdict().get("date"))
        if time is None and self._undated:
            time = self._dates.now
        if time is None:
            self.skipped += 1
            return None
        return Attempt(time, address, "pattern")

    def _own_time(self, text: str, form: str, date: str | None) -> float | None:
        """When the operator's own line was written: in the group `date`, or at its head."""
        if form:
            shape = parse_date_form(form)
            found = shape.match(text) if date is None else shape.fullmatch(date)
            return read_as(found[0], form, self._zone, self._dates.now) if found else None
        if date is None:
            known = _HEAD.match(text.encode("utf-8", "replace"))
            return self._dates.read(known[1]) if known else None
        return self._dates.read(date.encode("utf-8", "replace"))


def _service(program: bytes) -> bytes:
    """The program without its instance: `postfix-out/submission/smtpd` is `postfix/smtpd`."""
    head, slash, rest = program.partition(b"/")
    return head.partition(b"-")[0] + b"/" + rest.rpartition(b"/")[2] if slash else program


def _bytes(value: object) -> bytes:
    """A field of the journal: text, or a list of bytes if it is none."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, list):
        return bytes(value)
    raise TypeError
