"""Build a planned lab on this machine, find the labs there are, and remove them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING

from markway.kernel import netns
from markway.lab import servers
from markway.lab.topology import PREFIX, SWITCH, Host, LabError, Role, Topology, check_name, namespace, served

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_DIRECTORY = Path("/run/markway/labs")
STATE_DIRECTORY = Path("/run/markway/netns")
"""Where Markway keeps the state of each named namespace (see `markway.apply.place`)."""

_STATE_VARIABLE = "MARKWAY_STATE_DIR"
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # a plain `su` leaves them out

# Addresses are good at once, and nobody asks for or believes router advertisements.
# Every refusal is told: a client can count the refused apart from the dropped.
_EVERY_HOST = {
    f"ipv6/conf/{which}/{key}": "0" for which in ("all", "default") for key in ("accept_dad", "accept_ra")
} | {"ipv4/icmp_ratemask": "0", "ipv6/icmp/ratemask": "0"}
_ROLE = {
    Role.DIRECTOR: {
        "ipv4/ip_forward": "1",
        "ipv6/conf/all/forwarding": "1",
        "ipv6/conf/default/forwarding": "1",
        "ipv4/conf/all/rp_filter": "0",
        "ipv4/conf/default/rp_filter": "0",
    },
    # Many ports to connect from, and IPv6 connections from any address of the client's networks.
    Role.CLIENT: {"ipv4/ip_local_port_range": "1024 65535", "ipv6/ip_nonlocal_bind": "1"},
    Role.SERVER: {"core/somaxconn": "4096"},
}
_SWITCH = {"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1"}


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a lab that is up, or half up (`ready` False: it was interrupted)."""

    name: str
    ready: bool
    created: float  # seconds since the epoch
    hosts: dict[str, tuple[str, ...]]  # name to addresses, in the topology's order
    servers: dict[str, tuple[str, ...]]  # name to what it serves, as "80,8000-8010/tcp"


def up(topology: Topology) -> None:
    """Build the lab and start its servers; it is ready to use on return.

    LabError or NetnsError when that fails; everything made until then is removed.
    """
    check_name(topology.name)
    _claim(topology)
    try:
        _build(topology)
        servers.start(topology.name, topology.hosts, directory(topology.name), environment(topology.name))
        _write(topology, ready=True)
    except BaseException:
        down(topology.name)
        raise


def down(name: str) -> list[int]:
    """Remove a lab, whole or half-built: its processes, namespaces and files.

    Returns the processes in its namespaces that are not the lab's and were left alone: they keep
    their (now nameless) namespace until they end. LabError when there is no such lab.
    """
    check_name(name)
    spaces = netns.names(namespace(name, ""))
    if not spaces and not directory(name).exists():
        raise _missing(name)
    strangers = servers.stop(name, spaces)
    netns.delete(spaces)
    _forget_state(name)
    shutil.rmtree(directory(name), ignore_errors=True)
    _record_path(name).unlink(missing_ok=True)
    return strangers


def names() -> list[str]:
    """The labs on this machine, half-built ones too, sorted."""
    recorded = {path.stem for path in RUN_DIRECTORY.glob("*.json")}
    spaces = (space.removeprefix(PREFIX).partition("-") for space in netns.names(PREFIX))
    return sorted(recorded | {lab for lab, dash, _ in spaces if dash})


