"""The lab itself: hosts, ways, servers, and that nothing is left.

client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import eventually, unique_name

from markway.config.model import Backend, Config, Endpoint, Listener, PortRange, Protocol, Service
from markway.kernel import netns
from markway.lab import build, servers
from markway.lab.lab import Lab
from markway.lab.plan import plan_lab
from markway.lab.topology import LabError, Server, namespace, served

if TYPE_CHECKING:
    from collections.abc import Iterator


def listener(address: str, port: int, protocol: Protocol = Protocol.TCP) -> Listener:
    return Listener(ip_address(address), protocol, (PortRange(port, port),))


def backend(name: str, *addresses: str, port: int | None = None) -> Backend:
    return Backend(name, tuple(Endpoint(ip_address(address), port) for address in addresses))


WEB = Service(
    "web",
    (listener("192.0.2.10", 80), listener("2001:db8::10", 80)),
    tuple(backend(n, f"192.168.1.1{i}", f"fd00:1::1{i}", port=8080) for i, n in enumerate("abc")),
)
DNS = Service(
    "dns",
    (listener("192.0.2.10", 53, Protocol.UDP), listener("2001:db8::10", 53, Protocol.UDP)),
    tuple(backend(n, f"192.168.1.1{i}", f"fd00:1::1{i}") for i, n in enumerate("abc")),
)
CONFIG = Config((DNS, WEB))


def traces(name: str) -> list[object]:
    """Everything on the machine that belongs to a lab."""
    files = build.RUN_DIRECTORY.glob(f"{name}*")
    return [*netns.names(namespace(name, "")), *lab_processes(name), *files]


def lab_processes(name: str) -> Iterator[Path]:
    mine = f"{servers.LAB_VARIABLE}={name}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if mine in (process / "environ").read_bytes().split(b"\0"):
                yield process


def devices() -> str:
    """The network devices of the machine's own namespace."""
    return subprocess.run(["ip", "-br", "addr"], capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("client", [0, 1])
@pytest.mark.parametrize("backend_name", ["a", "b", "c"])
def test_every_backend_answers_every_client_with_its_name(lab_of_three, client, backend_name):
    place = lab_of_three.host(backend_name)
    for version in (4, 6):
        address = place.address(version)
        shown = f"[{address}]" if version == 6 else address
        tcp = lab_of_three.fetch(f"{shown}:8080", 20, client=client)
        udp = lab_of_three.fetch(f"{shown}:53", 20, client=client, udp=True)
        assert tcp.answers == udp.answers == {backend_name: 20}
        assert not tcp.failed
        assert not udp.failed


@pytest.fixture(scope="module")
def lab_of_three():
    with Lab.up(CONFIG, unique_name()) as lab:
        yield lab


def test_clients_go_through_the_director(lab_of_three):
    lab_of_three.nft("add table inet t")
    lab_of_three.nft("add chain inet t forward { type filter hook forward priority 0; policy drop; }")
    try:
        dropped = lab_of_three.fetch("192.168.1.10:8080", 1, timeout=0.2)
    finally:
        lab_of_three.nft("delete table inet t")
    assert list(dropped.failures) == ["timeout"]


def test_the_director_reaches_backends_and_owns_the_listeners(lab_of_three):
    assert lab_of_three.director.fetch("[fd00:1::12]:8080", 3).answers == {"c": 3}
    shown = lab_of_three.director.run("ip", "-br", "addr", "show", "lo").stdout
    assert "192.0.2.10/32" in shown
    assert "2001:db8::10/128" in shown
    # No rules yet: the director itself refuses, at once.
    assert list(lab_of_three.fetch("192.0.2.10:80", 5).failures) == ["refused"]
    assert lab_of_three.fetch("192.0.2.10:53", 50, udp=True).failures["refused"].count == 50


@pytest.mark.parametrize(
    ("source", "target"),
    [("198.51.100.64/26", "192.168.1.10"), ("2001:db8:c1:0:1::/80", "[fd00:1::10]")],
)
@pytest.mark.parametrize("udp", [False, True])
def test_a_client_has_many_addresses(lab_of_three, source, target, udp):
    port = 53 if udp else 8080
    tally = lab_of_three.fetch(f"{target}:{port}", 60, source=source, udp=udp)
    assert tally.answers == {"a": 60}


@pytest.mark.alone
def test_the_rate_is_kept_and_the_time_bounded(lab_of_three):
    tally = lab_of_three.fetch("192.168.1.10:8080", 1000, rate=100, limit=0.5)
    assert 40 <= tally.connections <= 52
    assert tally.unstarted == 1000 - tally.connections
    assert tally.answers["a"] >= tally.connections - 1
    assert tally.seconds < 1


def test_the_client_command_prints_one_line_of_json(lab_of_three):
    program = [sys.executable, "-m", "markway.lab.client"]
    done = lab_of_three.clients[0].run(*program, "192.168.1.11:8080", "--count", "7")
    assert json.loads(done.stdout)["answers"] == {"b": 7}
    refused = lab_of_three.clients[0].run(*program, "192.168.1.11:8081", "--count", "7", check=False)
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["failures"] == {"refused": {"count": 7, "first": "Connection refused"}}


@pytest.mark.parametrize("udp", [False, True])
def test_held_connections_live_until_their_server_ends(lab, udp):
    it = lab(CONFIG)
    target = "192.168.1.10:53" if udp else "192.168.1.10:8080"
    with it.clients[0].hold(target, 50, *(["--udp"] if udp else [])) as holding:
        assert holding.opened.open == 50
        again = holding.report()
        assert (again.open, again.moved, again.answers, again.failures) == (50, 0, {"a": 50}, {})
        it.stop("a")
        assert holding.report().open == 0
        it.start("a")
    assert it.fetch(target, 5, udp=udp).answers == {"a": 5}


def test_down_removes_everything(lab):
    it = lab(CONFIG)
    it.clients[0].spawn("sleep", "600")
    eventually(lambda: len(traces(it.name)) >= 7 + 7 + 2)  # namespaces, processes, files
    it.down()
    eventually(lambda: not traces(it.name))


def test_down_leaves_processes_alone_that_are_not_of_the_lab(lab):
    it = lab(CONFIG)
    stranger = netns.start(it.host("a").namespace, ["sleep", "600"], env={})
    try:
        assert build.down(it.name) == [stranger.pid]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_up_that_fails_leaves_nothing():
    # Every port of host b is opened twice.
    name = unique_name()
    topology = plan_lab(CONFIG, name)
    blocked = topology.host("b")
    broken = type(blocked)(blocked.name, blocked.role, blocked.devices, servers=blocked.servers * 2)
    hosts = tuple(broken if host is blocked else host for host in topology.hosts)
    with pytest.raises(LabError, match=r"host b: a server did not start: nginx: .+ duplicate listen"):
        build.up(type(topology)(name, hosts, topology.bridges))
    eventually(lambda: not traces(name))


def test_an_interrupted_up_is_listed_and_removed():
    name = unique_name()
    child = os.fork()
    if not child:
        servers.start = lambda *_: os._exit(9)
        build.up(plan_lab(CONFIG, name))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not build.record(name).ready
    with pytest.raises(LabError, match=f'a lab "{name}" exists; remove it'):
        build.up(plan_lab(CONFIG, name))
    build.down(name)
    assert not traces(name)


def test_a_lab_that_exists_is_not_built_again(lab):
    it = lab(Config())
    with pytest.raises(LabError, match=f"markway lab down {it.name}"):
        build.up(it.topology)
    assert build.record(it.name).ready


def test_the_machine_s_own_namespace_is_as_before(lab):
    before = devices()
    it = lab(CONFIG)
    during = devices()
    it.down()
    assert before == during == devices()


def test_backends_of_one_lan_see_each_other_and_lans_meet_at_the_director(lab):
    far = Service("far", (listener("192.0.2.11", 80),), (backend("z", "10.9.8.7", port=80),))
    it = lab(Config((far, WEB)))
    assert it.topology.bridges == ("clients", "lan1", "lan2")
    assert it.host("a").fetch("192.168.1.11:8080").answers == {"b": 1}
    assert it.host("a").fetch("10.9.8.7:80").answers == {"z": 1}
    neighbours = it.host("a").run("ip", "neigh").stdout
    assert "192.168.1.11" in neighbours
    assert "10.9.8.7" not in neighbours


def test_a_listener_in_the_backends_prefix_is_found_by_its_neighbours(lab):
    inside = Service("in", (listener("192.168.1.100", 80), listener("fd00:1::100", 80)), WEB.backends)
    it = lab(Config((inside,)))
    for target in ("192.168.1.100:80", "[fd00:1::100]:80"):
        assert list(it.host("a").fetch(target, timeout=2).failures) == ["refused"]


def test_hosts_are_named_after_backends_and_after_services_where_that_is_ambiguous():
    def plan(*services: Service) -> dict[str, list[str]]:
        hosts = plan_lab(Config(services), "x").hosts[3:]
        return {host.name: [f"{s.port}/{s.protocol}={s.answer}" for s in host.servers] for host in hosts}

    def service(name: str, *backends: Backend) -> Service:
        return Service(name, (listener("192.0.2.10", 80),), backends, sorry=())

    one, other = backend("a", "10.0.0.1"), backend("a", "10.0.0.2")
    assert plan(service("s", one), service("t", one)) == {"a": ["80/tcp=a"]}
    assert plan(service("s", one), service("t", other)) == {"s-a": ["80/tcp=a"], "t-a": ["80/tcp=a"]}
    assert plan(service("s", backend("director", "10.0.0.1"))) == {"s-director": ["80/tcp=director"]}
    # Two names on one address: by port where that tells them apart, else by the host's name.
    two = (backend("a", "10.0.0.1", port=1), backend("b", "10.0.0.1", port=2))
    assert plan(service("s", *two)) == {"a": ["1/tcp=a", "2/tcp=b"]}
    assert plan(service("s", one), service("t", backend("b", "10.0.0.1"))) == {"a": ["80/tcp=a"]}


def test_the_clients_live_where_the_file_does_not():
    taken = Service("s", (listener("198.51.100.7", 80), listener("2001:db8:c1::7", 80)), ())
    client = plan_lab(Config((taken,)), "x").host("client1")
    assert list(map(str, client.addresses)) == ["203.0.113.11", "2001:db8:c2::11"]


def test_the_director_takes_the_first_free_address_of_the_backends_prefix():
    first = (backend("a", "10.0.0.1", "fd00::1"), backend("b", "10.0.0.2"))
    director = plan_lab(Config((Service("s", (listener("10.0.0.3", 80),), first),)), "x").hosts[0]
    assert [str(a) for a in director.devices[1].addresses] == ["10.0.0.4/24", "fd00::2/64", "10.0.0.3/32"]


def test_of_many_ports_the_first_and_the_usual_are_served():
    every = Listener(ip_address("192.0.2.1"), Protocol.TCP, (PortRange(1, 65535),))
    host = plan_lab(Config((Service("s", (every,), (backend("a", "10.0.0.1"),)),)), "x").host("a")
    assert [server.port for server in host.servers] == [*range(1, 9), 80, 443, 8080]


def test_a_sorry_server_is_a_host():
    sorry = Service("s", (listener("192.0.2.1", 80),), (), sorry=(Endpoint(ip_address("10.0.0.9"), 81),))
    host = plan_lab(Config((sorry,)), "x").host("s-sorry")
    assert [(server.port, server.answer) for server in host.servers] == [(81, "s-sorry")]


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1", "cannot be the address of a host"), ("192.0.2.10", "is the director's own address")],
)
def test_what_a_lab_has_no_place_for_is_said(address, why):
    service = Service("s", (listener("192.0.2.10", 80),), (backend("a", address, port=81),))
    with pytest.raises(LabError, match=f"service s, a: {address} {why}"):
        plan_lab(Config((service,)), "x")


