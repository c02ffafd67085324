"""Events as lines of a log, for people and for machines."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from markway.director.events import Noted

_PRIORITIES = {"error": 3, "down": 4, "warning": 4, "mended": 4}
_NOTICE = 5
"""What syslog(3) calls these; systemd reads them in front of a line: sd-daemon(3)."""


def text(noted: Noted, *, clock: bool) -> str:
    """`down web/a connection refused`, with the time in front where nobody else adds it."""
    event = noted.event
    at = datetime.fromtimestamp(noted.at, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3] + " " if clock else ""
    return " ".join(part for part in (f"{at}{event.kind:<8}", event.name, event.text) if part)


def as_json(noted: Noted) -> str:
    """The event's record on one line."""
    return json.dumps(noted.record, separators=(",", ":"))


def journal(form: str, out: TextIO = sys.stderr, *, systemd: bool = False) -> Callable[[Noted], None]:
    """A function that writes events to `out`.

    Args:
        form: `text` or `json`.
        out: where to.
        systemd: whether the journal reads it: then it has the priority in front, and no time.
    """

    def tell(noted: Noted) -> None:
        line = as_json(noted) if form == "json" else text(noted, clock=not systemd)
        priority = f"<{_PRIORITIES.get(noted.event.kind, _NOTICE)}>" if systemd else ""
        with suppress(OSError):  # a log that cannot be written is no reason to end
            print(f"{priority}{line}", file=out, flush=True)

    return tell
