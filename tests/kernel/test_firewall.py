"""What zones and policies do to real connections, as their clients see it.

client1, client2 --[198.51.100.0/24]-- eth0 director eth1 --[192.168.1.0/24]-- a
        internet                            eth2 --[192.168.2.0/24]-- b
"""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from tests.kernel.packets import RST, SYN, TCP, Packet
from tests.kernel.support import apply, eventually, read, run, status, unique_name, write

from markway.config.firewalling import Verdict
from markway.director.checks.ping import checksum
from markway.guard.lockout import Connection, decision
from markway.kernel import netns
from markway.lab.lab import Lab

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from markway.lab.lab import Place

SERVICE = """
[service.web]
listen = ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"]
backend.a = { address = ["192.168.1.11:80", "[fd00:1::11]:80"] }
backend.b = { address = ["192.168.2.12:80", "[fd00:2::12]:80"] }
"""
ZONES = """
[zone.internet]
devices = "eth0"
[zone.lan]
devices = "eth1"
networks = ["192.168.1.0/24", "fd00:1::/64"]
[zone.dmz]
devices = "eth2"
"""
CLIENT1, CLIENT2, DIRECTOR, A, B = (
    "198.51.100.11", "198.51.100.12", "198.51.100.1", "192.168.1.11", "192.168.2.12",
)  # fmt: skip
CLIENT6, DIRECTOR6, A6, B6 = "2001:db8:c1::11", "2001:db8:c1::1", "fd00:1::11", "fd00:2::12"

_ECHO = """
import selectors, socket, sys
with selectors.DefaultSelector() as all:
    for port in sys.argv[1:]:
        opened = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
        all.register(opened, 1)
    print("ready", flush=True)
    while True:
        for key, _ in all.select():
            if key.data:
                all.register(key.fileobj.accept()[0], 1, None)
            elif data := key.fileobj.recv(100):
                key.fileobj.send(data)
            else:
                all.unregister(key.fileobj)
                key.fileobj.close()
""".replace("all.register(opened, 1)", "all.register(opened, 1, True)")


def policy(name: str, source: str, to: str, verdict: str, *more: str) -> str:
    lines = [f'[policy.{name}]\nfrom = "{source}"\nto = "{to}"\nverdict = "{verdict}"', *more]
    return "\n".join([*lines, ""])


