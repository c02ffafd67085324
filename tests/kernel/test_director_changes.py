"""Configurations that come and go while the daemon changes weights.

client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.kernel.daemon import Daemon, given, running
from tests.kernel.support import apply, eventually, marks, run, status, write

from markway.kernel import netns
from markway.kernel.conntrack import connections_by_mark
from markway.kernel.netlink import Netlink

CHECK = 'check = { tcp = true, every = "400ms", fast = "100ms", timeout = "300ms", fall = 2, jitter = 0 }'
TWO = f"""
[service.web]
listen = "192.0.2.10:80/tcp+udp"
{CHECK}
backend.a = {{ address = "192.168.1.11:8080" }}
backend.b = {{ address = "192.168.1.12:8080" }}
"""
THREE = TWO + 'backend.c = { address = "192.168.1.13:8080" }\n'


def test_what_is_not_confirmed_is_undone_though_weights_have_changed_since(lab):
    """The new backend gets connections after its first check: by then the program is not the one that was applied."""
    net = lab(THREE)
    with running(net, TWO) as daemon:
        eventually(lambda: set(given(net, 12)) == {"a", "b"})
        apply(net, THREE, "--confirm", "1h")
        daemon.wait("up", "web/c")
        eventually(lambda: set(given(net, 12)) == {"a", "b", "c"})
        assert status(net)["confirm_within"] > 0
        assert "awaits confirmation" in apply(net, TWO, code=1)
        run(net, "rollback")
        apply(net, THREE, "--confirm", "2s")
        daemon.wait("up", "web/c", 2)
        eventually(lambda: status(net)["confirm_within"] is None)
        eventually(lambda: set(given(net, 12)) == {"a", "b"})
        net.stop("a")
        daemon.wait("down", "web/a")
        eventually(lambda: set(given(net, 12)) == {"b"})


def test_flows_of_a_backend_that_is_removed_move(lab):
    net = lab(THREE)
    with running(net, THREE):
        eventually(lambda: set(given(net, 12, udp=True)) == {"a", "b", "c"})
        mark = marks(net, "web")["c"]

        def left():
            with netns.enter(net.director.namespace), Netlink() as netlink:
                return connections_by_mark(netlink, 0xFF)[mark]

        assert left()
        apply(net, TWO)
        eventually(lambda: not left())


def test_while_the_disk_is_full_it_says_so_and_it_goes_on_afterwards(lab):
    """The limit for the size of files stands for a disk without room for one more line of the log."""
    net = lab(TWO)
    apply(net, TWO)
    size = Path(f"/run/markway/netns/{net.director.namespace}/program.log").stat().st_size
    daemon = Daemon(net, write(net, TWO), "prlimit", f"--fsize={size}:unlimited")
    try:
        daemon.wait("start")
        eventually(lambda: set(given(net, 12)) == {"a", "b"})
        net.stop("b")
        daemon.wait("down", "web/b")
        assert "File too large" in daemon.wait("error")["text"]
        subprocess.run(["prlimit", "--pid", str(daemon.process.pid), "--fsize=unlimited:unlimited"], check=True)
        eventually(lambda: set(given(net, 12)) == {"a"})
        net.start("b")
        eventually(lambda: set(given(net, 12)) == {"a", "b"})
    finally:
        assert daemon.end() == 0
