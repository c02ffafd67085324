"""A lab in the hand: run things on its hosts, fetch from its clients, command its director."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from markway.kernel import netns
from markway.lab import build, servers
from markway.lab.client import fetch_many
from markway.lab.hold import Held
from markway.lab.plan import plan_lab
from markway.lab.topology import CLIENTS, DIRECTOR, Host, LabError, Topology, namespace

if TYPE_CHECKING:
    from types import TracebackType

    from markway.config.model import Config
    from markway.lab.tally import Tally


class Lab:
    """A lab that is up. Leave its `with` block, or call `down`, to remove it."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.name = topology.name

    @classmethod
    def up(cls, config: Config, name: str) -> Self:
        """Plan and build the lab of a configuration; if it fails, LabError or NetnsError, nothing left."""
        topology = plan_lab(config, name)
        build.up(topology)
        return cls(topology)

    def down(self) -> None:
        """Remove it; to remove it twice is no error."""
        if self.name in build.names():
            build.down(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def host(self, name: str) -> Place:
        """A host by its name; LabError when there is none."""
        return Place(self.name, self.topology.host(name))

    @property
    def director(self) -> Place:
        """The host that Markway runs on."""
        return self.host(DIRECTOR)

    @property
    def clients(self) -> tuple[Place, ...]:
        """The hosts that connections come from."""
        return tuple(self.host(name) for name in CLIENTS)

    def fetch(self, target: str, count: int = 1, *, client: int = 0, **options: Any) -> Tally:
        """`fetch_many` from a client, with all its options."""
        return self.clients[client].fetch(target, count, **options)

    def markway(self, *args: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the `markway` command on the director, with a state directory of its own."""
        return self.director.run(sys.executable, "-m", "markway", *args, text=text, check=False)

    def nft(self, *args: str, text: str | None = None) -> str:
        """Run nft on the director and return what it prints; `text` is its stdin. NetnsError if it fails."""
        return self.director.run("nft", *args, text=text).stdout

    def stop(self, name: str) -> None:
        """End the servers of a host, and what else was started there: its ports refuse from now on."""
        servers.stop(self.name, [self.host(name).namespace])

    def start(self, name: str) -> None:
        """Start the servers of a host again."""
        place = self.host(name)
        servers.start(self.name, [place.host], build.directory(self.name), build.environment(self.name))


@dataclass(frozen=True, slots=True)
class Place:
    """A host of a lab that is up."""

    lab: str
    host: Host

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return namespace(self.lab, self.host.name)

    def address(self, version: int) -> str:
        """Its first address of IP version 4 or 6; LabError when it has none."""
        for address in self.host.addresses:
            if address.version == version:
                return str(address)
        raise LabError(f"host {self.host.name} has no IPv{version} address")

    def run(
        self, *argv: str, text: str | None = None, timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here; see `netns.run`."""
        env = build.environment(self.lab)
        return netns.run(self.namespace, argv, text=text, env=env, timeout=timeout, check=check)

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command here, with pipes to it; it ends with the lab at the latest.

        Unless it writes over its environment, as sshd does: the lab knows its own by that.
        """
        pipe = subprocess.PIPE
        env = build.environment(self.lab)
        return netns.start(self.namespace, argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe)

    def fetch(self, target: str, count: int = 1, **options: Any) -> Tally:
        """`fetch_many` from here, with all its options."""
        with netns.enter(self.namespace):
            return fetch_many(target, count, **options)

    def hold(self, target: str, count: int = 1, *options: str) -> Holding:
        """Open `count` connections from here and keep them open; `options` are those of the command line."""
        program = [sys.executable, "-m", "markway.lab.client", target, "--hold", "--count", str(count)]
        return Holding(self.spawn(*program, *options))


class Holding:
    """Connections held open by a process (see `markway.lab.hold`); leave its `with` block to close them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.opened = self._read()
        """How the first round went: every connection was opened and asked once."""

    def report(self) -> Held:
        """Ask on every connection now, and say how they fare."""
        self.ask()
        return self._read()

    def ask(self) -> None:
        """Ask on every connection now, and do not wait for the answers."""
        if self._process.stdin is None:
            raise LabError("the connections are closed")
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> Held:
        """Close the connections; returns the last report."""
        out, _ = self._process.communicate()
        return Held.from_json(out)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()

    def _read(self) -> Held:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            _, why = self._process.communicate()
            raise LabError(f"the holding client ended: {why.strip() or 'its time was up'}")
        return Held.from_json(line)