def tcp(*ports: int) -> str:
    return f'match = {{ protocol = "tcp", destination-port = {list(ports)} }}'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The director and the servers listen on the ports 22, 80, 81 and 5000 too; nothing stands between them yet."""
    with Lab.up(read(SERVICE), unique_name()) as made:
        for place, ports in ((made.director, (22, 80, 81)), (made.host("a"), (22, 81)), (made.host("b"), (22, 81))):
            started = place.spawn(sys.executable, "-c", _ECHO, *map(str, ports))
            assert started.stdout
            assert started.stdout.readline() == "ready\n"
        yield made


@contextmanager
def connecting(place: Place, address: str, port: int) -> Iterator[socket.socket]:
    """A connection that has been asked for."""
    with netns.enter(place.namespace):
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with opened:
        opened.setblocking(False)
        assert opened.connect_ex((address, port)) == errno.EINPROGRESS
        yield opened


def answer(opened: socket.socket, seconds: float = 20) -> str:
    """What became of it: `open`, `refused`, or nothing in this time."""
    if not select.select([], [opened], [], seconds)[1]:
        return "nothing"
    error = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return {0: "open", errno.ECONNREFUSED: "refused"}.get(error, errno.errorcode.get(error, ""))


def ask(place: Place, address: str, port: int) -> str:
    with connecting(place, address, port) as opened:
        return answer(opened)


def counted(lab: Lab, name: str) -> int:
    """What a counter of our table has."""
    listed = json.loads(lab.nft("-j", "list", "counters", "table", "inet", "markway"))["nftables"]
    return next(int(each["counter"]["packets"]) for each in listed if each.get("counter", {}).get("name") == name)


def dropped(lab: Lab, place: Place, address: str, port: int, by: str) -> bool:
    """Whether a connection is asked for in vain, and which counter says so."""
    before = counted(lab, by)
    with connecting(place, address, port) as opened:
        eventually(lambda: counted(lab, by) > before)
        return answer(opened, 0) == "nothing"


def echoed(opened: socket.socket, text: bytes) -> bool:
    opened.setblocking(True)
    opened.settimeout(20)
    opened.send(text)
    return opened.recv(100) == text


def test_only_one_port_open(lab: Lab):
    """The classic small case: all else is dropped, and what this machine asks for is answered."""
    apply(lab, policy("web", "any", "self", "accept", tcp(80)))
    one, other = lab.clients
    for address in (DIRECTOR, DIRECTOR6):
        assert ask(one, address, 80) == "open"
        assert dropped(lab, one, address, 22, "firewall/input")
    assert dropped(lab, other, A, 80, "firewall/forward")
    assert ask(lab.director, A, 22) == ask(lab.director, A6, 22) == "open"
    assert ask(lab.director, DIRECTOR, 22) == "open"  # what it tells itself
    assert ping(one, DIRECTOR)
    assert ping(one, DIRECTOR6)
    with udp(one) as asking:  # whoever is asked at a closed port says so: errors pass
        asking.connect((DIRECTOR, 9))
        asking.send(b"0")
    with udp(lab.director) as asking:
        asking.connect((A, 9))
        asking.send(b"0")
        eventually(lambda: asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED)


def udp(place: Place) -> socket.socket:
    with netns.enter(place.namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def ping(place: Place, address: str) -> bool:
    """An echo request and its answer, by a raw socket."""
    six = ":" in address
    with netns.enter(place.namespace):
        opened = socket.socket(
            socket.AF_INET6 if six else socket.AF_INET,
            socket.SOCK_RAW,
            socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP,
        )
    with opened:
        opened.settimeout(20)
        opened.sendto(b"\x80\0\0\0\0\1\0\1" if six else b"\x08\0\xf7\xfd\0\1\0\1", (address, 0))
        while True:
            data = opened.recv(200)
            if data[0 if six else 20] in ({129} if six else {0}):
                return True


THREE = (
    ZONES
    + policy("ssh", "internet", "self", "accept", tcp(22))
    + policy("secret", "lan", "dmz", "reject", tcp(81))
    + policy("to-dmz", "lan", "dmz", "accept")
    + policy("mail", "dmz", "any", "drop", tcp(22))
    + policy("out", "dmz", "internet", "accept")
    + policy("no-ssh", "self", "dmz", "reject", tcp(22))
)


def test_three_zones(lab: Lab):
    apply(lab, SERVICE + THREE)
    one, a, b, own = lab.clients[0], lab.host("a"), lab.host("b"), lab.director
    assert ask(one, DIRECTOR, 22) == "open"
    assert ask(a, B, 81) == ask(a, B6, 81) == "refused"  # before what follows, though that fits too
    assert ask(a, B, 22) == ask(a, B6, 22) == "open"
    assert dropped(lab, b, A, 80, "firewall/forward")
    assert dropped(lab, a, DIRECTOR, 22, "firewall/input")
    with netns.enter(one.namespace), socket.create_server(("", 5000)):
        assert ask(b, CLIENT1, 5000) == "open"
    assert ask(b, CLIENT1, 5001) == "refused"  # by the client itself
    assert dropped(lab, b, CLIENT1, 22, "policy/mail")
    assert ask(own, B, 22) == ask(own, B6, 22) == "refused"
    assert ask(own, B, 81) == ask(own, A, 22) == "open"
    assert lab.fetch("192.0.2.10:80", 4).answers == {"a": 2, "b": 2}  # a service is open by itself
    assert lab.fetch("[2001:db8::10]:80", 4).answers == {"a": 2, "b": 2}
    seen = {each["name"]: each for each in status(lab)["policies"]}
    assert seen["ssh"]["packets"] == 1
    says = {"from": ["lan"], "to": ["dmz"], "verdict": "reject", "packets": 2, "over": None}
    assert says.items() <= seen["secret"].items()
    assert "to-dmz" in run(lab, "status")


def test_what_is_established_survives(lab: Lab):
    """An apply that closes a port closes it for new connections."""
    apply(lab, policy("web", "any", "self", "accept", tcp(81)))
    with connecting(lab.clients[0], DIRECTOR, 81) as opened:
        assert answer(opened) == "open"
        apply(lab, policy("web", "any", "self", "accept", tcp(80)))
        assert echoed(opened, b"still here")
    assert dropped(lab, lab.clients[0], DIRECTOR, 81, "firewall/input")


def test_limits(lab: Lab):
    """A source that has too much is refused, another is not; what is over is free again."""
    text = policy("few", "any", "self", "accept", tcp(80), "max-connections = 3") + policy(
        "slow", "any", "self", "accept", tcp(81), 'rate = "1/hour burst 4"'
    )
    apply(lab, text)
    one, other = lab.clients
    with ExitStack() as held:
        for _ in range(3):
            assert answer(held.enter_context(connecting(one, DIRECTOR, 80))) == "open"
        assert dropped(lab, one, DIRECTOR, 80, "policy/few/over")
        assert ask(other, DIRECTOR, 80) == "open"
    lab.director.run("conntrack", "-D", "-p", "tcp", "--dport", "80")  # instead of waiting for its end
    assert ask(one, DIRECTOR, 80) == "open"
    assert [ask(one, DIRECTOR, 81) for _ in range(4)] == ["open"] * 4
    assert dropped(lab, one, DIRECTOR, 81, "policy/slow/over")
    assert ask(other, DIRECTOR, 81) == "open"
    assert {one["name"]: one["over"] for one in status(lab)["policies"]}["slow"] == 1


def test_what_is_dropped_is_logged_at_a_rate(lab: Lab):
    """Lines are counted beside being written: the kernel's log tells only the first namespace's."""
    no = policy("no", "any", "self", "drop", 'log = "1/hour burst 2"', tcp(22))
    apply(lab, f'[firewall]\nlog = "1/hour burst 3"\n{no}')
    before = {name: counted(lab, name) for name in ("firewall/input", "firewall/logged")}
    with udp(lab.clients[0]) as opened:
        for _ in range(10):
            opened.sendto(b"", (DIRECTOR, 9))
    eventually(lambda: counted(lab, "firewall/input") == before["firewall/input"] + 10)
    assert counted(lab, "firewall/logged") == before["firewall/logged"] + 3
    for _ in range(3):
        assert dropped(lab, lab.clients[0], DIRECTOR, 22, "policy/no")
    assert counted(lab, "firewall/logged") == before["firewall/logged"] + 5
    apply(lab, "[firewall]\nlog = false")
    assert "log prefix" not in lab.nft("list", "table", "inet", "markway")


def test_a_forged_source_is_dropped(lab: Lab):
    """The route to it is not by the device that it came in by; who has no address yet is heard."""
    apply(lab, ZONES + policy("all", "any", "self", "accept"))
    one, own = lab.clients
    before = counted(lab, "policy/all")
    for source in (A, DIRECTOR, "203.0.113.9"):
        spoofed = counted(lab, "firewall/spoofed")
        segments(one, source, range(1, 6), (DIRECTOR, 80), SYN)
        eventually(partial(lambda before: counted(lab, "firewall/spoofed") == before + 5, spoofed))
    assert counted(lab, "policy/all") == before
    assert ask(own, DIRECTOR, 80) == ask(own, DIRECTOR6, 80) == "open"
    with netns.enter(lab.director.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("", 67))
        server.settimeout(20)
        with netns.enter(one.namespace):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.bind(("", 68))
            asking.sendto(b"discover", (DIRECTOR, 67))
        assert server.recv(100) == b"discover"
    apply(lab, ZONES.replace("devices", 'spoofed = "accept"\ndevices') + policy("all", "any", "self", "accept"))
    segments(one, "203.0.113.9", range(1, 2), (DIRECTOR, 80), SYN)
    eventually(lambda: counted(lab, "policy/all") == before + 4)


def segments(place: Place, source: str, ports: range, to: tuple[str, int], flags: int) -> None:
    """TCP packets from a source that need not be this host's, with sums that hold (RFC 9293, 3.1)."""
    with netns.enter(place.namespace):
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    ends = ip_address(source).packed + ip_address(to[0]).packed
    with opened:
        for port in ports:
            head = bytes(Packet(sport=port, dport=to[1], flags=flags, source=source, destination=to[0]))
            total = checksum(ends + struct.pack("!HH", TCP, len(head) - 20) + head[20:])
            opened.sendto(head[:36] + struct.pack("!H", total) + head[38:], (to[0], 0))


