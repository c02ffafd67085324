"""Who tries too often is kept out: real connections to real servers, as their clients see it."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.daemon import running
from tests.kernel.packets import Packet, send
from tests.kernel.shaped import quick
from tests.kernel.support import apply, eventually, read, run, status, unique_name, write

from markway.kernel import bans, netns
from markway.kernel.netlink import Netlink
from markway.lab.build import STATE_DIRECTORY, directory
from markway.lab.lab import Lab
from markway.lab.transfers import Path as Way
from markway.lab.transfers import Transfer, rates, single_packets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markway.lab.daemon import Daemon

SERVICE = """
[service.web]
listen = ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"]
backend.a = { address = ["192.168.1.11:80", "[fd00:1::11]:80"] }
"""
SSH = """
[guard.ssh]
listen = "22/tcp"
"""
QUICK = """
[guard.ssh]
listen = "22/tcp"
windows = "2 in 5s"
ban = { until-quiet = "6s" }
"""
SLOW = """
[guard.ssh]
listen = "22/tcp"
slow = true
windows = "2 in 20s"
ban = { until-quiet = "600s" }

[shape.wan]
device = "eth0"
rate = "40mbit"
default = "rest"
class.slow = { rate = "1mbit", match = { guard = "ssh" } }
class.rest = { rate = "39mbit" }
"""
EVERYWHERE = """
[shape.down]
device = "eth0"
direction = "ingress"
inside = "eth1"
rate = "40mbit"
default = "rest"
class.slow = { rate = "1mbit", match = { guard = "ssh", protocol = "tcp" } }
class.rest = { rate = "39mbit" }

[mark.slow]
match = { guard = "ssh", family = 6 }
class = "wan.slow"

[policy.no]
from = "any"
to = "any"
match = { guard = "ssh", destination-port = 25 }
verdict = "drop"
"""
FLOOD = 20_000
CLIENT1, CLIENT2, DIRECTOR = "198.51.100.11", "198.51.100.12", "198.51.100.1"
CLIENT6, DIRECTOR6 = "2001:db8:c1::11", "2001:db8:c1::1"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The director has a real sshd; `a` a real nginx."""
    with Lab.up(read(SERVICE), unique_name()) as made:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd(8) separates privileges
        key = directory(made.name) / "host_key"
        made.director.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        server = made.director.spawn("/usr/sbin/sshd", "-D", "-f", "/dev/null", "-h", str(key), "-o", "PidFile=none")
        try:
            eventually(lambda: attempt(made) == "SSH-2.0")
            single_packets(made)
            yield made
        finally:  # it writes over its environment, by which the lab would know it
            server.terminate()
            server.wait(20)


@contextmanager
def guarded(lab: Lab, text: str) -> Iterator[Daemon]:
    """The daemon with these guards, from when it counts; no ban is left by a test before."""
    try:
        with running(lab, text) as daemon:
            daemon.wait("guard")
            yield daemon
    finally:
        lab.nft("flush", "ruleset")
        state(lab).unlink(missing_ok=True)


def attempt(lab: Lab, address: str = DIRECTOR, port: int = 22, *, client: int = 0, wait: float = 0.3) -> str:
    """A connection: what the server says first, `refused`, or nothing at all."""
    with netns.enter(lab.clients[client].namespace):
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with opened:
        opened.settimeout(wait)
        try:
            opened.connect((address, port))
            opened.settimeout(20)
            if port != 22:
                opened.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return opened.recv(7).decode()
        except TimeoutError:
            return "nothing"
        except ConnectionRefusedError:
            return "refused"


def left(lab: Lab, source: str = CLIENT1, guard: str = "ssh") -> float | None:
    """For how many seconds the kernel keeps a source out yet."""
    address = ip_address(source)
    with netns.enter(lab.director.namespace), Netlink() as netlink:
        return bans.left(netlink, f"guard/{guard}/{address.version}", address.packed)


def slowed(lab: Lab, source: str = CLIENT1) -> float | None:
    """For how many seconds it slows a source yet."""
    return left(lab, source, "ssh/slow")


@contextmanager
def downloads(lab: Lab) -> Iterator[Callable[[], bool]]:
    """Each client loads from the director. Whether the first now gets the slow class's rate, and the other far more."""
    ways = [Way(client.namespace, lab.director.namespace, DIRECTOR, 5000 + n) for n, client in enumerate(lab.clients)]
    with Transfer(ways[0]) as first, Transfer(ways[1]) as second:

        def is_slow() -> bool:
            slow, free = rates([first, second], 1)
            return 0 < slow < 1_100_000 and free > 5 * slow

        yield is_slow


