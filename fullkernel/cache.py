"""Kernels made once and kept outside the clone: by what they were made of, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def directory() -> Path:
    """Where kernels are kept, by the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "markway" / "kernel"


def key(*parts: str) -> str:
    """A name for what is made of these texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name; `make` fills it if it is not there yet.

    It appears under its name when it is complete, so that an interrupted build is never used. Of two
    processes that want the same one, the second waits for the first.
    """
    done = directory() / name
    if done.is_dir():
        return done
    with _locked(directory() / f"{name}.lock"):
        if done.is_dir():
            return done
        fresh = directory() / f"{name}.unfinished"
        shutil.rmtree(fresh, ignore_errors=True)  # an interrupted build's
        fresh.mkdir(parents=True)
        make(fresh)
        fresh.rename(done)
    return done


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is making this kernel; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """One line on standard error, which is not part of a test's output."""
    print(f"fullkernel: {text}", file=sys.stderr, flush=True)


def progress(lines: Iterable[str], what: str, every: float = 15.0) -> None:
    """Count lines while they come, and say how far it is now and then."""
    begun = last = time.monotonic()
    for number, _ in enumerate(lines, 1):
        now = time.monotonic()
        if now - last >= every:
            last = now
            say(f"{what}: {number:,} steps in {now - begun:.0f} s")
    say(f"{what}: done in {time.monotonic() - begun:.0f} s")
