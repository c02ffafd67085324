"""Reads logs as they grow: files that are rotated and truncated, and the journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LINE = 65536
"""Bytes of a line; what is longer is skipped, and counted."""

LOOK = 0.5
"""Seconds from one look at a file to the next."""

AT_ONCE = 1 << 18
"""Bytes that are read in one go; the rest comes with the next, so that the daemon goes on meanwhile."""

_REMEMBERED = 64
_KEPT = 4096  # bytes of what journalctl complains of
_PATIENCE = 5.0
"""Seconds after which a journalctl that has ended is started again."""

_OUTLIVES = 20
"""Looks without anything new after which a file that was moved away is closed."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file was read: which file it was, up to which byte, and the last bytes before that."""

    device: int
    inode: int
    offset: int
    before: bytes


class Lines:
    """Makes complete lines of what is read in pieces. Those that are too long are skipped as a whole."""

    def __init__(self) -> None:
        self.part = b""
        """What has come of a line that is not complete."""
        self.skipped = 0
        self._cut = False

    def begin(self, *, inside: bool = False) -> None:
        """Begin anew; perhaps inside a line, of which the rest is skipped then: it may look like one."""
        self.part, self._cut = b"", inside

    def take(self, data: bytes) -> list[bytes]:
        """The lines that are complete now."""
        lines = (self.part + data).split(b"\n")
        self.part = lines.pop()
        if self._cut and lines:
            del lines[0]
            self._cut = False
        if self._cut:
            self.part = b""
        elif len(self.part) > LONGEST_LINE:
            self.part, self._cut = b"", True
            self.skipped += 1
        short = [line for line in lines if len(line) <= LONGEST_LINE]
        self.skipped += len(lines) - len(short)
        return short


