"""The systemd unit: with no more than it leaves the daemon, everything works; and the daemon tells systemd how it is.

systemd itself need not run here: what the unit forbids is forbidden by other means.
"""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.kernel.daemon import Daemon
from tests.kernel.support import eventually, run, seen, status, write

from markway.lab.build import directory

UNIT = Path(__file__).parents[2] / "contrib" / "markway.service"

WEB = """
[service.web]
listen = "192.0.2.10:80/tcp"
check = { command = ["/bin/sh", "-c", "test $MARKWAY_BACKEND != c"], every = "400ms", fast = "100ms" }
load = { ping = true, full = 1000, every = "1s" }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
backend.c = { address = "192.168.1.13:8080" }

[service.asked]
listen = "192.0.2.10:81/tcp"
check = { ping = true, every = "400ms", fast = "100ms" }
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }

[guard.ssh]
listen = "22/tcp"
logs = [{ format = "sshd", file = "/FOLDER/auth.log" }]
"""
FAILED = "{stamp} h sshd[1]: Failed password for root from 192.0.2.77 port {port} ssh2\n"
VIP = "192.0.2.10:80"

_CONFINED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: prctl(2), Linux 6.3
    print("no MDWE", file=sys.stderr)
os.execv(sys.argv[1], sys.argv[1:])
"""


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(UNIT, encoding="utf-8")
    return parser["Service"]


def confined():
    """In front of a command: the unit's groups and capabilities, no way to more, no memory written, then run."""
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in unit()["CapabilityBoundingSet"].split())
    groups = unit()["SupplementaryGroups"].replace(" ", ",")
    limits = ("setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs", f"--groups={groups}")
    return *limits, sys.executable, "-c", _CONFINED


@contextmanager
def notified(lab):
    """Where systemd would hear of the daemon."""
    path = directory(lab.name) / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(20)
        yield path, heard


def until(heard, wanted):
    said = []
    while wanted not in said:
        said += heard.recv(4096).decode().splitlines()
    return said


@pytest.fixture
def service(lab):
    """A daemon as the unit starts it, and where it tells how it is."""
    net = lab(WEB)
    log = directory(net.name) / "auth.log"
    log.touch(0o640)
    shutil.chown(log, "www-data", "adm")
    with notified(net) as (path, heard):
        env = ("env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=400000")
        daemon = Daemon(net, write(net, WEB.replace("/FOLDER", str(log.parent))), *env, *confined())
        try:
            until(heard, "READY=1")
            yield net, daemon, heard
        finally:
            daemon.end()


def test_with_what_the_unit_leaves_it_all_works(service):
    net, daemon, _ = service
    state = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii")
    assert "CapEff:\t0000000000003000" in state  # CAP_NET_ADMIN is 12, CAP_NET_RAW 13: capabilities(7)
    daemon.wait("up", "web/a")
    daemon.wait("down", "web/c")  # a program was run, and said no
    daemon.wait("up", "asked/b")  # a raw socket was opened
    eventually(lambda: dict(net.fetch(VIP, 20).answers) == {"a": 10, "b": 10})
    assert status(net)["pid"] == daemon.process.pid
    run(net, "drain", "web/a")
    eventually(lambda: dict(net.fetch(VIP, 20).answers) == {"b": 20})
    eventually(lambda: seen(net, "web")["backends"]["b"]["reading"] is not None)
    stamp = time.strftime("%b %e %H:%M:%S")
    with (directory(net.name) / "auth.log").open("a") as log:
        log.writelines(FAILED.format(stamp=stamp, port=port) for port in range(1, 4))
    daemon.wait("ban", "guard/ssh")  # the log was read, attempts were counted, the kernel was told
    assert not daemon.seen("error")
    assert not daemon.seen("warning")
    assert "no MDWE\n" not in daemon.other or os.uname().release < "6.3"


def test_systemd_hears_that_it_is_alive_reloads_and_stops(service):
    net, daemon, heard = service
    until(heard, "WATCHDOG=1")
    until(heard, "WATCHDOG=1")
    write(net, WEB.replace("backend.a =", "backend.z =", 1))
    daemon.send(signal.SIGHUP)
    until(heard, "RELOADING=1")
    until(heard, "READY=1")
    daemon.wait("apply")
    daemon.send(signal.SIGTERM)
    until(heard, "STOPPING=1")
    assert daemon.end() == 0
