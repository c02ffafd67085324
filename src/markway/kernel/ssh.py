"""The ssh connection that a command is run from."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv6Address

_VARIABLE = "SSH_CONNECTION"


class Session(NamedTuple):
    """An ssh connection: the device that it comes in by, its client, and where it arrives."""

    device: str
    client: IPv4Address | IPv6Address
    server: IPv4Address | IPv6Address
    port: int


def session() -> Session | None:
    """The connection, as `SSH_CONNECTION` (ssh(1)) tells it to this process or to one that it descends from.

    sudo(8) keeps the variable from a command. None without one, and if it does not arrive in this network namespace.
    The device is that of the route back.
    """
    for value in _told():
        words = value.split()
        with suppress(ValueError, IndexError):
            client, server, port = _address(words[0]), _address(words[2]), int(words[3])
            device = _device(client, server)
            return Session(device, client, server, port) if device else None
    return None


def _told() -> Iterator[str]:
    """The variable in this process and in those above it, the nearest first."""
    if _VARIABLE in os.environ:
        yield os.environ[_VARIABLE]
    pid = os.getppid()
    while pid > 1:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        for item in environment.split(b"\0"):
            name, _, value = item.decode(errors="replace").partition("=")
            if name == _VARIABLE:
                yield value
        pid = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")), 0)


def _address(text: str) -> IPv4Address | IPv6Address:
    """Without the scope of a link-local one, and IPv4 in IPv6 as what it is."""
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _device(client: IPv4Address | IPv6Address, server: IPv4Address | IPv6Address) -> str:
    """By which device an answer would leave; empty if the server's address is not this namespace's."""
    asked = ["ip", "-j", "route", "get", str(client), "from", str(server)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        return ""
    found = json.loads(done.stdout or "[]")
    return str(found[0].get("dev", "")) if found else ""