class _Opened:
    """One file that is open, and how far it is read."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self.file)
        if not stat.S_ISREG(status.st_mode):
            os.close(self.file)
            raise OSError(0, "it is no plain file", path)
        self.identity = status.st_dev, status.st_ino
        self.size = status.st_size
        self.offset = 0
        self.before = b""
        self.lines = Lines()
        self.quiet = 0

    def go(self, offset: int) -> None:
        """Read on from there."""
        start = max(0, offset - _REMEMBERED)
        self.offset, self.before = offset, os.pread(self.file, offset - start, start)
        self.lines.begin(inside=offset > 0 and not self.before.endswith(b"\n"))

    def read(self, most: int) -> tuple[list[bytes], int]:
        """Complete lines that came since, and how many bytes they took."""
        if self._changed():
            self.go(0)
        data = os.pread(self.file, most, self.offset)
        self.quiet = 0 if data else self.quiet + 1
        self.offset += len(data)
        self.before = (self.before + data[-_REMEMBERED:])[-_REMEMBERED:]
        return self.lines.take(data) if data else [], len(data)

    def _changed(self) -> bool:
        """Whether what was read is no longer what the file holds: it was truncated, and perhaps has grown again."""
        if os.fstat(self.file).st_size < self.offset:
            return True
        return os.pread(self.file, len(self.before), self.offset - len(self.before)) != self.before

    @property
    def position(self) -> Position:
        """Where the first line begins that is not complete."""
        left = len(self.lines.part)
        return Position(*self.identity, self.offset - left, self.before[: max(0, len(self.before) - left)])

    def close(self) -> None:
        os.close(self.file)


class FileFollower:
    """Reads the complete lines that are added to a file.

    A file that is moved away and made anew (logrotate's `create`) is read to its end, and for ten seconds more, for
    its writer may not know yet; the new one from its beginning. One that is truncated (`copytruncate`) is read from its
    beginning, which shows by its size, or by the bytes before the place that was read to. What is lost between the copy
    and the truncation is lost to everyone. A file that is not there, or may not be read, is waited for. Files that were
    moved away, compressed or not, are not looked for.
    """

    def __init__(self, path: str, position: Position | None = None) -> None:
        """Begin at the end of the file as it is now.

        Args:
            path: of the file, which may come later; then it is read from its beginning.
            position: how far it was read before. If it is another file now, it begins at its beginning.
        """
        self.path = path
        self.behind = False
        """Whether there was more than could be read at once."""
        self.problem = ""
        """Why the file cannot be read; empty if it can."""
        self._now: _Opened | None = None
        self._moved: list[_Opened] = []
        self._skipped = 0
        self._open()
        if self._now is None:
            return
        if position is None:
            self._now.go(self._now.size)
        elif self._now.identity == (position.device, position.inode) and self._now.size >= position.offset:
            self._now.go(position.offset)
            if not self._now.before.endswith(position.before):
                self._now.go(0)

    def _open(self) -> None:
        try:
            self._now = _Opened(self.path)
            self.problem = ""
        except OSError as error:
            self._now = None
            self.problem = f"{self.path} cannot be read: {error.strerror}"

    @property
    def position(self) -> Position | None:
        """How far the file is read, without a line that is not complete; None if there is none."""
        return self._now.position if self._now else None

    @property
    def skipped(self) -> int:
        """Lines that were too long."""
        return self._skipped + sum(opened.lines.skipped for opened in self._open_files())

    def _open_files(self) -> list[_Opened]:
        return [*self._moved, self._now] if self._now else [*self._moved]

    def read(self, most: int = AT_ONCE) -> list[bytes]:
        """The lines that have come, without their newlines; up to so many bytes at once."""
        self._look()
        lines: list[bytes] = []
        for opened in self._open_files():
            try:
                found, took = opened.read(most)
            except OSError as error:
                self.problem = f"{self.path} cannot be read: {error.strerror}"
                continue
            lines += found
            most -= took
        self.behind = most <= 0
        for opened in [opened for opened in self._moved if opened.quiet > _OUTLIVES]:
            self._moved.remove(opened)
            self._close(opened)
        return lines

    def _close(self, opened: _Opened) -> None:
        self._skipped += opened.lines.skipped
        opened.close()

    def _look(self) -> None:
        """See whether the path leads to another file now."""
        try:
            status = Path(self.path).stat()
        except OSError as error:
            if self._now is None:
                self.problem = f"{self.path} cannot be read: {error.strerror}"
            return
        if self._now is None:
            self._open()
        elif self._now.identity != (status.st_dev, status.st_ino):
            self._now.quiet = 0
            self._moved.append(self._now)
            self._open()

    def close(self) -> None:
        """Read no more."""
        for opened in self._open_files():
            self._close(opened)
        self._moved, self._now = [], None


async def follow_file(follower: FileFollower, tell: Callable[[list[bytes]], None]) -> None:
    """Tell the lines that are added to a file, for ever."""
    while True:
        if lines := follower.read():
            tell(lines)
        await asyncio.sleep(0 if follower.behind else LOOK)


class JournalFollower:
    """Reads the records of one systemd unit that are added to the journal, by journalctl(1); of this boot only."""

    def __init__(self, unit: str, cursor: str = "", *options: str) -> None:
        """Prepare.

        Args:
            unit: as `ssh.service`.
            cursor: of the last record that was read before; empty begins with the next one.
            options: more of journalctl's.
        """
        self.cursor = cursor
        """Of the last record that was told."""
        self.skipped = 0
        """Records that were too long, or no JSON."""
        self.problem = ""
        """Why the journal cannot be read; empty if it can."""
        self._unit, self._options = unit, options

    def command(self) -> list[str]:
        """What is run."""
        since = [f"--after-cursor={self.cursor}"] if self.cursor else ["--lines=0"]
        return ["journalctl", "--follow", "--output=json", "--no-pager", "--quiet", *since, *self._options,
                f"--unit={self._unit}"]  # fmt: skip

    async def follow(self, tell: Callable[[list[bytes]], None]) -> None:
        """Tell the records, for ever; a journalctl that ends is started again."""
        while True:
            try:
                await self._run(tell)
            except FileNotFoundError:
                self.problem = "the journal cannot be read: there is no journalctl"
            except OSError as error:
                self.problem = f"the journal cannot be read: {error.strerror}"
            await asyncio.sleep(_PATIENCE)

    async def _run(self, tell: Callable[[list[bytes]], None]) -> None:
        process = await asyncio.create_subprocess_exec(
            *self.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 - they are pipes
        assert process.stderr is not None  # noqa: S101
        self.problem = ""
        complaint = asyncio.create_task(_last_line(process.stderr))
        lines = Lines()
        try:
            while data := await process.stdout.read(AT_ONCE):
                if records := lines.take(data):
                    self._remember(records)
                    tell(records)
            status = await process.wait()
            self.problem = f"journalctl has ended: {await complaint or f'exit status {status}'}"
        finally:
            self.skipped += lines.skipped
            complaint.cancel()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _remember(self, lines: list[bytes]) -> None:
        for line in reversed(lines):
            try:
                self.cursor = str(json.loads(line)["__CURSOR"])
            except (ValueError, KeyError, TypeError, RecursionError):
                self.skipped += 1
            else:
                return


async def _last_line(stream: asyncio.StreamReader) -> str:
    kept = b""
    while data := await stream.read(_KEPT):
        kept = (kept + data)[-_KEPT:]
    return "".join(kept.decode(errors="replace").strip().splitlines()[-1:])