def test_the_third_attempt_in_20_s_is_refused_and_every_further_one_begins_the_600_s_anew(lab):
    with guarded(lab, SSH) as daemon:
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]
        said = daemon.wait("ban", "guard/ssh")
        assert said["data"]["source"] == f"{CLIENT1}/32"
        assert said["data"]["window"] == "2 in 20s"
        eventually(lambda: 0 < (left(lab) or 0) < 597)
        before = left(lab) or 600
        assert attempt(lab) == "nothing"
        assert (left(lab) or 0) > before
        assert attempt(lab, client=1) == "SSH-2.0"


def test_who_is_quiet_for_the_time_is_free_again(lab):
    with guarded(lab, QUICK) as daemon:
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]
        eventually(lambda: (left(lab) or 6) < 4)
        before = left(lab) or 6
        assert attempt(lab) == "nothing"
        assert (left(lab) or 0) > before
        eventually(lambda: left(lab) is None)
        assert attempt(lab) == "SSH-2.0"
        daemon.wait("unban", "guard/ssh")


def test_connections_that_were_there_before_the_ban_go_on(lab):
    with guarded(lab, SSH):
        with netns.enter(lab.clients[0].namespace):
            opened = socket.create_connection((DIRECTOR, 22))
        with opened:
            assert opened.recv(100).startswith(b"SSH-2.0")
            assert [attempt(lab) for _ in range(2)] == ["SSH-2.0", "nothing"]
            opened.sendall(b"SSH-2.0-test\r\n")
            assert opened.recv(100)


def test_allowed_networks_are_never_banned(lab):
    with guarded(lab, f'{SSH}allow = "{CLIENT1}"\n'):
        assert {attempt(lab) for _ in range(6)} == {"SSH-2.0"}
        assert [attempt(lab, client=1) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]


def test_a_source_of_ipv6_is_its_64(lab):
    with guarded(lab, SSH):
        assert [attempt(lab, DIRECTOR6) for _ in range(2)] == ["SSH-2.0", "SSH-2.0"]
        assert attempt(lab, DIRECTOR6, client=1) == "nothing"
        assert attempt(lab, DIRECTOR6) == "nothing"
        assert (left(lab, "2001:db8:c1::") or 0) > 500


def test_a_service_is_guarded_and_a_reset_tells_so(lab):
    text = f'{SERVICE}[guard.web]\nlisten = "service:web"\nrefuse = "reset"\nscope = "all"\nban = {{ time = "1m" }}\n'
    with guarded(lab, text):
        eventually(lambda: attempt(lab, "192.0.2.10", 80, client=1) == "HTTP/1.")
        assert [attempt(lab, "192.0.2.10", 80) for _ in range(3)] == ["HTTP/1.", "HTTP/1.", "nothing"]
        assert attempt(lab, "192.0.2.10", 80, wait=20) == "refused"
        assert attempt(lab, wait=20) == "refused"


def test_a_dead_daemon_leaves_bans_in_force_and_the_kernel_renews_them(lab):
    with guarded(lab, QUICK) as daemon:
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]
        daemon.end(signal.SIGKILL)
        eventually(lambda: (left(lab) or 6) < 4)
        before = left(lab) or 6
        assert attempt(lab) == "nothing"
        assert (left(lab) or 0) > before
        eventually(lambda: {attempt(lab, client=1) for _ in range(4)} == {"SSH-2.0"})
        eventually(lambda: left(lab) is None)
        assert attempt(lab) == "SSH-2.0"


def test_the_first_offence_slows_all_that_a_source_has_and_the_next_one_bans(lab):
    with guarded(lab, SLOW) as daemon:
        with downloads(lab) as is_slow:
            assert not is_slow()
            assert [attempt(lab, wait=20) for _ in range(3)] == ["SSH-2.0"] * 3
            assert daemon.wait("slow", "guard/ssh")["data"]["window"] == "2 in 20s"
            assert (slowed(lab) or 0) > 0
            assert left(lab) is None
            eventually(is_slow)
        [found] = json.loads(run(lab, "bans", "--json"))
        assert (found["source"], found["action"]) == (CLIENT1, "slow")
        assert not run(lab, "bans", "--plain")
        assert [attempt(lab, wait=2) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]
        daemon.wait("ban", "guard/ssh")
        assert slowed(lab)
        [found] = json.loads(run(lab, "bans", "--json"))
        assert (found["source"], found["action"]) == (CLIENT1, "ban")
        assert attempt(lab, client=1) == "SSH-2.0"