@pytest.mark.parametrize("name", ["", "a-b", "../x", "A", "x" * 33])
def test_a_lab_name_is_a_word(name):
    with pytest.raises(LabError, match="cannot name a lab"):
        plan_lab(Config(), name)


def test_served_ports_are_told_as_ranges():
    ports = [80, 8000, 8001, 8002, 443]
    tcp = [Server(Protocol.TCP, port, "a") for port in ports]
    assert served([*tcp, Server(Protocol.TCP, 21, "a", ftp=True), Server(Protocol.UDP, 69, "a")]) == [
        "80,443,8000-8002/tcp",
        "21/tcp (FTP)",
        "69/udp",
    ]


def test_markway_in_a_lab_keeps_its_state_apart_and_down_forgets_it(lab, monkeypatch, tmp_path):
    monkeypatch.setenv("MARKWAY_STATE_DIR", str(tmp_path))  # the user's own, for another purpose
    it = lab(CONFIG)
    (tmp_path / "web.toml").write_text(
        '[service.web]\nlisten = "192.0.2.10:80"\nbackend.a.address = "192.168.1.10:8080"\n'
    )
    assert it.markway("apply", str(tmp_path / "web.toml")).returncode == 0
    state = build.STATE_DIRECTORY / it.director.namespace
    assert state.is_dir()
    # The same program by whatever way one comes in, and `markway` is on the path.
    ways = [
        ["ip", "netns", "exec", it.director.namespace, sys.executable, "-m", "markway"],
        [sys.executable, "-m", "markway", "lab", "exec", "--name", it.name, "director", "--", "markway"],
    ]
    env = {key: value for key, value in os.environ.items() if key != "MARKWAY_STATE_DIR"}
    seen = [subprocess.check_output([*way, "status", "--json"], text=True, env=env) for way in ways]
    assert seen[0] == seen[1]
    assert '"web"' in seen[0]
    assert [path.name for path in tmp_path.iterdir()] == ["web.toml"]
    it.down()
    assert not state.exists()


@pytest.mark.skipif(not servers.has_ftp(), reason="vsftpd is not installed")
def test_a_service_with_the_ftp_helper_has_a_real_ftp_server(lab):
    files = Service("files", (listener("192.0.2.21", 21),), (backend("archive", "192.168.1.41"),), helper="ftp")
    it = lab(Config((files,)))
    fetched = it.clients[0].run("curl", "-sS", "ftp://192.168.1.41/server")
    assert fetched.stdout == "archive\n"
    assert build.record(it.name).servers["archive"] == ("21/tcp (FTP)",)