SYNPROXY = ZONES + policy("web", "internet", "any", "accept", tcp(22, 80, 81), "synproxy = true").replace(
    'to = "any"', 'to = ["self", "lan"]'
)


@pytest.mark.needs("nft_synproxy")
def test_a_flood_of_handshakes(lab: Lab):
    """It leaves nothing behind in the table of connections, and who means it gets through meanwhile."""
    apply(lab, SERVICE + SYNPROXY)
    one, other = lab.clients
    lab.director.run("conntrack", "-F")
    answered = counted(lab, "policy/web")
    for host in range(64, 84):
        segments(one, f"198.51.100.{host}", range(1024, 1124), (DIRECTOR, 80), SYN)
    for place, address, port in ((other, DIRECTOR, 80), (other, DIRECTOR6, 80), (other, A, 81), (other, A6, 81)):
        with connecting(place, address, port) as opened:
            assert answer(opened) == "open"
            assert echoed(opened, b"through the proxy")
    assert counted(lab, "policy/web") == answered + 4
    assert int(lab.director.run("conntrack", "-C").stdout) < 50
    assert dropped(lab, other, B, 81, "firewall/forward")
    strange = counted(lab, "firewall/invalid")
    segments(one, CLIENT1, range(999, 1000), (DIRECTOR, 22), RST)
    eventually(lambda: counted(lab, "firewall/invalid") > strange)
    assert lab.fetch("192.0.2.10:80", 2).answers == {"a": 1, "b": 1}  # a service's handshakes are its servers'


