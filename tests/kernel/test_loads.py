"""Loads as they are read from real sources on a lab's hosts.

director --[192.168.1.0/24, fd00:1::/64]-- a (nginx, snmpd), b (nginx, nothing else)
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import eventually, read, unique_name

from markway.config.model import Load, LoadKind
from markway.director.loads import Loads
from markway.director.model import LoadError, Target
from markway.kernel import netns
from markway.lab import snmp
from markway.lab.build import directory
from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = """
[service.web]
listen = "192.0.2.10:80"
mode = "snat"
source = "192.0.2.9"
backend.a.address = ["192.168.1.11:8080", "[fd00:1::11]:8080"]
backend.b.address = "192.168.1.12:8080"
"""
A = Target("web", "a", ip_address("192.168.1.11"), 8080)
A6 = replace(A, address=ip_address("fd00:1::11"))
B = Target("web", "b", ip_address("192.168.1.12"), 8080)
SNMP = Load(LoadKind.SNMP, target="laLoadInt.1", timeout=5.0)
MISSING = "1.3.6.1.4.1.2021.99.1"


@pytest.fixture(scope="module")
def farm() -> Iterator[Lab]:
    with Lab.up(read(FILE), unique_name()) as lab:
        snmp.serve(lab.host("a"), seconds=1.2)
        yield lab


@pytest.fixture
def files(tmp_path):
    for name, text in (
        ("auth", snmp.AUTH_PASSPHRASE),
        ("privacy", snmp.PRIVACY_PASSPHRASE),
        ("wrong", "mistaken-word"),
    ):
        (tmp_path / name).write_text(text + "\n")
    return tmp_path


@pytest.fixture
def three(files) -> Load:
    known = replace(SNMP, version="3", user=snmp.USER, auth=snmp.AUTH, privacy=snmp.PRIVACY)
    return replace(known, auth_file=str(files / "auth"), privacy_file=str(files / "privacy"))


def readings(farm: Lab, *asked: tuple[Load, Target]) -> list[float]:
    """One after the other, from the director."""

    async def work() -> list[float]:
        loads = Loads()
        try:
            return [await loads.read(load, target) for load, target in asked]
        finally:
            await loads.close()

    with netns.enter(farm.director.namespace):
        return asyncio.run(work())


def refusal(farm: Lab, load: Load, target: Target = A) -> str:
    with pytest.raises(LoadError) as caught:
        readings(farm, (load, target))
    return str(caught.value)


@pytest.mark.parametrize("target", [A, A6, replace(A, source=ip_address("192.0.2.9"))], ids=["v4", "v6", "masked"])
@pytest.mark.parametrize("name", ["laLoadInt.1", "laLoad.1", "laLoadInt.3", "1.3.6.1.2.1.25.1.5.0"])
def test_snmp_2c(farm, target, name):
    assert readings(farm, *[(replace(SNMP, target=name), target)] * 2) >= [0, 0]


def test_snmp_3(farm, three):
    plain = replace(three, privacy="", privacy_file="")
    assert len(readings(farm, (three, A), (three, A6), (plain, A), (three, A))) == 4


def test_the_source_is_the_one_asked_for(farm):
    seen = farm.host("a").spawn(sys.executable, "-c", PEER)
    assert seen.stdout
    assert seen.stdout.readline() == "ready\n"
    masked = replace(A, source=ip_address("192.0.2.9"))
    assert refusal(farm, replace(SNMP, port=1161, timeout=0.2), masked) == "no answer in 0.2 s"
    assert seen.stdout.readline() == "192.0.2.9\n"


PEER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
    opened.bind(("", 1161))
    print("ready", flush=True)
    print(opened.recvfrom(2048)[1][0], flush=True)
"""


@pytest.mark.virtual_time
def test_the_processors(farm):
    # snmpd has no figure before it has run for a minute.
    processors = replace(SNMP, target="hrProcessorLoad")

    def there() -> bool:
        try:
            (load,) = readings(farm, (processors, A))
        except LoadError as error:
            assert str(error) == "the agent has no hrProcessorLoad"  # noqa: PT017 - one of two good answers
            return False
        return 0 <= load <= 100

    eventually(there, 90)


def test_an_interface_s_rate(farm):
    device = json.loads(farm.host("a").run("ip", "-j", "link", "show", "eth0").stdout)[0]["ifindex"]
    sent = replace(SNMP, target=f"ifOutOctets.{device}")

    async def work() -> float:
        loads = Loads()
        with pytest.raises(LoadError, match="a rate needs two readings"):
            await loads.read(sent, A)
        fastest = 0.0
        while fastest < 100_000:
            farm.clients[0].run("curl", "-sS", "--parallel", "http://192.168.1.11:8080/[1-500]")
            await asyncio.sleep(0.1)  # virtual time stands while anybody works
            fastest = max(fastest, await loads.read(sent, A))
        await loads.close()
        return fastest

    with netns.enter(farm.director.namespace):
        assert asyncio.run(asyncio.wait_for(work(), 60)) > 100_000


