"""Times of log lines: every form, years that nobody writes, and days that are not in every year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from markway.guard.dates import Dates, read_as

BERLIN = ZoneInfo("Europe/Berlin")


def at(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"Jan  2 03:04:05", at(2026, 1, 2, 3, 4, 5)),
        (b"2024-01-02T03:04:05", at(2024, 1, 2, 3, 4, 5)),
        (b"2024-01-02 03:04:05,25", at(2024, 1, 2, 3, 4, 5, 250000)),
        (b"2024-01-02T03:04:05.5Z", at(2024, 1, 2, 3, 4, 5, 500000)),
        (b"2024-01-02T03:04:05-03:30", at(2024, 1, 2, 6, 34, 5)),
        (b"2024-01-02T03:04:05+0200", at(2024, 1, 2, 1, 4, 5)),
        (b"2024/01/02 03:04:05", at(2024, 1, 2, 3, 4, 5)),
        (b"02/Jan/2024:03:04:05 +0100", at(2024, 1, 2, 2, 4, 5)),
        (b"Tue Jan 02 03:04:05.123456 2024", at(2024, 1, 2, 3, 4, 5, 123456)),
        (b"Tue Jan  2 03:04:05 2024", at(2024, 1, 2, 3, 4, 5)),
        (b"Feb 29 03:04:05", at(2024, 2, 29, 3, 4, 5)),
        (b"Feb 30 03:04:05", None),
        (b"Foo 12 03:04:05", None),
        (b"2024-13-02T03:04:05", None),
        (b"2024-01-02T25:04:05", None),
        (b"0000-01-02T03:04:05", None),
        (b"2024-01-02T03:04:05+99:00", None),
        (b"yesterday", None),
        (b"", None),
        (b"\xff" * 40, None),
    ],
)
def test_every_form_is_read(text, found):
    assert Dates(UTC, at(2026, 3, 1)).read(text) == found


@pytest.mark.parametrize(
    ("now", "text", "year"),
    [
        (at(2026, 1, 1, 0, 0, 10), b"Dec 31 23:59:59", 2025),
        (at(2026, 1, 1, 0, 0, 10), b"Jan  1 00:00:05", 2026),
        (at(2025, 12, 31, 23, 59, 50), b"Jan  1 00:00:05", 2026),
        (at(2026, 6, 1), b"Jun  1 12:00:00", 2026),
        (at(2026, 6, 1), b"Jun  2 12:00:00", 2025),
    ],
)
def test_a_time_without_a_year_is_the_last_such_time(now, text, year):
    found = Dates(UTC, now).read(text)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).year == year


def test_a_year_passes_between_two_equal_times():
    dates = Dates(UTC, at(2025, 1, 2, 3, 4, 6))
    assert dates.read(b"Jan  2 03:04:05") == at(2025, 1, 2, 3, 4, 5)
    dates.passed(at(2026, 1, 2, 3, 4, 6))
    assert dates.read(b"Jan  2 03:04:05") == at(2026, 1, 2, 3, 4, 5)


def test_summer_time_is_the_zones():
    dates = Dates(BERLIN, at(2026, 12, 1))
    assert dates.read(b"Jul  1 12:00:00") == at(2026, 7, 1, 10)
    assert dates.read(b"Nov  1 12:00:00") == at(2026, 11, 1, 11)
    assert dates.read(b"2026-07-01T12:00:00Z") == at(2026, 7, 1, 12)


@pytest.mark.parametrize(
    ("text", "form", "found"),
    [
        ("1700000000.5", "%s", 1700000000.5),
        ("2024-02-03 04:05", "%Y-%m-%d %H:%M", at(2024, 2, 3, 4, 5)),
        ("03.02. 04:05", "%d.%m. %H:%M", at(2026, 2, 3, 4, 5)),
        ("29.02. 04:05", "%d.%m. %H:%M", at(2024, 2, 29, 4, 5)),
        ("31.12. 04:05", "%d.%m. %H:%M", at(2025, 12, 31, 4, 5)),
        ("2024-02-03 04:05 +0100", "%Y-%m-%d %H:%M %z", at(2024, 2, 3, 3, 5)),
        ("2024-02-31 04:05", "%Y-%m-%d %H:%M", None),
        ("31.02. 04:05", "%d.%m. %H:%M", None),
    ],
)
def test_an_own_form_is_read(text, form, found):
    assert read_as(text, form, timezone(timedelta(0)), at(2026, 3, 1)) == found