def test_a_guard_begins_and_ceases_to_slow_wherever_a_match_asks(lab):
    with quick(lab) as files:
        for text in (SSH, SLOW + EVERYWHERE, SSH.replace("ssh", "other"), SLOW + EVERYWHERE, SSH):
            files.apply(text)
            assert ("guard/ssh/slow/6" in lab.nft("list", "ruleset")) == ("slow" in text)
    lab.nft("flush", "ruleset")


def test_a_dead_daemon_leaves_a_source_slowed_and_the_kernel_renews_and_ends_it(lab):
    with guarded(lab, SLOW.replace("600s", "6s")) as daemon:
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0"] * 3
        daemon.wait("slow", "guard/ssh")
        daemon.end(signal.SIGKILL)
        with downloads(lab) as is_slow:
            eventually(lambda: (slowed(lab) or 6) < 4)
            before = slowed(lab) or 6
            assert attempt(lab, wait=20) == "SSH-2.0"
            assert (slowed(lab) or 0) > before
            assert is_slow()
            eventually(lambda: slowed(lab) is None)
            eventually(lambda: not is_slow())


def test_an_offence_counts_after_its_slowing(lab):
    with guarded(lab, SLOW.replace("600s", "3s")) as daemon:
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0"] * 3
        daemon.wait("unban", "guard/ssh")
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]


def test_a_slowing_is_forgotten_with_unban_and_comes_back_when_the_kernel_has_lost_it(lab):
    with guarded(lab, SLOW) as daemon:
        for one in (1, 2):
            assert [attempt(lab, DIRECTOR6) for _ in range(3)] == ["SSH-2.0"] * 3
            daemon.wait("slow", "guard/ssh", one)
            run(lab, "unban", CLIENT6)
            daemon.wait("unban", "guard/ssh", one)
            assert not slowed(lab, "2001:db8:c1::")
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0"] * 3
        eventually(lambda: kept(lab))
        daemon.end()
        lab.nft("flush", "ruleset")
        with running(lab, SLOW) as again:
            again.wait("guard")
            assert 400 < (slowed(lab) or 0) < 600
            assert left(lab) is None
            assert [attempt(lab) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]


def test_bans_come_back_with_the_time_left_when_the_kernel_has_lost_them(lab):
    with guarded(lab, SSH) as daemon:
        assert [attempt(lab) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]
        eventually(lambda: kept(lab))
        lab.nft("delete", "table", "inet", "markway")
        daemon.wait("mended")
        eventually(lambda: left(lab) is not None)
        daemon.end()
        lab.nft("flush", "ruleset")
        with running(lab, SSH) as again:
            again.wait("guard")
            assert 400 < (left(lab) or 0) < 600
            assert attempt(lab) == "nothing"
            again.end()
        lab.nft("flush", "ruleset")
        assert "nothing is in force" in run(lab, "bans", code=1)
        assert "guard ssh counts nothing" in apply(lab, SSH)
        assert 400 < (left(lab) or 0) < 600


def test_a_ban_goes_on_under_another_prefix(lab):
    wider = SSH.replace("[guard.ssh]", "[guard.ssh]\nprefix = 24")
    with guarded(lab, SSH) as daemon:
        run(lab, "ban", CLIENT1, "--for", "5m")
        apply(lab, wider)
        eventually(lambda: 200 < (left(lab, "198.51.100.0") or 0) <= 300)
        assert [attempt(lab), attempt(lab, client=1)] == ["nothing", "nothing"]
        daemon.end()
        apply(lab, SSH)
        run(lab, "ban", CLIENT2, "--for", "5m")
        apply(lab, wider)
        assert run(lab, "bans", "--plain").split() == ["198.51.100.0/24"]


def test_windows_that_nobody_confirms_are_undone(lab):
    def windows() -> list[str]:
        found: list[str] = status(lab)["guards"][0]["windows"]
        return found

    stricter = SSH.replace("[guard.ssh]", '[guard.ssh]\nwindows = "1 in 1m"')
    with guarded(lab, SSH):
        assert "It is undone in 1s" in apply(lab, stricter, "--confirm", "1s")
        eventually(lambda: windows()[0] == "2 in 20s")


