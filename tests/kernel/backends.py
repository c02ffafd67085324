"""A director and a host with real servers, for the tests of what asks them.

    director 10.98.0.1 ──────── 10.98.0.2 servers
             10.98.0.9          10.98.0.3 (drops all that comes)
              fd98::1            fd98::2, fd98::3 likewise

Servers run as own processes from a folder of their own; `Farm`'s end stops exactly those and removes it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.kernel.support import eventually, unique_name

from markway.config.model import Check, CheckKind
from markway.director.checks import ask
from markway.director.model import Target
from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.director.model import Outcome

SERVER, SERVER6 = "10.98.0.2", "fd98::2"
SILENT, SILENT6 = "10.98.0.3", "fd98::3"
OTHER_SOURCE, OTHER_SOURCE6 = "10.98.0.9", "fd98::9"
CLOSED = 1
"""A port nobody listens on."""

_DROPS = f"""
table inet silent {{
    chain in {{
        type filter hook input priority 0
        ip daddr {SILENT} drop
        ip6 daddr {SILENT6} meta l4proto {{ tcp, udp }} drop
        ip6 daddr {SILENT6} icmpv6 type echo-request drop
    }}
}}
"""


class Farm:
    """The two namespaces, and what was started in them."""

    def __init__(self) -> None:
        name = unique_name()
        self.director, self.servers = f"{name}d", f"{name}s"
        self.directory = Path(tempfile.mkdtemp(prefix="markway-farm-"))
        self.directory.chmod(0o755)  # databases do not run as root
        self._processes: list[tuple[subprocess.Popen[str], signal.Signals]] = []
        self._listeners: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            netns.create([self.director, self.servers])
            netns.ip(None, [f"link add cable netns {self.director} type veth peer name cable netns {self.servers}"])
            for space, numbers in ((self.director, (1, 9)), (self.servers, (2, 3))):
                addresses = [f"address add 10.98.0.{n}/24 dev cable" for n in numbers]
                # Who is not asked by the second address must not answer from it.
                addresses += [f"address add fd98::{numbers[0]}/64 dev cable nodad"]
                addresses += [f"address add fd98::{numbers[1]}/64 dev cable nodad preferred_lft 0"]
                netns.ip(space, ["link set lo up", *addresses, "link set cable up"])
            netns.run(self.servers, ["nft", "-f", "-"], text=_DROPS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
            listener.close()
        for process, ending in reversed(self._processes):
            process.send_signal(ending)
        for process, _ in self._processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        netns.delete([self.director, self.servers])
        shutil.rmtree(self.directory)

    def write(self, name: str, text: str, mode: int = 0o644) -> str:
        """A file in the farm's folder; its path."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return str(path)

    def start(self, *argv: str, ending: signal.Signals = signal.SIGTERM) -> subprocess.Popen[str]:
        """A server that stays in the foreground."""
        with (self.directory / f"{Path(argv[0]).name}.log").open("a", encoding="utf-8") as log:
            process = netns.start(self.servers, argv, stdout=log, stderr=log, env=dict(os.environ))
        self._processes.append((process, ending))
        return process

    def until_open(self, *ports: int) -> None:
        """Wait until these ports take connections."""
        for port in ports:
            self.until_well(CheckKind.TCP, port)

    def until_well(self, kind: CheckKind, port: int, **options: Any) -> None:
        """Wait until a server has started; fail with what the servers said if one ended instead."""

        def well() -> bool:
            logs = "\n".join(log.read_text(errors="replace")[-2000:] for log in self.directory.glob("*.log"))
            assert all(process.poll() is None for process, _ in self._processes), logs
            return self.ask(kind, port, **options).well

        eventually(well, 60)

    def listener(self) -> socket.socket:
        """A socket that takes connections of both families and says nothing."""
        with netns.enter(self.servers):
            listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self._listeners.append(listener)
        return listener

    def silent(self) -> int:
        """The port of one that takes connections and never answers."""
        return port_of(self.listener())

    def speaker(self, said: bytes) -> int:
        """The port of one that says this to everyone, and then listens until they leave."""
        listener = self.listener()

        def speak() -> None:
            with suppress(OSError):
                while True:
                    opened, _ = listener.accept()
                    with opened, suppress(ConnectionError):
                        opened.sendall(said)
                        opened.shutdown(socket.SHUT_WR)
                        while opened.recv(4096):
                            pass

        threading.Thread(target=speak, daemon=True).start()
        return port_of(listener)

    def udp_speaker(self, answer: Callable[[bytes, Any], bytes | None]) -> int:
        """The port of one that answers datagrams."""
        with netns.enter(self.servers):
            opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            opened.bind(("::", 0))
        self._listeners.append(opened)

        def speak() -> None:
            with suppress(OSError):
                while True:
                    asked, peer = opened.recvfrom(4096)
                    if not asked:
                        return
                    if said := answer(asked, peer):
                        opened.sendto(said, peer)

        threading.Thread(target=speak, daemon=True).start()
        return port_of(opened)

    def ask(
        self, kind: CheckKind, port: int | None, address: str = SERVER, *, source: str = "", **options: Any
    ) -> Outcome:
        """Ask a backend once from the director."""
        target = Target("web", "a", ip_address(address), port, ip_address(source) if source else None)
        check = Check(kind, **({"timeout": 20.0} | options))
        with netns.enter(self.director):
            return asyncio.run(ask(check, target))

    def why(self, kind: CheckKind, port: int | None, address: str = SERVER, **options: Any) -> str:
        """Why a backend is not well."""
        outcome = self.ask(kind, port, address, **options)
        assert outcome.well is not bool(outcome.reason), "a reason is given exactly if it is not well"
        return outcome.reason


def port_of(opened: socket.socket) -> int:
    port: int = opened.getsockname()[1]
    return port


def run(*argv: str, cwd: Path, text: str = "") -> None:
    """A command that prepares a server; what it printed is in the failure."""
    done = subprocess.run(argv, cwd=cwd, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
