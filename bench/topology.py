"""Namespaces to measure in, and everything they hold, removed again however the run ends."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "mwb-"
CLONE_NEWNET = 0x40000000

# Addresses: clients, virtual addresses and servers are each one route.
CLIENTS = "10.64.0.0/16"
VIRTUAL = "100.64.0.0/10"
SERVERS = "10.128.0.0/9"
CLIENT_MAC = "02:00:00:00:00:01"
SERVER_MAC = "02:00:00:00:00:02"

_libc = ctypes.CDLL(None, use_errno=True)


def sh(*command: str, stdin: str | None = None, check: bool = True, timeout: float | None = 120) -> str:
    """Run a command and return what it printed; what it complained of is in the error."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]}: {done.stderr.strip()[:800] or done.stdout.strip()[:800]}")
    return done.stdout


@dataclass
class Namespace:
    """A network namespace and the processes started in it."""

    name: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str, stdin: str | None = None, timeout: float | None = 120) -> str:
        """Run a command in the namespace."""
        return sh("ip", "netns", "exec", self.name, *command, stdin=stdin, timeout=timeout)

    def start(self, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process that lives as long as the namespace at most."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End the processes that `start` started."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put this thread into the namespace for a while."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(home)
            os.close(there)
            os.close(home)

    def sysctl(self, **settings: int | str) -> None:
        """Set sysctls under net; `__` stands for a dot."""
        self.run("sysctl", "-qw", *(f"net.{key.replace('__', '.')}={value}" for key, value in settings.items()))

    def ifindex(self, device: str) -> int:
        """Return a device's number."""
        with self.inside():
            return socket.if_nametoindex(device)

    def received(self, device: str) -> int:
        """Return how many packets a device counts as received, dropped ones too."""
        with self.inside():
            lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()
        [figures] = [line.split()[1:] for line in lines if line.split()[0] == f"{device}:"]
        return int(figures[1]) + int(figures[3])

    def flush_connections(self) -> None:
        """Forget all tracked connections."""
        subprocess.run(
            ["ip", "netns", "exec", self.name, "conntrack", "-F"], capture_output=True, check=False, timeout=60
        )


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def namespace(name: str) -> Iterator[Namespace]:
    """Make a namespace of this run; remove it and end its processes afterwards."""
    made = Namespace(f"{PREFIX}{os.getpid()}-{name}")
    sh("ip", "netns", "add", made.name)
    try:
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        made.stop()
        sh("ip", "netns", "del", made.name)


def remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed, and end what still runs in them."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        owner = path.name.removeprefix(PREFIX).split("-")[0]
        if not Path("/proc", owner).exists():
            for pid in sh("ip", "netns", "pids", path.name).split():
                os.kill(int(pid), signal.SIGKILL)
            sh("ip", "netns", "del", path.name)


@contextmanager
def isolated_director(name: str) -> Iterator[Namespace]:
    """Make a director alone: packets are put on `clients`, and `servers` drops what it is given.

    Both devices are IFBs, which free at once every packet that a route sends to them: the cheapest sink there is.
    """
    with namespace(name) as director:
        lines = [
            f"{what}\n"
            for device, mac, addresses, link in (
                ("clients", CLIENT_MAC, CLIENTS, "10.126.255"),
                ("servers", SERVER_MAC, SERVERS, "10.127.255"),
            )
            for what in (
                f"link add {device} address {mac} type ifb",
                f"link set {device} up",
                f"address add {link}.254/30 dev {device}",
                # By a gateway: thousands of neighbours of its own would cost more than the packets.
                f"route add {addresses} via {link}.253",
            )
        ]
        director.run("ip", "-batch", "-", stdin="".join(lines))
        for device in ("clients", "servers"):
            director.run("tc", "qdisc", "replace", "dev", device, "root", "noqueue")
        forwarding(director)
        # A network card has checked the checksums by the time a packet comes here; these have none.
        director.sysctl(netfilter__nf_conntrack_checksum=0)
        yield director


def forwarding(director: Namespace) -> None:
    director.sysctl(
        ipv4__ip_forward=1,
        ipv4__conf__all__rp_filter=0,
        ipv4__conf__default__rp_filter=0,
        ipv4__conf__all__send_redirects=0,
        ipv4__ip_local_port_range="1024 65535",
    )


@dataclass(frozen=True)
class Road:
    """Real machines in a row."""

    client: Namespace
    director: Namespace
    servers: Namespace


@contextmanager
def road(name: str, virtual: str) -> Iterator[Road]:
    """Make client, director and servers; every client and server address lives on one machine.

    client (10.64.0.0/16) --- director (virtual) --- servers (10.128.0.0/9)
    """
    with namespace(f"{name}-c") as client, namespace(name) as director, namespace(f"{name}-s") as servers:
        for device, other, addresses, link in (
            ("clients", client, CLIENTS, "10.126.255"),
            ("servers", servers, SERVERS, "10.127.255"),
        ):
            ends = ("type", "veth", "peer", "name", "up0", "netns", other.name)
            director.run("ip", "link", "add", device, *ends)
            for there, end, host in ((director, device, 254), (other, "up0", 253)):
                there.run("ip", "link", "set", end, "up")
                there.run("ip", "address", "add", f"{link}.{host}/30", "dev", end)
            director.run("ip", "route", "add", addresses, "via", f"{link}.253")
            other.run("ip", "route", "add", "default", "via", f"{link}.254")
            other.run("ip", "route", "add", "local", addresses, "dev", "lo")
            other.sysctl(ipv4__ip_local_port_range="1024 65535", core__somaxconn=8192)
        director.run("ip", "address", "add", f"{virtual}/32", "dev", "lo")
        forwarding(director)
        yield Road(client, director, servers)