def test_undoing_what_nobody_confirms_leaves_bans_that_the_kernel_has_renewed(lab):
    stricter = SSH.replace("[guard.ssh]", '[guard.ssh]\nwindows = "1 in 1m"')
    try:
        apply(lab, SSH)
        run(lab, "ban", CLIENT1, "--for", "90s")  # so it is written down, and nobody attends to that
        assert attempt(lab) == "nothing"
        apply(lab, stricter, "--confirm", "1s")
        eventually(lambda: status(lab)["guards"][0]["windows"][0] == "2 in 20s")
        eventually(lambda: not undoing(lab))
        assert (left(lab) or 0) > 500
    finally:
        lab.nft("flush", "ruleset")
        state(lab).unlink(missing_ok=True)


def undoing(lab: Lab) -> list[int]:
    """The processes that wait for a confirmation in this lab."""
    return [
        process
        for process in netns.processes([lab.director.namespace])
        if b"markway.director.undo" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]


def kept(lab: Lab) -> list[str]:
    return [*json.loads(state(lab).read_text()).get("ssh", ())] if state(lab).exists() else []


def state(lab: Lab) -> Path:
    return STATE_DIRECTORY / lab.director.namespace / "bans.json"


def test_failures_in_a_log_are_attempts(lab):
    log = directory(lab.name) / "auth.log"
    text = f'{SSH}logs = [{{ format = "sshd", file = "{log}" }}]\n'
    with guarded(lab, text) as daemon:
        assert "auth.log cannot be read" in daemon.wait("warning")["text"]
        assert {attempt(lab) for _ in range(4)} == {"SSH-2.0"}
        with log.open("a") as file:
            for port in range(3):
                stamp = time.strftime("%b %d %H:%M:%S")
                file.write(f"{stamp} h sshd[1]: Failed password for root from {CLIENT1} port {port + 1} ssh2\n")
        daemon.wait("ban", "guard/ssh")
        assert attempt(lab) == "nothing"


NGINX = """
user root; daemon off; pid {folder}/own.pid; error_log {folder}/errors; events {{}}
http {{
    access_log {folder}/visits;
    server {{ listen 8090; root {folder}; auth_basic "own"; auth_basic_user_file {folder}/users; }}
}}
"""
OWN = r"""pattern = '(?P<address>\S+) - \S+ \[(?P<date>[^]]+)\] "GET \S+ \S+" 401 .*', date = "%d/%b/%Y:%H:%M:%S %z" """


@pytest.mark.parametrize(
    ("kind", "file"),
    [('format = "nginx"', "errors"), ('format = "nginx-access"', "visits"), (OWN, "visits")],
    ids=("errors", "visits", "pattern"),
)
def test_wrong_passwords_at_a_real_nginx_ban(lab, kind, file):
    folder = directory(lab.name)
    (folder / "users").write_text("me:{PLAIN}right\n")
    (folder / "own.conf").write_text(NGINX.format(folder=folder))
    server = lab.director.spawn("nginx", "-c", f"{folder}/own.conf", "-e", f"{folder}/errors")
    try:
        with guarded(
            lab, f'[guard.web]\nlisten = "8090/tcp"\nlogs = [{{ {kind}, file = "{folder}/{file}" }}]\n'
        ) as daemon:
            eventually(lambda: visit(lab, "right") == "200")
            assert [visit(lab, "wrong") for _ in range(3)] == ["401"] * 3
            assert daemon.wait("ban", "guard/web")["data"]["source"] == f"{CLIENT1}/32"
            assert attempt(lab, port=8090) == "nothing"
            assert visit(lab, "right", client=1) == "200"
    finally:
        server.terminate()
        server.wait(20)


def visit(lab: Lab, password: str, *, client: int = 0) -> str:
    """The status that nginx answers with."""
    words = ("-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", f"me:{password}")
    return lab.clients[client].run("curl", *words, f"http://{DIRECTOR}:8090/users", check=False).stdout


def test_a_ban_holds_where_handshakes_are_answered_in_the_servers_place(lab):
    answered = """
[policy.ssh]
from = "any"
to = "self"
match = { protocol = "tcp", destination-port = 22 }
verdict = "accept"
synproxy = true
"""
    text = f'{SSH}logs = [{{ format = "sshd", file = "{directory(lab.name)}/auth.log" }}]\n{answered}'
    with guarded(lab, text):
        assert attempt(lab) == "SSH-2.0"
        run(lab, "ban", CLIENT1)
        assert attempt(lab) == "nothing"
        assert attempt(lab, client=1) == "SSH-2.0"
        run(lab, "unban", CLIENT1)
        assert attempt(lab) == "SSH-2.0"