def test_what_snmp_refuses(farm, files, three):
    (files / "community").write_text("private\n")
    community = replace(SNMP, community_file=str(files / "community"), timeout=0.3)
    assert refusal(farm, community) == "no answer in 0.3 s"
    assert refusal(farm, replace(three, user="nobody")) == "the agent does not know this user or passphrase"
    wrong = str(files / "wrong")
    assert refusal(farm, replace(three, auth_file=wrong)) == "the agent does not know this user or passphrase"
    assert refusal(farm, replace(three, privacy_file=wrong, timeout=0.3)) == "no answer in 0.3 s"
    assert refusal(farm, replace(SNMP, community_file="/nowhere")) == "/nowhere: no such file or directory"
    for load in (replace(SNMP, target=MISSING), replace(three, target=MISSING)):
        assert refusal(farm, load) == f"the agent has no {MISSING}"
    assert refusal(farm, replace(SNMP, target="1.3.6.1.2.1.1.5.0")).endswith('" is no load')
    assert refusal(farm, SNMP, B) == "connection refused"


@pytest.mark.parametrize("version", ["2c", "3"])
def test_an_agent_that_ends_and_comes_back(farm, three, version):
    load = replace(three if version == "3" else SNMP, port=None, timeout=0.5)

    async def work() -> None:
        loads = Loads()
        try:
            agent = snmp.serve(farm.host("b"))
            await loads.read(load, B)
            agent.terminate()
            agent.wait()
            with pytest.raises(LoadError):
                await loads.read(load, B)
            agent = snmp.serve(farm.host("b"))
            await loads.read(load, B)
            agent.terminate()
            agent.wait()
        finally:
            await loads.close()

    with netns.enter(farm.director.namespace):
        asyncio.run(work())


@pytest.mark.alone
@pytest.mark.real_time
def test_work_on_a_host_is_its_own_load(farm):
    """The average is over 1.2 s here, a minute on a machine."""
    snmp.serve(farm.host("b"), seconds=1.2)
    try:
        with snmp.stress(farm.host("b"), 3):
            eventually(lambda: readings(farm, (SNMP, B)) > [150])
            assert readings(farm, (SNMP, A)) < [100]
        eventually(lambda: readings(farm, (SNMP, B)) < [50])
    finally:
        farm.stop("b")
        farm.start("b")


NGINX = """
error_log /dev/null;
master_process off;  # a master renames itself, and the lab no longer knows it
pid {folder}/json.pid;
events {{}}
http {{ access_log off; server {{ listen 8081; listen [::]:8081; root {folder}; }} }}
"""


def test_json_from_nginx(farm):
    folder = directory(farm.name) / "a"
    (folder / "load.json").write_text(json.dumps({"cpu": [{"busy": 12.5}, {"busy": "0.75"}], "up": True}))
    (folder / "text.json").write_text("not at all")
    (folder / "json.conf").write_text(NGINX.format(folder=folder))
    farm.host("a").run("nginx", "-c", str(folder / "json.conf"), "-p", str(folder))
    load = Load(LoadKind.HTTP, target="/load.json", field=("cpu", "0", "busy"), port=8081)
    second = replace(load, field=("cpu", "1", "busy"))
    masked = replace(A, source=ip_address("192.0.2.9"))
    assert readings(farm, (load, A), (load, A6), (second, A), (load, masked)) == [12.5, 12.5, 0.75, 12.5]
    assert refusal(farm, replace(load, field=("cpu", "2", "busy"))) == "no field cpu.2 in the answer"
    assert refusal(farm, replace(load, field=("up",))) == '"True" is no load'
    assert refusal(farm, replace(load, target="/other.json")) == "HTTP 404"
    assert refusal(farm, replace(load, target="/text.json")) == "the answer is no JSON"
    assert refusal(farm, replace(load, port=8082)) == "connection refused"


def test_a_program(farm, tmp_path):
    def load(script: str, timeout: float = 5.0) -> Load:
        return Load(LoadKind.COMMAND, command=("/bin/sh", "-c", script), timeout=timeout)

    told = 'test "$MARKWAY_SERVICE $MARKWAY_BACKEND $MARKWAY_ADDRESS $MARKWAY_PORT" = "web a 192.168.1.11 8080"'
    assert readings(farm, (load(f"{told} && echo 3.5"), A)) == [3.5]
    assert refusal(farm, load("exit 3")) == "exit status 3"
    assert refusal(farm, load("kill -TERM $$")) == "killed by signal 15"
    assert refusal(farm, load("echo much")) == '"much" is no load'
    assert refusal(farm, replace(load(""), command=("/nowhere",))) == "/nowhere: no such file or directory"
    slow = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    assert refusal(farm, load(slow, timeout=0.5)) == "no answer in 0.5 s"
    child = int((tmp_path / "pid").read_text())
    eventually(lambda: not _runs(child))


def test_ping_in_milliseconds(farm):
    ping = Load(LoadKind.PING, timeout=1.0)
    (took,) = readings(farm, (ping, A))
    assert 0 < took < 1000
    farm.host("b").run("ip", "link", "set", "eth0", "down")
    try:
        assert refusal(farm, replace(ping, timeout=0.3), B)
    finally:
        farm.host("b").run("ip", "link", "set", "eth0", "up")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
