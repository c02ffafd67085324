"""Times as logs write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo

TRADITIONAL = rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
"""RFC 3164, 4.1.2: `Jan  2 03:04:05`."""

ISO = rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d)?"
"""RFC 3339 and ISO 8601, as RFC 5424, 6.2.3 has it; without a zone, the log's."""

SLASHED = rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"
"""nginx's error log."""

COMMON = rb"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"
"""Access logs."""

CTIME = rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})? \d{4}"
"""ctime(3), as Apache and vsftpd have it."""

ANY = b"|".join((TRADITIONAL, ISO, SLASHED, COMMON, CTIME))

_TO_THE_MINUTE = re.compile(rb"(.*?[ T:]\d\d:\d\d):(\d\d)(?:[.,](\d+))?(.*)")
_HEADS = tuple(
    re.compile(head)
    for head in (
        rb"(?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<time>\d\d:\d\d)",
        rb"(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[T ](?P<time>\d\d:\d\d)",
        rb"(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<time>\d\d:\d\d)",
        rb"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<time>\d\d:\d\d)",
    )
)
_MONTHS = {
    name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}  # not strptime's, which speaks the machine's language
_ZONE = re.compile(rb" ?([+-])(\d\d):?(\d\d)")
_YEAR = re.compile(rb" (\d{4})")
_AHEAD = 86400.0
_YEARS_BACK = 9  # to the last 29th of February, also across the year 2100


class Dates:
    """Reads the times of one log's lines. The last minute is remembered: most lines are of the same."""

    def __init__(self, zone: tzinfo, now: float) -> None:
        """Begin.

        Args:
            zone: of times that do not say theirs.
            now: when the lines are read, in seconds since 1970. Times that do not say their year are at most a day
                after it, and less than a year before.
        """
        self._zone = zone
        self.now = now
        self._minute: tuple[bytes, bytes] = (b"", b"")
        self._begun: float | None = None

    def passed(self, now: float) -> None:
        """It is later now."""
        self.now = now
        self._minute = (b"", b"")

    def read(self, text: bytes) -> float | None:
        """Seconds since 1970 of a time in any of the forms above; None if there is no such time."""
        found = _TO_THE_MINUTE.fullmatch(text)
        if found is None:
            return None
        head, second, fraction, tail = found.groups()
        if self._minute != (head, tail):
            self._minute, self._begun = (head, tail), self._minute_begun(head, tail)
        if self._begun is None:
            return None
        return self._begun + int(second) + (float(b"." + fraction) if fraction else 0.0)

    def _minute_begun(self, head: bytes, tail: bytes) -> float | None:
        found = next(filter(None, (form.fullmatch(head) for form in _HEADS)), None)
        if found is None:
            return None
        parts = found.groupdict()
        zone, year = self._zone, parts.get("year")
        if at := _ZONE.fullmatch(tail):
            offset = timedelta(hours=int(at[2]), minutes=int(at[3]))
            if offset >= timedelta(days=1):
                return None
            zone = timezone(-offset if at[1] == b"-" else offset)
        elif tail == b"Z":
            zone = timezone.utc  # noqa: UP017 - the class is imported for offsets anyway
        elif at := _YEAR.fullmatch(tail):
            year = at[1]
        month = int(parts["month"]) if parts["month"].isdigit() else _MONTHS.get(parts["month"], 0)
        day, (hour, minute) = int(parts["day"]), map(int, parts["time"].split(b":"))
        if year is not None:
            return _stamp((int(year), month, day, hour, minute), zone)
        return self._latest(month, day, hour, minute, zone)

    def _latest(self, month: int, day: int, hour: int, minute: int, zone: tzinfo) -> float | None:
        """Without a year: the last such minute that can have been written."""
        this = datetime.fromtimestamp(self.now + _AHEAD, zone).year
        for year in range(this, this - _YEARS_BACK, -1):
            at = _stamp((year, month, day, hour, minute), zone)
            if at is not None and at <= self.now + _AHEAD:
                return at
        return None


def _stamp(minute: tuple[int, int, int, int, int], zone: tzinfo) -> float | None:
    try:
        return datetime(*minute, tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        return None


def read_as(text: str, form: str, zone: tzinfo, now: float) -> float | None:
    """Seconds since 1970 of a time in the operator's own form; a form without a year means the latest such time."""
    if form == "%s":
        return float(text)
    try:
        if "%Y" in form or "%y" in form:
            at = datetime.strptime(text, form.replace("%e", "%d"))  # noqa: DTZ007 - the zone is put in below
            return (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()
        this = datetime.fromtimestamp(now + _AHEAD, zone).year
        return _latest_as(text, form.replace("%e", "%d"), this, zone, now)
    except (ValueError, OverflowError):
        return None


def _latest_as(text: str, form: str, this: int, zone: tzinfo, now: float) -> float | None:
    for year in range(this, this - _YEARS_BACK, -1):
        try:
            at = datetime.strptime(f"{year} {text}", f"%Y {form}")  # noqa: DTZ007 - as above
        except ValueError:  # perhaps the 29th of February of another year
            continue
        stamp = (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()
        if stamp <= now + _AHEAD:
            return stamp
    return None