FORESEEN = (
    THREE,
    policy("web", "any", "self", "accept", tcp(80)),
    SERVICE.replace("backend.a", 'deny = "198.51.100.12"\nbackend.a') + "[firewall]\n",
    ZONES
    + """
[zone.bad]
networks = "198.51.100.12"
[policy.no]
from = ["bad", "dmz"]
to = "self"
verdict = "reject"
[policy.only-some]
from = "any"
to = "self"
verdict = "accept"
match = [
  { protocol = "udp", destination-port = 81 },
  { source = "198.51.100.0/24", destination-port = [22, "79-80"], state = "new" },
  { incoming-device = "eth1", protocol = "tcp", tcp-flags = "syn/syn,ack", destination-port = 81 },
  { destination = "10.0.0.0/8" },
  { state = "established" },
]
[policy.rest]
from = "lan"
to = "any"
verdict = "drop"
""",
)


@pytest.mark.parametrize("text", FORESEEN)
def test_what_is_foreseen_of_connections_is_what_becomes_of_them(lab: Lab, text: str):
    apply(lab, text)
    config = read(text)
    gates = {"a": ("eth1", A, "192.168.1.1"), "b": ("eth2", B, "192.168.2.1")}
    ways = {name: (lab.host(name), gate) for name, gate in gates.items()}
    ways |= {
        "client1": (lab.clients[0], ("eth0", CLIENT1, DIRECTOR)),
        "client2": (lab.clients[1], ("eth0", CLIENT2, DIRECTOR)),
    }
    tried = [
        (place, Connection(device, ip_address(source), ip_address(to), port))
        for place, (device, source, to) in ways.values()
        for port in (22, 80, 81)
    ]
    tried += [
        (place, Connection("eth0", ip_address(source), ip_address("192.0.2.10"), 80))
        for place, source in zip(lab.clients, (CLIENT1, CLIENT2), strict=True)
        if "service" in text
    ]
    for place, connection in tried:
        verdict = decision(config, connection).verdict
        before = refusals(lab)
        with connecting(place, str(connection.destination), connection.port) as opened:
            if verdict is Verdict.DROP:
                eventually(partial(lambda before: refusals(lab) > before, before))
                assert answer(opened, 0) == "nothing", connection
            else:
                assert answer(opened) == ("open" if verdict is Verdict.ACCEPT else "refused"), connection


def refusals(lab: Lab) -> int:
    listed = json.loads(lab.nft("-j", "list", "counters", "table", "inet", "markway"))["nftables"]
    return sum(
        int(each["counter"]["packets"])
        for each in listed
        if each.get("counter", {}).get("name", "logged")[-6:] != "logged"
    )


SUDO = ("sh", "-c", 'env -u SSH_CONNECTION "$@"; exit $?', "sh")
"""A shell whose command does not have the variable, as under sudo(8)."""


def over_ssh(lab: Lab, text: str, *options: str, through: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    path = write(lab, text)
    connection = f"SSH_CONNECTION={CLIENT1} 50000 {DIRECTOR} 22"
    command = ("env", connection, *through, sys.executable, "-m", "markway", "apply", *options, path)
    return lab.director.run(*command, check=False)


def test_nobody_locks_himself_out(lab: Lab):
    apply(lab, SERVICE)
    shut = ZONES + "[firewall]\n" + policy("web", "any", "self", "accept", tcp(80))
    refused = over_ssh(lab, shut)
    assert refused.returncode == 1
    assert "markway.toml:9:2: firewall: it would lock you out" in refused.stderr
    assert "--confirm 60s" in refused.stderr
    assert over_ssh(lab, shut, through=SUDO).stderr == refused.stderr
    assert {one["name"] for one in status(lab)["policies"]} == set()
    risked = over_ssh(lab, shut, "--confirm", "60s")
    assert risked.returncode == 0
    assert "it would lock you out" in risked.stderr
    run(lab, "rollback")
    assert over_ssh(lab, shut.replace("[firewall]", '[firewall]\nlockout = "accept"')).returncode == 0
    assert status(lab)["policies"]


def test_nothing_is_left_and_nobody_else_is_touched(lab: Lab):
    lab.nft("-f", "-", text="table inet other { chain c { type filter hook input priority 5; counter; }; }")
    other = lab.nft("list", "table", "inet", "other").partition("counter")[0]
    apply(lab, SERVICE + THREE)
    apply(lab, SERVICE)
    left = lab.nft("list", "table", "inet", "markway")
    assert not [word for word in ("policy/", "firewall", "hook input", "hook forward", "fib ") if word in left]
    assert lab.nft("list", "table", "inet", "other").startswith(other)
    lab.nft("delete", "table", "inet", "other")
    assert ask(lab.clients[0], DIRECTOR, 81) == "open"
