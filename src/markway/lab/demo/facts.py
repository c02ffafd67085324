"""What the demo reads from the lab and the machine."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markway.compiler import compile_config
from markway.config.load import Source, load
from markway.kernel.netns import NetnsError
from markway.lab.topology import LabError
from markway.marks import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.lab.lab import Lab

_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
_FAMILIES = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a file asks for: its only service, the backends' weights, and one turn of its table by IP version."""

    service: str
    targets: dict[int, str]
    weights: dict[str, int]
    turns: dict[int, int]

    def share(self, backend: str) -> float:
        """The share of new connections, 0 to 1."""
        return self.weights.get(backend, 0) / sum(self.weights.values())


def asked(text: str) -> Asked:
    """Read a file's text. It has one service, listening on an address of each family."""
    config = load([Source("three-servers.toml", text.encode())]).config
    (service,) = config.services
    entry = compile_config(config, Registry()).program.services[0]
    targets: dict[int, str] = {}
    for listener in service.listeners:
        host = f"[{listener.address}]" if listener.address.version == 6 else str(listener.address)  # noqa: PLR2004
        targets[listener.address.version] = f"{host}:{listener.ports[0].first}"
    return Asked(
        service.name,
        targets,
        {backend.name: backend.weight for backend in service.backends},
        {version: entry.tables[family][1] for version, family in _FAMILIES.items() if version in targets},
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """What `markway status` says of a backend."""

    mark: int
    connections: int
    active: int


def status(lab: Lab) -> dict[str, Counted]:
    """What `markway status` says of the only service's backends."""
    found = json.loads(markway(lab, "status", "--json"))
    return {b["name"]: Counted(b["mark"], b["connections"], b["active"]) for b in found["services"][0]["backends"]}


def markway(lab: Lab, *args: str) -> str:
    """Run `markway` on the director and return what it printed; LabError when it fails."""
    done = lab.markway(*args)
    if done.returncode:
        raise LabError(f"markway {' '.join(args)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def tracked(lab: Lab, mark: int) -> str:
    """An established connection with this mark, as the director's kernel lists it: its shortest line.

    Empty where it lists none: not every kernel has the file, and not every machine the command.
    """
    for argv in (("cat", "/proc/net/nf_conntrack"), ("conntrack", "-L", "-o", "extended")):
        try:
            listed = lab.director.run(*argv).stdout
        except NetnsError:
            continue
        found = [line for line in listed.splitlines() if "ESTABLISHED" in line and f"mark={mark} " in line]
        return " ".join(min(found, key=len, default="").split())
    return ""


def outside() -> dict[str, str]:
    """What of the machine's own network must be the same afterwards."""
    return {
        "nftables": _said("nft", "--stateless", "--terse", "list", "ruleset"),
        "links": _only(_said("ip", "-o", "link"), lambda line: line.split(":")[1].strip()),
        "rules": _said("ip", "rule") + _said("ip", "-6", "rule"),
        "forwarding": " ".join(Path("/proc/sys/net", key).read_text(encoding="ascii") for key in _FORWARDING),
    }


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def _only(text: str, part: Callable[[str], str]) -> str:
    return "\n".join(part(line) for line in text.splitlines())
