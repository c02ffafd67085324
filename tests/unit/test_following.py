"""Logs are read as they grow, whatever logrotate does; on real files, and with a journalctl of our own."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from markway.director.following import LONGEST_LINE, FileFollower, JournalFollower, follow_file


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "auth.log"
    path.write_bytes(b"old\n")
    return path


def add(path, data):
    with path.open("ab") as file:
        file.write(data)


def all_of(follower):
    """All lines that are there."""
    lines = follower.read()
    while follower.behind:
        lines += follower.read()
    return lines


def test_it_begins_at_the_end_and_reads_what_comes(log):
    follower = FileFollower(str(log))
    assert follower.read() == []
    add(log, b"one\ntwo\nthr")
    assert follower.read() == [b"one", b"two"]
    add(log, b"ee\n\n")
    assert follower.read() == [b"three", b""]
    follower.close()


def test_a_file_that_is_moved_away_is_read_to_its_end_and_the_new_one_from_its_beginning(log):
    follower = FileFollower(str(log))
    add(log, b"one\nhal")
    assert follower.read() == [b"one"]
    old = log.rename(log.with_suffix(".log.1"))
    add(old, b"f\n")
    log.write_bytes(b"new\n")
    assert follower.read() == [b"half", b"new"]
    add(old, b"late\n")  # its writer has not been told yet
    add(log, b"newer\n")
    assert follower.read() == [b"late", b"newer"]


def files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_that_was_moved_away_is_closed_in_time(log):
    follower = FileFollower(str(log))
    before = files()
    for number in range(3):
        log.rename(log.with_suffix(f".{number}"))
        log.write_bytes(b"new\n")
        assert follower.read() == [b"new"]
    for _ in range(30):
        assert follower.read() == []
    assert files() == before
    follower.close()
    assert files() == before - 1


def test_old_logs_that_are_compressed_are_not_read(log):
    follower = FileFollower(str(log))
    add(log, b"one\n")
    assert follower.read() == [b"one"]
    old = log.rename(log.with_suffix(".1"))
    log.with_suffix(".1.gz").write_bytes(gzip.compress(old.read_bytes()))
    old.unlink()
    log.write_bytes(b"")
    assert follower.read() == []
    add(log, b"two\n")
    assert follower.read() == [b"two"]


@pytest.mark.parametrize("again", [b"new\n", b"n" * 100 + b"\nnew\n"], ids=["shorter", "longer already"])
def test_a_file_that_is_truncated_is_read_from_its_beginning(log, again):
    follower = FileFollower(str(log))
    add(log, b"one\ntw")
    assert follower.read() == [b"one"]
    shutil.copy(log, log.with_suffix(".1"))
    with log.open("r+b") as file:  # as copytruncate: the same file
        file.truncate(0)
        file.write(again)
    assert follower.read()[-1] == b"new"


def test_a_file_may_come_later_and_go_meanwhile(tmp_path):
    path = tmp_path / "later.log"
    follower = FileFollower(str(path))
    assert follower.read() == []
    assert "No such file" in follower.problem
    assert follower.position is None
    path.write_bytes(b"first\n")
    assert follower.read() == [b"first"]
    assert follower.problem == ""
    path.rename(tmp_path / "gone")
    assert follower.read() == []
    path.write_bytes(b"second\n")
    assert follower.read() == [b"second"]


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        follower = FileFollower(str(path))
        assert follower.read() == []
        assert "no plain file" in follower.problem


def test_it_goes_on_where_it_stopped(log):
    follower = FileFollower(str(log))
    add(log, b"one\ntwo, whi")
    assert follower.read() == [b"one"]
    position = follower.position
    follower.close()
    add(log, b"ch is longer\nthree\n")
    assert FileFollower(str(log), position).read() == [b"two, which is longer", b"three"]
    log.write_bytes(b"x" * 100 + b"\nother\n")
    assert FileFollower(str(log), position).read() == [b"x" * 100, b"other"]
    log.unlink()
    log.with_suffix(".x").write_bytes(b"keeps its inode from coming back")
    log.write_bytes(b"another file\n")
    assert FileFollower(str(log), position).read() == [b"another file"]


def test_a_line_that_is_too_long_is_skipped_as_a_whole(log):
    follower = FileFollower(str(log))
    add(log, b"x" * (LONGEST_LINE + 1))
    assert follower.read() == []
    add(log, b"a line of its own?")
    assert follower.read() == []
    add(log, b"\nnext\n" + b"y" * (3 * LONGEST_LINE) + b"\nlast\n")
    assert all_of(follower) == [b"next", b"last"]
    assert follower.skipped == 2


def test_the_rest_of_a_line_is_none(log):
    add(log, b"user wrote: ")
    follower = FileFollower(str(log))
    add(log, b"Failed password\ntrue\n")
    assert follower.read() == [b"true"]


def test_much_is_read_bit_by_bit(log):
    follower = FileFollower(str(log))
    lines = [b"%d" % number for number in range(20000)]
    add(log, b"\n".join(lines) + b"\n")
    assert follower.read(1000) == lines[:277]
    assert follower.behind
    assert all_of(follower) == lines[277:]


def test_lines_are_told_as_they_come(log):
    async def followed():
        told: asyncio.Queue[list[bytes]] = asyncio.Queue()
        task = asyncio.create_task(follow_file(FileFollower(str(log)), told.put_nowait))
        await asyncio.sleep(0)
        add(log, b"one\n")
        first = await asyncio.wait_for(told.get(), 30)
        task.cancel()
        return first

    assert asyncio.run(followed()) == [b"one"]


JOURNALCTL = """#!/bin/sh
echo "$@" >> {folder}/asked
{then}
"""


@pytest.fixture
def journalctl(tmp_path, monkeypatch):
    """A journalctl that does what the test says; gives what it was asked."""

    def made(then):
        program = tmp_path / "bin" / "journalctl"
        program.parent.mkdir(exist_ok=True)
        program.write_text(JOURNALCTL.format(folder=tmp_path, then=then))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return lambda: (tmp_path / "asked").read_text().splitlines()

    return made


async def until(follower, tell, over):
    """Follow until something holds."""
    task = asyncio.create_task(follower.follow(tell))
    async with asyncio.timeout(30):
        while not over():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_the_journal_is_read_from_the_last_record_on(journalctl):
    records = [json.dumps({"__CURSOR": cursor, "MESSAGE": "x"}) for cursor in ("s=1;i=1", "s=1;i=2")]
    asked = journalctl("printf '%s\\n' '" + "' '".join(records) + "' broken; exec sleep 1000")
    follower = JournalFollower("ssh.service")
    told: list[bytes] = []
    asyncio.run(until(follower, told.extend, lambda: len(told) == 3))
    assert told == [*(record.encode() for record in records), b"broken"]
    assert follower.cursor == "s=1;i=2"
    assert "--lines=0" in asked()[0]
    assert follower.command()[-2:] == ["--after-cursor=s=1;i=2", "--unit=ssh.service"]


def test_a_journalctl_that_fails_is_started_again(journalctl, monkeypatch):
    monkeypatch.setattr("markway.director.following._PATIENCE", 0.01)
    asked = journalctl("echo 'No journal files were opened' >&2; exit 1")
    follower, problems = JournalFollower("ssh.service"), set()

    def twice():
        problems.add(follower.problem)
        return len(problems - {""}) == 1 and len(asked()) > 1

    asyncio.run(until(follower, print, lambda: twice() if follower.problem else False))
    assert problems == {"journalctl has ended: No journal files were opened"}


def test_a_machine_without_a_journal_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    follower = JournalFollower("ssh.service")
    asyncio.run(until(follower, print, lambda: follower.problem))
    assert follower.problem == "the journal cannot be read: there is no journalctl"
