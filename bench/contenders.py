"""Who is measured: each knows how to make a director balance a case."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from typing_extensions import override

from bench.topology import VIRTUAL, sh

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.case import Backend, Case, Service
    from bench.topology import Namespace

MARKWAY = Path(sys.executable).with_name("markway")
TRACKED = """table ip limit_of_routing {
chain track {
type filter hook prerouting priority mangle; policy accept;
ct state invalid drop
}
}
"""


class TooSlowError(RuntimeError):
    """A contender did not finish its set-up in the time that it was given."""


@dataclass
class Contender:
    """Something that spreads connections over servers.

    `direct`: the client speaks to the servers' own addresses. `proxy`: it ends connections itself, so that only
    real sockets show it.
    """

    name: str
    direct: bool = False
    proxy: bool = False

    def needs(self) -> dict[str, str]:
        """Return the programs that it uses, and the Debian packages that have them."""
        return {"nft": "nftables"}

    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        """Make the director balance the case, or raise `TooSlowError`."""
        raise NotImplementedError

    def load(self, director: Namespace, command: Iterable[str], text: str, within: float) -> None:
        """Give a text to a command that has so many seconds."""
        try:
            director.run(*command, stdin=text, timeout=within)
        except subprocess.TimeoutExpired:
            raise TooSlowError(f"not finished in {within:.0f} s") from None


@dataclass
class Routing(Contender):
    """The limit: a router that tracks connections and does nothing to them."""

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        self.load(director, ["nft", "-f", "-"], TRACKED, within)


@dataclass
class Markway(Contender):
    """`markway apply` of a file."""

    snat: bool = False

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        with TemporaryDirectory(prefix="mwb-") as folder:
            file = Path(folder, "markway.toml")
            file.write_text(self.configuration(case))
            self.apply(director, file, Path(folder, "state"), within)

    def apply(self, director: Namespace, file: Path, state: Path, within: float = 60) -> None:
        """Run `markway apply`, whole process and all."""
        command = ["env", f"MARKWAY_STATE_DIR={state}", str(MARKWAY), "apply", str(file)]
        self.load(director, command, "", within)

    def configuration(self, case: Case) -> str:
        """Write the operator's file."""
        mode = "snat" if self.snat else "dnat"
        return "\n".join(toml(service, mode) for service in case.services)


def toml(service: Service, mode: str) -> str:
    lines = [f'[service.{service.name}]\nlisten = ["{service.address}:{service.port}/tcp"]\nmode = "{mode}"']
    lines += [
        f'[service.{service.name}.backend.b{backend.number}]\naddress = "{backend.address}:{backend.port}"'
        f"\nweight = {backend.weight}"
        for backend in service.backends
    ]
    return "\n".join(lines)


@dataclass
class Iptables(Contender):
    """The classic script: a MARK rule and a DNAT rule for each backend."""

    variant: str = "legacy"

    @override
    def needs(self) -> dict[str, str]:
        return {f"iptables-{self.variant}-restore": "iptables"}

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        self.load(director, [f"iptables-{self.variant}-restore"], self.rules(case), within)

    def rules(self, case: Case) -> str:
        """Write the restore file."""
        mangle = ["-j CONNMARK --restore-mark", "-m mark ! --mark 0 -j ACCEPT"]
        for service in case.services:
            mangle += self.choice(service)
        mangle.append("-m mark ! --mark 0 -j CONNMARK --save-mark")
        nat = [f"-p tcp -m mark --mark {b.number} -j DNAT --to-destination {b.address}:{b.port}" for b in case.backends]
        rules = [["*mangle"], mangle, ["COMMIT", "*nat"], nat, ["COMMIT"]]
        return "\n".join(
            f"-A PREROUTING {line}" if line.startswith("-") else line for part in rules for line in part
        ).join(["", "\n"])

    def choice(self, service: Service) -> Iterable[str]:
        """Every n-th of the packets that come so far."""
        match = f"-d {service.address}/32 -p tcp --dport {service.port} -m mark --mark 0"
        for index, backend in enumerate(service.backends):
            left = len(service.backends) - index
            yield f"{match} {_turn(left)}-j MARK --set-mark {backend.number}"


@dataclass
class IptablesDnat(Iptables):
    """A DNAT rule for each backend and nothing else: the least that iptables can do."""

    @override
    def rules(self, case: Case) -> str:
        lines = ["*nat"]
        for service in case.services:
            match = f"-A PREROUTING -d {service.address}/32 -p tcp --dport {service.port}"
            left = len(service.backends)
            for index, b in enumerate(service.backends):
                lines.append(f"{match} {_turn(left - index)}-j DNAT --to-destination {b.address}:{b.port}")
        return "\n".join([*lines, "COMMIT", ""])


def _turn(left: int) -> str:
    """Match every n-th of the packets that come to this rule: its share, when so many backends are left."""
    return f"-m statistic --mode nth --every {left} --packet 0 " if left > 1 else ""


@dataclass
class Ipvs(Contender):
    """The kernel's own balancer, with NAT and round robin.

    `tracked`: connections are tracked beside its own table, as a firewall or a mark wants it.
    """

    tracked: bool = False

    @override
    def needs(self) -> dict[str, str]:
        return {"ipvsadm": "ipvsadm"}

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        lines = []
        for service in case.services:
            where = f"-t {service.address}:{service.port}"
            lines.append(f"-A {where} -s rr")
            lines += [f"-a {where} -r {b.address}:{b.port} -m -w {b.weight}" for b in service.backends]
        director.run("ip", "route", "add", "local", VIRTUAL, "dev", "lo")  # it takes what is for the machine itself
        self.load(director, ["ipvsadm", "-R"], "\n".join(lines) + "\n", within)
        if self.tracked:
            director.sysctl(ipv4__vs__conntrack=1)
            self.load(director, ["nft", "-f", "-"], TRACKED, within)


