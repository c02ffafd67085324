"""The journal itself: what journalctl gives of a real one is followed from record to record, and understood."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from datetime import UTC
from ipaddress import ip_address

import pytest

from markway.config.guarding import LogFormat, LogSource
from markway.director.following import JournalFollower
from markway.guard.logs import Attempt, Reader

pytestmark = pytest.mark.kernel

RECORD = """__REALTIME_TIMESTAMP={second}000000
_SYSTEMD_UNIT={unit}.service
SYSLOG_IDENTIFIER=sshd
MESSAGE=Failed password for root from 192.0.2.{second} port 4 ssh2

"""


def write(folder, unit, second):
    """Have the journal's own program write a record."""
    subprocess.run(
        ["/lib/systemd/systemd-journal-remote", "-o", folder / "a.journal", "-"],
        input=RECORD.format(unit=unit, second=second).encode(), check=True, capture_output=True,
    )  # fmt: skip


async def next_attempt(follower, then):
    """Do something, and what the journal says next of it."""
    log = Reader(LogSource(LogFormat.SSHD, journal="ssh.service"), UTC, 0.0)
    told: asyncio.Queue[Attempt | None] = asyncio.Queue()

    def tell(records):
        for record in records:
            told.put_nowait(log.record(record))

    task = asyncio.create_task(follower.follow(tell))
    writing = asyncio.create_task(then())
    found = await asyncio.wait_for(told.get(), 60)
    for each in (task, writing):
        each.cancel()
        with suppress(asyncio.CancelledError):
            await each
    return found


def test_the_journal_is_followed_from_record_to_record(tmp_path):
    write(tmp_path, "ssh", 1)

    async def write_again():
        for second in range(2, 60):  # journalctl says nothing of when it has begun to follow
            await asyncio.to_thread(write, tmp_path, "other", 100)
            await asyncio.to_thread(write, tmp_path, "ssh", second)
            await asyncio.sleep(1)

    there = f"--directory={tmp_path}", "--merge"  # else it is for records of this boot
    follower = JournalFollower("ssh.service", "", *there)
    found = asyncio.run(next_attempt(follower, write_again))
    assert found is not None
    assert found.what == "password"
    second = int(found.time)
    assert 2 <= second < 60
    assert found.address == ip_address(f"192.0.2.{second}").packed

    async def nothing():
        pass

    write(tmp_path, "ssh", 70)
    later = JournalFollower("ssh.service", follower.cursor, *there)
    missed = asyncio.run(next_attempt(later, nothing))
    assert missed is not None
    assert second < missed.time <= 70