def test_other_windows_are_a_change_though_the_kernel_stays_as_it_is(lab):
    try:
        apply(lab, SSH)
        assert run(lab, "plan", write(lab, SSH), "--exit-code").startswith("Nothing to change: ")
        other = f'{SSH}windows = "3 in 30s"\n'
        assert "windows or lists differ" in run(lab, "plan", write(lab, other), "--exit-code", code=2)
        assert "is taken over" in apply(lab, other)
        assert "taken over" not in apply(lab, f"{other}# and a remark")
    finally:
        lab.nft("flush", "ruleset")


def test_bans_by_hand_with_the_daemon_and_without(lab):
    with guarded(lab, SSH) as daemon:
        made = json.loads(run(lab, "ban", CLIENT1, "--for", "5m", "--json"))
        assert (made["guard"], made["source"], made["action"], made["left"]) == ("ssh", CLIENT1, "ban", 300)
        assert 200 < (left(lab) or 0) <= 300
        assert daemon.wait("ban", "guard/ssh")["data"]["source"] == f"{CLIENT1}/32"
        assert attempt(lab) == "nothing"
        [found] = json.loads(run(lab, "bans", "--json"))
        assert (found["guard"], found["source"]) == ("ssh", CLIENT1)
        assert json.loads(run(lab, "unban", CLIENT1, "--json")) == {"source": CLIENT1, "guards": ["ssh"]}
        assert attempt(lab) == "SSH-2.0"
        daemon.wait("unban", "guard/ssh")
        daemon.end()
        listed = directory(lab.name) / "list"
        listed.write_text(f"{CLIENT1}  # one\n{CLIENT2}\n{CLIENT2}\n2001:db8:7::/64\n")
        assert json.loads(run(lab, "bans", "import", str(listed), "--json"))["banned"] == 3
        assert {*run(lab, "bans", "--plain").split()} == {CLIENT1, CLIENT2, "2001:db8:7::/64"}
        assert attempt(lab, client=1) == "nothing"
        run(lab, "unban", CLIENT2)
        assert attempt(lab, client=1) == "SSH-2.0"
        assert {*kept(lab)} == {f"{CLIENT1}/32", "2001:db8:7::/64"}
        assert "is not banned" in run(lab, "unban", CLIENT2, code=1)


def test_bans_of_fail2ban_are_taken_over(lab):
    file, now = directory(lab.name) / "fail2ban.sqlite3", time.time()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER)")
        rows = [(CLIENT1, "sshd", now, 300, 1), (CLIENT2, "sshd", now - 400, 300, 1), ("192.0.2.7", "web", now, -1, 1)]
        database.executemany("INSERT INTO bips VALUES (?, ?, ?, ?, ?)", [*rows, ("2001:db8::7", "sshd", now, 60, 1)])
        database.execute("INSERT INTO bips VALUES ('192.0.2.8', 'sshd', ?, 1000000000000000000, 1)", [now])
    database.close()
    with guarded(lab, SSH):
        run(lab, "bans", "import", str(file), "--jail", "sshd")
        assert {*run(lab, "bans", "--plain").split()} == {CLIENT1, "192.0.2.8", "2001:db8::/64"}
        assert 200 < (left(lab) or 0) <= 300


def test_a_flood_of_forged_sources_neither_stops_the_counter_nor_grows_it(lab):
    lab.director.run("sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")  # these have none
    lab.director.run("sysctl", "-qw", "net.netfilter.nf_conntrack_max=1000000")
    with guarded(lab, SSH) as daemon:
        [counter] = counters(daemon.process.pid)
        before = resident(counter)
        forged = (
            Packet(source=f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", destination=DIRECTOR, dport=22)
            for number in range(FLOOD)
        )
        send(lab.clients[0].namespace, "eth0", forged)
        assert [attempt(lab, client=1, wait=2) for _ in range(3)] == ["SSH-2.0", "SSH-2.0", "nothing"]
        assert counters(daemon.process.pid) == [counter]
        assert resident(counter) - before < FLOOD * 500 + (8 << 20)


def counters(parent: int) -> list[int]:
    """The processes of a daemon that count attempts."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if b"guarding" in Path(f"/proc/{child}/cmdline").read_bytes()]


def resident(process: int) -> int:
    """Octets of memory that a process has."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096
