"""Files that checks read: passwords. A file is read anew when it has changed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


def changed(path: str) -> int:
    """When a file last changed, in nanoseconds; OSError if it is not there."""
    return Path(path).stat().st_mtime_ns


def password(path: str) -> str:
    """The password in a file, without the line's end; empty for no file. OSError if it cannot be read."""
    return _read(path, changed(path)) if path else ""


@lru_cache(maxsize=256)
def _read(path: str, _changed: int) -> str:
    return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
