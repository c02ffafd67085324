"""What a lab consists of: hosts, their devices, addresses, routes and servers. Values only.

        mw-NAME-client1    mw-NAME-client2
              |eth0              |eth0
        ======+========+=========+======  bridge "clients"
                       |eth0
                mw-NAME-director          lo: every listener address, every chosen source
                       |eth1 (eth2 ...)
        ======+========+=========+======  bridge "lan1" ("lan2" ...)
              |eth0              |eth0
          mw-NAME-a          mw-NAME-b    one host for each backend, with real servers

Each host is a network namespace. The bridges have one of their own, `mw-NAME-switch`, so that the
director's packets meet nothing but routing; the machine's own namespace gets no device at all.
Backends whose prefixes (/24, /64) meet on one host share a bridge, hence one LAN for both families.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.config.model import Address, Network, Protocol

AddressWithPrefix: TypeAlias = IPv4Interface | IPv6Interface

PREFIX = "mw-"
SWITCH = "switch"
DIRECTOR = "director"
CLIENTS = ("client1", "client2")

_NAME = re.compile(r"[a-z0-9_]{1,32}")


class LabError(Exception):
    """A lab cannot be planned, built, found or removed; the message says why and what to do."""


class Role(StrEnum):
    """What a host is for; it decides the host's kernel settings."""

    DIRECTOR = "director"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Device:
    """A network device of a host, plugged into a bridge."""

    name: str
    bridge: str
    addresses: tuple[AddressWithPrefix, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """The way `to` a network; `via` None means that every address of it is the host's own (on lo)."""

    to: Network
    via: Address | None


@dataclass(frozen=True, slots=True)
class Server:
    """Something that answers `answer` on a port, on every address of its host.

    `ftp` servers have it in the file `server`.
    """

    protocol: Protocol
    port: int
    answer: str
    ftp: bool = False


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the lab; `loopback` are addresses on its lo."""

    name: str
    role: Role
    devices: tuple[Device, ...]
    loopback: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    servers: tuple[Server, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses on its devices, without prefix lengths, in the order of the devices."""
        return tuple(address.ip for device in self.devices for address in device.addresses)


@dataclass(frozen=True, slots=True)
class Topology:
    """A whole lab: its hosts (director first, then clients, then servers) and bridges."""

    name: str
    hosts: tuple[Host, ...]
    bridges: tuple[str, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The names of all namespaces, the switch's first."""
        return (namespace(self.name, SWITCH), *(namespace(self.name, host.name) for host in self.hosts))

    def host(self, name: str) -> Host:
        """The host of this name; LabError when there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f'lab "{self.name}" has no host "{name}"; it has {known}')


def namespace(lab: str, host: str) -> str:
    """The name of a host's namespace.

    A lab's name has no "-" in it, so that no lab's prefix is the beginning of another's.
    """
    return f"{PREFIX}{lab}-{host}"


def served(servers: Iterable[Server]) -> list[str]:
    """What servers serve, in words: `80,8000-8010/tcp`, `21/tcp (FTP)`."""
    kinds: dict[str, list[int]] = {}
    for server in servers:
        kinds.setdefault(f"/{server.protocol}{' (FTP)' if server.ftp else ''}", []).append(server.port)
    return [_ranges(sorted(set(ports))) + kind for kind, ports in kinds.items()]


def _ranges(ports: list[int]) -> str:
    # Neighbours have the same distance from their place in the list.
    groups = groupby(enumerate(ports), key=lambda item: item[1] - item[0])
    spans = [[port for _, port in group] for _, group in groups]
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


def check_name(lab: str) -> None:
    """LabError unless this can be a lab's name."""
    if not _NAME.fullmatch(lab):
        raise LabError(f'"{lab}" cannot name a lab: use 1 to 32 of a-z, 0-9 and _')
