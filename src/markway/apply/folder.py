"""The state folder itself: files that are replaced whole, and locks between the commands and the daemon."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GLANCE = 0.2
"""Seconds: whoever only looks whether a daemon runs (`is_attended`) has the daemon's lock for a moment."""


class BusyError(RuntimeError):
    """Another command holds the lock."""


class StoreError(RuntimeError):
    """The state folder cannot be used."""


def boot_clock() -> float:
    """Seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def this_boot() -> str:
    """The kernel's name for the time since it was booted: random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Folder:
    """A folder of records. Those that cannot be read raise StoreError."""

    def __init__(self, folder: Path, *, lazy: bool = False) -> None:
        """Use this folder; it is made when first written to.

        A `lazy` store, of a process that stays, keeps in memory until `flush` what others can do without: what was
        verified, and counts for the shares in `status`.
        """
        self.folder = folder
        self._lazy = lazy
        self._kept: dict[str, Any] = {}

    def flush(self) -> None:
        """Write what a lazy store has kept in memory."""
        kept, self._kept = self._kept, {}
        for name, record in kept.items():
            self.write(name, json.dumps(record), durable=False)

    def forget(self) -> None:
        """Drop what a lazy store has kept in memory, because another process knows better."""
        self._kept = {}

    @contextmanager
    def locked(self, wait: float, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Keep other commands out.

        Args:
            wait: seconds to wait for another command to end.
            waiting: is told once who is waited for.

        Raises:
            BusyError: it did not end in time.
            StoreError: the folder cannot be written.
        """
        descriptor = self._open("lock")
        try:
            self._take(descriptor, wait, waiting, "another markway command (process {}) is changing this machine")
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot use {self.folder}: {error.strerror}") from error

    def _take(self, descriptor: int, wait: float, waiting: Callable[[str], None], busy: str) -> None:
        end, told = boot_clock() + wait, False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
                if boot_clock() >= end:
                    raise BusyError(busy.format(holder)) from None
                if not told:
                    waiting(f"waiting for another markway command (process {holder})")
                    told = True
                time.sleep(0.02)
            else:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Be the daemon that looks after this namespace.

        Raises:
            BusyError: there is one.
            StoreError: the folder cannot be written.
        """
        descriptor = self._open("daemon")
        try:
            self._take(descriptor, _GLANCE, lambda _: None, "markway run (process {}) looks after this machine already")
            yield
        finally:
            os.close(descriptor)

    def is_attended(self) -> bool:
        """Whether a daemon looks after this namespace, from its first moment to its last."""
        try:
            descriptor = os.open(self.folder / "daemon", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def broken(self, name: str, error: Exception) -> StoreError:
        """The error for a file that says what no version of ours has written, or another one."""
        return StoreError(f"{self.folder / name} is broken: {error!r}; move it away to start afresh")

    def read(self, name: str) -> Any:
        """A record; None if it was never written."""
        path, kept = self.folder / name, self._kept  # another thread may flush meanwhile
        if name in kept:
            return kept[name]
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}; move it away to start afresh") from error

    def keep(self, name: str, record: Any) -> None:
        """Write a record that others can do without: a lazy one at the next `flush`."""
        if self._lazy:
            self._kept[name] = record
        else:
            self.write(name, json.dumps(record), durable=False)

    def write(self, name: str, text: str, *, durable: bool = True) -> None:
        """Replace a file whole: a reader sees the old one or the new one.

        What only speaks of the kernel's present program need not be `durable`: a reboot ends both.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f".{name}.{os.getpid()}"
        try:
            with open(_private(fresh), "w") as file:
                file.write(text)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            fresh.replace(self.folder / name)
        finally:
            fresh.unlink(missing_ok=True)


def _private(path: Path) -> int:
    """A new file that only its owner may read: a configuration says whom to ask, and how."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
