"""Telling systemd how the daemon is: sd_notify(3), in its own few lines."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> None:
    """Send states such as `READY=1`; does nothing if nobody asked for them (NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket: unix(7)
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK  # who does not read must not stop us
    with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as opened:
        opened.connect(address)  # if systemd restarts, it will ask again
        opened.send("\n".join(lines).encode())


def watchdog_interval() -> float | None:
    """Seconds between two signs of life that systemd wants, half of its patience; None if it wants none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 2e6 if microseconds.isdigit() and mine else None
