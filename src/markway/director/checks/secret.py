"""Files that checks read: passwords. A file is read anew when it has changed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


def version(path: str) -> tuple[int, ...]:
    """Another one whenever the file has changed; OSError if it is not there."""
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def password(path: str) -> str:
    """The password in a file, without the line's end; empty for no file. OSError if it cannot be read."""
    return _read(path, version(path)) if path else ""


@lru_cache(maxsize=256)
def _read(path: str, _version: tuple[int, ...]) -> str:
    return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
