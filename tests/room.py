"""Processes of tests side by side (pytest-xdist), and tests that must be alone."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOM = Path(__file__)
_DOOR = Path(__file__).with_name("conftest.py")


@contextmanager
def room(*, alone: bool) -> Iterator[None]:
    """Share it with other tests of this clone, or have it alone.

    Whoever waits for it stands in the door, so that those who come later do not get in before.
    """
    with _ROOM.open() as here, _DOOR.open() as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(here, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(here, fcntl.LOCK_UN)  # closing alone leaves it to a child that has the file, too