@dataclass
class Nftlb(Contender):
    """Zevenet's nftlb, told what to do by its API."""

    mode: str = "dnat"

    @override
    def needs(self) -> dict[str, str]:
        return {"nftlb": "nftlb"}

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        end = time.monotonic() + within
        director.start("nftlb", "-k", "bench", "-l", "0", "-H", "127.0.0.1")
        with director.inside():
            wait_for_port(5555)
            for start in range(0, len(case.services), 100):
                farms = [self.farm(service) for service in case.services[start : start + 100]]
                self.post({"farms": farms}, end - time.monotonic(), within)

    def post(self, body: object, left: float, within: float) -> None:
        """Send a part of the configuration and wait until nftlb has applied it."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 5555, timeout=max(left, 0.001))
            connection.request("POST", "/farms", json.dumps(body), {"Key": "bench"})
            answer = connection.getresponse().read().decode()
        except TimeoutError:
            raise TooSlowError(f"not finished in {within:.0f} s") from None
        if "success" not in answer:
            raise RuntimeError(f"nftlb: {answer}")

    def farm(self, service: Service) -> dict[str, object]:
        """Describe a service as nftlb calls it."""
        backends = [
            {"name": f"b{b.number}", "ip-addr": b.address, "port": str(b.port), "weight": str(b.weight)}
            | {"priority": "1", "state": "up"}
            for b in service.backends
        ]
        where = {"family": "ipv4", "virtual-addr": service.address, "virtual-ports": str(service.port)}
        how = {"mode": self.mode, "protocol": "tcp", "scheduler": "rr", "state": "up"}
        return {"name": service.name, **where, **how, "backends": backends}


@dataclass
class Haproxy(Contender):
    """HAProxy in TCP mode."""

    @override
    def needs(self) -> dict[str, str]:
        return {"haproxy": "haproxy"}

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        lines = ["global", "maxconn 4000", "defaults", "mode tcp"]
        lines += ["timeout connect 5s", "timeout client 30s", "timeout server 30s"]
        for service in case.services:
            lines += [f"listen {service.name}", f"bind {service.address}:{service.port}", "balance roundrobin"]
            lines += [f"server b{b.number} {b.address}:{b.port}" for b in service.backends]
        serve(director, case, ["haproxy", "-db", "-f"], lines, within)


@dataclass
class NginxStream(Contender):
    """nginx with its stream module."""

    @override
    def needs(self) -> dict[str, str]:
        return {"nginx": "nginx-light"}

    @override
    def install(self, director: Namespace, case: Case, within: float = 60) -> None:
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        lines = [f"load_module {module};"] if module.exists() else []
        lines += ["worker_processes auto;", "daemon off;", "error_log stderr crit;"]
        lines += ["events { worker_connections 16384; }", "stream {"]
        for service in case.services:
            lines += [f"upstream {service.name} {{", *map(_upstream, service.backends), "}"]
            lines += [f"server {{ listen {service.address}:{service.port}; proxy_pass {service.name}; }}"]
        # A pid file of its own: nginx removes it when it ends, whatever it is.
        serve(director, case, ["nginx", "-g", f"pid {pid_file(director)};", "-c"], [*lines, "}"], within)


def pid_file(director: Namespace) -> Path:
    return Path(gettempdir(), f"{director.name}-nginx.pid")


def _upstream(backend: Backend) -> str:
    return f"server {backend.address}:{backend.port};"


def serve(director: Namespace, case: Case, command: list[str], lines: list[str], within: float) -> None:
    """Start a proxy with its configuration and wait until it answers."""
    with TemporaryDirectory(prefix="mwb-") as folder:
        Path(folder).chmod(0o755)
        file = Path(folder, "proxy.conf")
        file.write_text("\n".join(lines) + "\n")
        director.start(*command, str(file))
        with director.inside():
            wait_for_port(case.services[-1].port, case.services[-1].address, within)


def wait_for_port(port: int, address: str = "127.0.0.1", within: float = 10) -> None:
    """Wait until something listens."""
    end = time.monotonic() + within
    while True:
        connection = http.client.HTTPConnection(address, port, timeout=1)
        try:
            connection.connect()
        except OSError:
            if time.monotonic() > end:
                raise TooSlowError(f"nobody listens on port {port} after {within:.0f} s") from None
            time.sleep(0.02)
        else:
            connection.close()
            return


def everyone() -> list[Contender]:
    """All contenders, the limit first."""
    return [
        Routing("routing", direct=True),
        Markway("markway"),
        Markway("markway-snat", snat=True),
        Nftlb("nftlb"),
        Nftlb("nftlb-snat", mode="snat"),
        Iptables("iptables-legacy"),
        Iptables("iptables-nft", variant="nft"),
        Haproxy("haproxy", proxy=True),
        NginxStream("nginx-stream", proxy=True),
    ]


def missing(contenders: Iterable[Contender]) -> dict[str, str]:
    """Return the programs that are not installed, and the packages that have them."""
    needed = {"ip": "iproute2", "conntrack": "conntrack", "sysctl": "procps", "gcc": "gcc"}
    for contender in contenders:
        needed |= contender.needs()
    return {program: package for program, package in needed.items() if not shutil.which(program)}


def versions() -> str:
    """Name what was measured."""
    kernel = os.uname().release
    nft = sh("nft", "--version").split()[1]
    return f"Linux {kernel}, nft {nft}, Python {sys.version.split()[0]}, {os.cpu_count()} cores"
