"""What tests of shaping share: directors with devices of their own, and what the kernel's classes have counted."""

from __future__ import annotations

import re
from contextlib import contextmanager
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING, NamedTuple

from tests.kernel.support import eventually, read, status, unique_name

from markway.apply.store import Store
from markway.apply.transaction import compiled_for, present, put, states_for
from markway.config.load import Source
from markway.kernel import netns
from markway.kernel.netlink import Netlink
from markway.lab import build
from markway.lab.lab import Lab
from markway.lab.topology import DIRECTOR, Device, Host, Role, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Counted(NamedTuple):
    """What a class sent and did not send."""

    bytes: int
    packets: int
    dropped: int


def alone_with(devices: Sequence[str], name: str | None = None) -> Lab:
    """A director without neighbours, to be used as a context; each of its devices leads to a bridge of its own."""
    ends = (Device(each, each, (IPv4Interface((f"10.9.{n}.1", 24)),)) for n, each in enumerate(devices))
    host = Host(DIRECTOR, Role.DIRECTOR, tuple(ends))
    topology = Topology(name or unique_name(), (host,), tuple(devices))
    build.up(topology)
    return Lab(topology)


def counted(lab: Lab, device: str, host: str = DIRECTOR) -> dict[str, Counted]:
    """What the classes of a device have counted, by their numbers, as `tc` tells it."""
    shown = lab.host(host).run("tc", "-s", "class", "show", "dev", device).stdout
    found = re.findall(r"^class \S+ (\S+) .*\n Sent (\d+) bytes (\d+) pkt \(dropped (\d+)", shown, re.MULTILINE)
    return {classid: Counted(int(sent), int(packets), int(dropped)) for classid, sent, packets, dropped in found}


def numbers(lab: Lab, shape: str) -> dict[str, str]:
    """The number of each class of a shape, by name."""
    found = next(each for each in status(lab)["shapes"] if each["name"] == shape)
    return {each["name"]: each["classid"] for each in found["classes"]}


class Watch:
    """What classes of one device have sent since they were last asked."""

    def __init__(self, lab: Lab, device: str, classes: Mapping[str, str]) -> None:
        self._lab, self._device, self._classes = lab, device, classes
        self._before = counted(lab, device)

    def packets(self) -> dict[str, int]:
        """Packets by the class's name; only of classes that sent any."""
        now = counted(self._lab, self._device)
        more = {name: now[number].packets - self._before[number].packets for name, number in self._classes.items()}
        return {name: count for name, count in more.items() if count}

    def took(self, expected: Mapping[str, int], aside: str = "rest") -> None:
        """Wait for so many packets in each class; in one class, neighbours' questions may be more. Then count anew."""
        eventually(lambda: all(self.packets().get(name, 0) >= count for name, count in expected.items()))
        found = self.packets()
        assert {**found, aside: 0} == {**expected, aside: 0}, f"{expected} expected, {found} sent"
        self._before = counted(self._lab, self._device)


class Quick:
    """Applies files to a lab's director inside this process: in milliseconds, as the daemon does."""

    def __init__(self, lab: Lab, netlink: Netlink) -> None:
        self._space = lab.director.namespace
        self._store = Store(build.STATE_DIRECTORY / self._space)
        self._netlink = netlink
        with netns.enter(self._space):
            self.now = present(self._store, netlink)

    def apply(self, text: str) -> None:
        """Bring a file into force."""
        config = read(text)
        with netns.enter(self._space), self._store.locked(20, print):
            compiled = compiled_for(self._store, config, states_for(self._store, config, self.now))
            self._store.keep_registry(compiled.registry)
            digest = self._store.keep_config([Source("test.toml", text.encode())])
            done = put(self._store, self._netlink, self.now, compiled.program, config=digest, why="test")
            self.now = done.now


@contextmanager
def quick(lab: Lab) -> Iterator[Quick]:
    """Applies files from within this process until the block ends."""
    with netns.enter(lab.director.namespace):
        netlink = Netlink()
    with netlink:
        yield Quick(lab, netlink)
