"""What kernel tests share besides the `lab` fixture."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from scipy.stats import chisquare

from markway.lab.build import directory
from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markway.config.model import Config

_numbers = count(1)


def unique_name() -> str:
    """Another process's tests have another pid."""
    return f"t{os.getpid()}_{next(_numbers)}"


def read(text: str) -> Config:
    """The configuration in a TOML text."""
    from markway.config.load import Source, load  # noqa: PLC0415 - tests of a bare lab need no schema

    return load([Source("test.toml", text.encode())]).config


def in_force(text: str) -> Lab:
    """A lab of this configuration with it applied; to be used as a context."""
    lab = Lab.up(read(text), unique_name())
    try:
        apply(lab, text)
    except BaseException:
        lab.down()
        raise
    return lab


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return as soon as the condition holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.005)  # between two looks, not instead of one


def run(lab: Lab, *args: str, code: int = 0) -> str:
    """A `markway` command on the director, which must end with this exit status; what it printed."""
    done = lab.markway(*args)
    assert done.returncode == code, f"markway {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def write(lab: Lab, text: str, name: str = "markway.toml") -> str:
    """Put a configuration where the lab's end removes it; its path."""
    path = directory(lab.name) / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def apply(lab: Lab, text: str, *options: str, code: int = 0) -> str:
    """Bring a configuration into force by `markway apply`."""
    return run(lab, "apply", *options, write(lab, text), code=code)


def status(lab: Lab, code: int = 0) -> dict[str, Any]:
    """What `markway status --json` says."""
    found: dict[str, Any] = json.loads(run(lab, "status", "--json", code=code))
    return found


def seen(lab: Lab, service: str) -> dict[str, Any]:
    """One service of the status; its backends by name."""
    found: dict[str, Any] = next(s for s in status(lab)["services"] if s["name"] == service)
    return found | {"backends": {b["name"]: b for b in found["backends"]}}


def marks(lab: Lab, service: str) -> dict[str, int]:
    """The mark of each backend of a service."""
    return {name: backend["mark"] for name, backend in seen(lab, service)["backends"].items()}


def shares_fit(got: Mapping[str, int], asked: Mapping[str, float]) -> bool:
    """Whether counts are what chance makes of the shares: Pearson's chi-square test, p > 0.0001."""
    assert set(got) <= {name for name, share in asked.items() if share}
    total, whole = sum(got.values()), sum(asked.values())
    names = [name for name, share in asked.items() if share]
    observed = [got.get(name, 0) for name in names]
    expected = [asked[name] / whole * total for name in names]
    assert min(expected) >= 5, "too few connections for a chi-square test"
    return bool(chisquare(observed, expected).pvalue > 1e-4)


class Flow(NamedTuple):
    """One entry of the director's connection table."""

    protocol: str
    client: str
    service: str
    backend: str
    seen_as: str
    """The address and port that the backend answers to."""
    mark: int


def flows(lab: Lab, port: int | None = None) -> list[Flow]:
    """The director's connections, as `conntrack -L` has them, of both families; only those to a port."""
    found = []
    for family in ("ipv4", "ipv6"):
        listed = lab.director.run("conntrack", "-L", "-f", family).stdout
        for line in listed.splitlines():
            fields = [part.partition("=") for part in line.split()]
            ends = [value for key, _, value in fields if key in {"src", "dst", "sport", "dport"}]
            if len(ends) == 8:
                client, service, backend, seen_as = (
                    f"{_bracketed(ends[i])}:{ends[j]}" for i, j in ((0, 2), (1, 3), (4, 6), (5, 7))
                )
                mark = next((int(value) for key, _, value in fields if key == "mark"), 0)
                found.append(Flow(line.split()[0], client, service, backend, seen_as, mark))
    return [flow for flow in found if port is None or flow.service.endswith(f":{port}")]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


_TELLER = """
import socket, sys
family = socket.AF_INET6
port = int(sys.argv[1])
udp = socket.socket(family, socket.SOCK_DGRAM)
tcp = socket.socket(family, socket.SOCK_STREAM)
for opened in (udp, tcp):
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("", port))
tcp.listen(512)
print("ready", flush=True)
import selectors
with selectors.DefaultSelector() as both:
    both.register(udp, 1); both.register(tcp, 1)
    while True:
        for key, _ in both.select():
            if key.fileobj is udp:
                _, peer = udp.recvfrom(2048)
                udp.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
                continue
            opened, peer = tcp.accept()
            with opened:
                opened.recv(4096)
                body = peer[0].removeprefix("::ffff:").encode()
                opened.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
                opened.shutdown(socket.SHUT_WR)
"""


def tell_peers(lab: Lab, host: str, port: int) -> None:
    """In place of the servers of a host: one that answers with the address it was asked from (TCP and UDP)."""
    lab.stop(host)
    teller = lab.host(host).spawn(sys.executable, "-c", _TELLER, str(port))
    assert teller.stdout
    assert teller.stdout.readline() == "ready\n"
