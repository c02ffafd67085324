"""Checks against what is refused, silent and nonsense, in all protocols; and those that need no server of Debian's."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.backends import (
    CLOSED,
    OTHER_SOURCE,
    OTHER_SOURCE6,
    SERVER,
    SERVER6,
    SILENT,
    SILENT6,
    Farm,
    port_of,
)
from tests.kernel.support import eventually

from markway.config.model import CheckKind
from markway.director.model import AgentSaid, Word

if TYPE_CHECKING:
    from collections.abc import Iterator

OVER_TCP: dict[CheckKind, dict[str, Any]] = {
    CheckKind.TCP: {"expect": b"hello"},
    CheckKind.HTTP: {"target": "/"},
    CheckKind.HTTPS: {"target": "/", "verify": False},
    CheckKind.SMTP: {},
    CheckKind.MYSQL: {"user": "check"},
    CheckKind.POSTGRESQL: {},
    CheckKind.REDIS: {},
    CheckKind.AGENT: {},
}
OVER_UDP: dict[CheckKind, dict[str, Any]] = {
    CheckKind.UDP: {"send": b"?"},
    CheckKind.DNS: {"target": "example.org"},
}
BOTH = pytest.mark.parametrize("address", [SERVER, SERVER6])
NONSENSE = [
    b"gibberish",
    b"gibberish\r\n",
    b"\0" * 200,
    b"\xff" * 200,
    b"E\0\0\0\4",
    b"HTTP/1.1 \r\n\r\n",
    b"220-\r\n" * 9,
]


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as up:
        yield up


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@BOTH
@pytest.mark.parametrize("kind", [*OVER_TCP, *OVER_UDP])
def test_refused(farm: Farm, kind: CheckKind, address: str) -> None:
    assert farm.why(kind, CLOSED, address, **(OVER_TCP | OVER_UDP)[kind]) == "connection refused"


@pytest.mark.parametrize("kind", OVER_TCP)
def test_accepted_and_never_answered(farm: Farm, kind: CheckKind) -> None:
    assert farm.why(kind, farm.silent(), timeout=0.2, **OVER_TCP[kind]) == "no answer in 0.2 s"


@pytest.mark.parametrize("address", [SILENT, SILENT6])
@pytest.mark.parametrize("kind", [CheckKind.TCP, CheckKind.PING, *OVER_UDP])
def test_dropped(farm: Farm, kind: CheckKind, address: str) -> None:
    options = (OVER_TCP | OVER_UDP).get(kind, {})
    assert farm.why(kind, 80, address, timeout=0.2, **options) == "no answer in 0.2 s"


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [*OVER_TCP, *OVER_UDP, CheckKind.PING, CheckKind.COMMAND])
def test_the_timeout_is_of_the_whole_check(farm: Farm, kind: CheckKind) -> None:
    options = (OVER_TCP | OVER_UDP).get(kind, {})
    port, address = (farm.silent(), SERVER) if kind in OVER_TCP else (80, SILENT)
    outcome = farm.ask(kind, port, address, timeout=30.0, command=("/bin/sleep", "600"), **options)
    assert not outcome.well
    assert outcome.took == pytest.approx(30, abs=0.05)


@pytest.mark.parametrize("said", NONSENSE)
@pytest.mark.parametrize("kind", OVER_TCP)
def test_nonsense(farm: Farm, kind: CheckKind, said: bytes) -> None:
    why = farm.why(kind, farm.speaker(said), **OVER_TCP[kind])
    assert why
    assert "not understood" not in why, "every protocol has words for this"
    assert why.isprintable()
    assert len(why) < 200


@pytest.mark.parametrize("kind", OVER_TCP)
def test_closed_at_once(farm: Farm, kind: CheckKind) -> None:
    why = farm.why(kind, farm.speaker(b""), **OVER_TCP[kind])
    assert why.startswith(("connection closed", "connection reset", "TLS: ", "the agent says nothing"))


def test_nothing_stays_open(farm: Farm) -> None:
    silent, spoken = farm.silent(), farm.speaker(b"gibberish")
    before = open_files()
    for kind, options in OVER_TCP.items():
        for port in (CLOSED, silent, spoken):
            farm.ask(kind, port, timeout=0.05, **options)
    for kind, options in OVER_UDP.items():
        farm.ask(kind, CLOSED, SILENT, timeout=0.05, **options)
    eventually(lambda: open_files() == before)  # the speaker is of this process too


@BOTH
def test_tcp_connects(farm: Farm, address: str) -> None:
    assert farm.ask(CheckKind.TCP, farm.silent(), address).well


def test_tcp_leaves_in_order(farm: Farm) -> None:
    """The server reads the end of a connection, not an error."""
    listener = farm.listener()
    assert farm.ask(CheckKind.TCP, port_of(listener)).well
    opened, _ = listener.accept()
    with opened:
        opened.settimeout(20)
        assert opened.recv(1) == b""
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_tcp_sends_and_expects_bytes(farm: Farm) -> None:
    port = farm.speaker(b"\x00\x01hel" + b"lo\xff")
    assert farm.ask(CheckKind.TCP, port, send=b"\x02?", expect=b"\x01hello\xff").well
    assert farm.why(CheckKind.TCP, farm.speaker(b"sorry\r\nx"), expect=b"hello") == "unexpected answer: sorry"


def test_tcp_looks_at_64_kib_only(farm: Farm) -> None:
    assert "unexpected" in farm.why(CheckKind.TCP, farm.speaker(b"x" * 500_000 + b"hello"), expect=b"hello")


@pytest.mark.parametrize(("address", "source"), [(SERVER, OTHER_SOURCE), (SERVER6, OTHER_SOURCE6)])
def test_the_backend_sees_the_source(farm: Farm, address: str, source: str) -> None:
    listener = farm.listener()
    assert farm.ask(CheckKind.TCP, port_of(listener), address, source=source).well
    opened, peer = listener.accept()
    opened.close()
    assert peer[0].removeprefix("::ffff:") == source
    port = farm.udp_speaker(lambda _, peer: peer[0].removeprefix("::ffff:").encode())
    assert farm.ask(CheckKind.UDP, port, address, source=source, send=b"?", expect=source.encode()).well
    assert farm.ask(CheckKind.PING, None, address, source=source).well
    assert "cannot assign" in farm.why(CheckKind.TCP, port, address, source=address)


@BOTH
def test_udp(farm: Farm, address: str) -> None:
    port = farm.udp_speaker(lambda asked, _: b"\x00you said " + asked)
    assert farm.ask(CheckKind.UDP, port, address, send=b"ping").well
    assert farm.ask(CheckKind.UDP, port, address, send=b"ping", expect=b"ping").well
    assert farm.why(CheckKind.UDP, port, address, send=b"x", expect=b"ping").startswith("unexpected answer")


@BOTH
def test_ping(farm: Farm, address: str) -> None:
    assert farm.ask(CheckKind.PING, None, address).well


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"up\n", AgentSaid(Word.UP)),
        (b"75%\n", AgentSaid(None, 75)),
        (b"ready up 50% maxconn:30\r\n", AgentSaid(Word.READY, 50)),
        (b"DRAIN, 10%", AgentSaid(Word.DRAIN, 10)),
        (b"maint # new disk\n", AgentSaid(Word.MAINT)),
    ],
)
def test_agent(farm: Farm, line: bytes, said: AgentSaid) -> None:
    outcome = farm.ask(CheckKind.AGENT, farm.speaker(line))
    assert outcome.well
    assert outcome.agent == said


def test_agent_says_down(farm: Farm) -> None:
    outcome = farm.ask(CheckKind.AGENT, farm.speaker(b"stopped # out of disk\n"))
    assert (outcome.well, outcome.reason, outcome.agent) == (False, "out of disk", AgentSaid(Word.DOWN))
    assert farm.why(CheckKind.AGENT, farm.speaker(b"failed\n")) == "the agent says failed"


def test_command_finds_the_backend(farm: Farm) -> None:
    ours = "env | grep -E '^MARKWAY_(SERVICE|BACKEND|ADDRESS|PORT)=' | sort | tr '\\n' ' '"
    script = farm.write("show", f"#!/bin/sh\necho noise\n{ours}\nexit 3\n", 0o755)
    why = farm.why(CheckKind.COMMAND, 8080, command=(script,))
    assert why == f"MARKWAY_ADDRESS={SERVER} MARKWAY_BACKEND=a MARKWAY_PORT=8080 MARKWAY_SERVICE=web"
    assert farm.ask(CheckKind.COMMAND, 80, command=("/bin/sh", "-c", "ip -4 address | grep -q 10.98.0.1")).well


def test_command_tells_why(farm: Farm) -> None:
    assert farm.why(CheckKind.COMMAND, 80, command=("/bin/false",)) == "exit status 1"
    assert farm.why(CheckKind.COMMAND, 80, command=("/bin/sh", "-c", "kill -9 $$")) == "killed by SIGKILL"
    assert farm.why(CheckKind.COMMAND, 80, command=("/no/such",)) == "/no/such: no such file or directory"
    much = (sys.executable, "-c", "import sys; print('x\\n' * 500_000 + 'the end'); sys.exit(1)")
    assert farm.why(CheckKind.COMMAND, 80, command=much) == "the end"


def test_a_late_command_is_killed_with_all_it_started(farm: Farm) -> None:
    left = farm.directory / "left"
    script = f"trap '' TERM; sleep 600 & echo $! > {left}.new; mv {left}.new {left}; wait"
    why = farm.why(CheckKind.COMMAND, 80, command=("/bin/sh", "-c", script), timeout=2.0)
    assert why == "no answer in 2 s"
    eventually(lambda: not _runs(int(left.read_text())))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