def record(name: str) -> Record:
    """What is known of a lab; LabError when there is none of this name."""
    check_name(name)
    try:
        found = json.loads(_record_path(name).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        hosts = [space.removeprefix(namespace(name, "")) for space in netns.names(namespace(name, ""))]
        if not hosts:
            raise _missing(name) from error
        return Record(name, ready=False, created=0.0, hosts=dict.fromkeys(hosts, ()), servers={})
    return Record(
        name=name,
        ready=found["ready"],
        created=found["created"],
        hosts={host: tuple(addresses) for host, addresses in found["hosts"].items()},
        servers={host: tuple(served) for host, served in found["servers"].items()},
    )


def directory(name: str) -> Path:
    """Where a lab keeps its files: a directory for each host that serves something."""
    return RUN_DIRECTORY / name


def environment(name: str) -> dict[str, str]:
    """The environment for every process in a lab: ours and the lab's name; `markway` and `python` are this Markway's.

    The state of Markway in a lab is its namespace's own, whatever the caller uses for himself.
    """
    inherited = {key: value for key, value in os.environ.items() if key != _STATE_VARIABLE}
    path = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    path += [place for place in _SYSTEM_PATH if place not in path]
    return inherited | {servers.LAB_VARIABLE: name, "PATH": os.pathsep.join(path)}


def command() -> str:
    """How to call the `markway` beside the Python that runs this: as short as works from here."""
    path = Path(sys.executable).with_name("markway")
    found = shutil.which("markway")
    if found and Path(found).resolve() == path.resolve():
        return "markway"
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return str(path)


def _claim(topology: Topology) -> None:
    """Write the record before anything is made: an interrupted `up` can be cleaned from it."""
    RUN_DIRECTORY.mkdir(parents=True, exist_ok=True)
    try:
        directory(topology.name).mkdir()
    except FileExistsError as error:
        raise _exists(topology.name) from error
    if netns.names(namespace(topology.name, "")):
        directory(topology.name).rmdir()
        raise _exists(topology.name)
    _forget_state(topology.name)
    _write(topology, ready=False)


def _forget_state(name: str) -> None:
    """Remove what Markway kept of the lab's namespaces; a new lab must not find it."""
    for folder in STATE_DIRECTORY.glob(namespace(name, "*")):
        shutil.rmtree(folder, ignore_errors=True)


def _exists(name: str) -> LabError:
    return LabError(f'a lab "{name}" exists; remove it ({command()} lab down {name}) or choose another --name')


def _missing(name: str) -> LabError:
    known = ", ".join(names())
    return LabError(f'no lab is called "{name}" ({f"up: {known}" if known else "none is up"})')


def _write(topology: Topology, *, ready: bool) -> None:
    found = {
        "name": topology.name,
        "ready": ready,
        "created": time.time(),
        "hosts": {
            host.name: [str(address) for address in (*host.addresses, *host.loopback)] for host in topology.hosts
        },
        "servers": {host.name: served(host.servers) for host in topology.hosts},
    }
    path = _record_path(topology.name)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def _record_path(name: str) -> Path:
    return RUN_DIRECTORY / f"{name}.json"


def _build(topology: Topology) -> None:
    netns.create(topology.namespaces)
    switch = namespace(topology.name, SWITCH)
    netns.sysctl(switch, _SWITCH)
    for host in topology.hosts:
        netns.sysctl(namespace(topology.name, host.name), _EVERY_HOST | _ROLE[host.role])
    netns.ip(switch, list(_switch_lines(topology)))
    for host in topology.hosts:
        netns.ip(namespace(topology.name, host.name), list(_host_lines(host)))


def _switch_lines(topology: Topology) -> Iterator[str]:
    for bridge in topology.bridges:
        # Without snooping: it would hold IPv6 neighbour discovery back until a querier speaks.
        yield f"link add {bridge} up type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    ports = ((host, device) for host in topology.hosts for device in host.devices)
    for number, (host, device) in enumerate(ports):
        peer = f"peer name {device.name} netns {namespace(topology.name, host.name)}"
        yield f"link add port{number} type veth {peer}"
        yield f"link set port{number} master {device.bridge} up"


def _host_lines(host: Host) -> Iterator[str]:
    yield "link set lo up"
    for address in host.loopback:
        nodad = " nodad" if isinstance(address, IPv6Address) else ""
        yield f"addr add {address}/{address.max_prefixlen} dev lo{nodad}"
    for device in host.devices:
        yield f"link set {device.name} up"
        for interface in device.addresses:
            nodad = " nodad" if isinstance(interface, IPv6Interface) else ""
            yield f"addr add {interface} dev {device.name}{nodad}"
    for route in host.routes:
        if route.via is None:
            yield f"route add local {route.to} dev lo"
        else:
            yield f"route add {route.to} via {route.via}"
