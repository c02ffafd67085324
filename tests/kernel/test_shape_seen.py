"""What is told of shapes is what was sent: real packets through trees made by hand."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.kernel.api import Api
from tests.kernel.daemon import running
from tests.kernel.shaped import alone_with
from tests.kernel.support import eventually, status

from markway.apply.observe_shapes import ShapeSeen, Standing, observe_shapes
from markway.kernel import netns
from markway.program.model import ClassEntry, Fragment, Program, ShapeEntry
from markway.program.plumbing import Class, Qdisc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.kernel.tc_stats import Counters

_SLOW, _FAST = 80_000, 100_000_000
_DATA = 958
_FRAME = 14 + 20 + 8 + _DATA
CLASSES = (
    ClassEntry("office", "", "4d57:10", _FAST, _FAST, 0),
    ClassEntry("desk", "office", "4d57:11", _FAST, _FAST, 0, "pfifo"),
    ClassEntry("phone", "office", "4d57:12", _SLOW, _FAST, 0, "pfifo"),
    ClassEntry("slow", "office", "4d57:13", _SLOW, _SLOW, 0, "pfifo"),
    ClassEntry("rest", "", "4d57:fffe", _FAST, _FAST, 7, "pfifo", default=True),
)
HTB = ShapeEntry("wan", "wan", "egress", "wan", "htb", _FAST, CLASSES)
TREE: tuple[Class | Qdisc, ...] = (
    Qdisc("wan", "root", "htb", "default fffe", "4d57:"),
    *(
        Class("wan", "4d57:10" if one.parent else "4d57:", one.classid, one.rate, one.ceil, burst=1600, cburst=1600)
        for one in CLASSES
    ),
    *(Qdisc("wan", one.classid, "pfifo", "limit 5" if one.name == "slow" else "limit 1000") for one in CLASSES[1:]),
)


def program(*shapes: ShapeEntry) -> Program:
    return Program({f"shape/{shape.name}": Fragment(f"shape/{shape.name}", shape=shape) for shape in shapes})


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace with the device `wan`, on which the tree stands."""
    with alone_with(["wan"]) as lab:
        name = lab.director.namespace
        netns.tc(name, [command for part in TREE for command in part.add()])
        yield name


def seen(space: str, *shapes: ShapeEntry) -> dict[str, ShapeSeen]:
    with netns.enter(space):
        return {shape.entry.name: shape for shape in observe_shapes(program(*(shapes or (HTB,))))}


def counted(space: str) -> dict[str, Counters]:
    return {one.entry.name: one.counted for one in seen(space)["wan"].classes}


def send(space: str, classid: str, packets: int, port: int = 9) -> None:
    """Have packets leave whose priority names their class; an empty one names none."""
    major, _, minor = (classid or "0:0").partition(":")
    with netns.enter(space):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, int(major, 16) << 16 | int(minor, 16))
        for _ in range(packets):
            opened.sendto(bytes(_DATA), ("10.9.0.2", port))


@pytest.fixture
def known(space: str) -> str:
    """The same, where the address that packets go to has been resolved: no other packet is counted with them."""
    netns.ip(space, ["neigh replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev wan"])
    return space


def test_every_class_has_counted_what_was_sent(known):
    before = seen(known)["wan"].counted.packets
    for classid, packets in (("4d57:11", 7), ("4d57:12", 3), ("", 4)):
        send(known, classid, packets)
    eventually(lambda: counted(known)["rest"].packets >= 4)
    found = counted(known)
    assert (found["desk"].packets, found["desk"].sent) == (7, 7 * _FRAME)
    assert (found["phone"].packets, found["phone"].sent) == (3, 3 * _FRAME)
    assert (found["office"].packets, found["office"].sent) == (10, 10 * _FRAME)
    assert found["rest"].sent >= 4 * _FRAME  # what the kernel sends by itself goes there too
    assert found["slow"].packets == 0
    assert seen(known)["wan"].counted.packets - before >= 14


def test_what_waits_and_what_was_dropped_is_told_of_a_class_and_of_those_above(known):
    send(known, "4d57:13", 20)
    eventually(lambda: counted(known)["slow"].waiting == 0)
    found = counted(known)
    assert found["slow"].packets + found["slow"].dropped == 20
    assert found["slow"].dropped >= 10
    assert found["slow"].overlimits > 0
    assert (found["office"].dropped, found["office"].sent) == (found["slow"].dropped, found["slow"].sent)
    assert seen(known)["wan"].counted.dropped == found["slow"].dropped

    netns.tc(known, ["class change dev wan parent 4d57:10 classid 4d57:13 htb rate 8bit ceil 8bit burst 1b cburst 1b"])
    send(known, "4d57:13", 9)
    found = counted(known)
    assert found["slow"].waiting == found["office"].waiting == 5
    assert found["slow"].backlog == found["office"].backlog == 5 * _FRAME


def test_what_is_borrowed_is_what_was_lent(known):
    send(known, "4d57:12", 60)
    eventually(lambda: counted(known)["phone"].packets == 60)
    found = counted(known)
    assert found["phone"].borrowed > 30
    assert found["office"].lent == found["phone"].borrowed
    assert found["office"].borrowed == found["phone"].lent == 0


def test_a_rate_is_measured_by_the_kernel_and_outlives_a_change_of_the_class(known):
    netns.tc(known, ["qdisc replace dev wan parent 4d57:13 pfifo limit 1000"])
    send(known, "4d57:13", 80)
    eventually(lambda: (counted(known)["slow"].now or 0) > _SLOW / 4)
    slow = next(part for part in TREE if isinstance(part, Class) and part.classid == "4d57:13")
    netns.tc(known, list(replace(slow, rate=2 * _SLOW, ceil=2 * _SLOW).change() or ()))
    found = counted(known)
    assert _SLOW / 4 < (found["slow"].now or 0) <= 3 * _SLOW
    assert (found["office"].now or 0) > 0
    assert (seen(known)["wan"].counted.now or 0) > 0


@pytest.mark.needs("sch_sfq")
def test_what_a_leaf_drops_by_itself_is_told_of_its_class(known):
    netns.tc(known, ["qdisc replace dev wan parent 4d57:13 sfq limit 5"])
    send(known, "4d57:13", 20)
    eventually(lambda: counted(known)["slow"].waiting == 0)
    found = counted(known)
    assert found["slow"].dropped >= 10  # of which htb tells nothing
    assert found["slow"].packets + found["slow"].dropped == 20
    assert found["office"].dropped == found["slow"].dropped


@pytest.mark.needs("sch_prio")
def test_bands_of_prio_are_told_as_classes_are(known):
    bands = ("first", "second", "third")
    leaves = [Qdisc("wan", f"4d59:{number}", "pfifo", "limit 100") for number in (1, 2, 3)]
    root = Qdisc("wan", "root", "prio", "bands 3 priomap 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2", "4d59:")
    netns.tc(known, [command for part in (root, *leaves) for command in part.add()])
    classes = tuple(ClassEntry(name, "", f"4d59:{number}", 0, 0, 0, "pfifo") for number, name in enumerate(bands, 1))
    shape = ShapeEntry("wan", "wan", "egress", "wan", "prio", 0, classes)
    send(known, "4d59:1", 3)
    send(known, "4d59:2", 2)
    found = {one.entry.name: one.counted for one in seen(known, shape)["wan"].classes}
    assert (found["first"].packets, found["first"].sent) == (3, 3 * _FRAME)
    assert (found["second"].packets, found["second"].sent) == (2, 2 * _FRAME)
    eventually(lambda: (seen(known, shape)["wan"].classes[0].counted.now or 0) > 0)


def test_a_shape_without_classes_is_told_by_its_discipline(known):
    tbf = Qdisc("wan", "root", "tbf", "rate 100mbit burst 16k latency 50ms", "4d58:")
    netns.tc(known, tbf.add())
    send(known, "", 5)
    shape = ShapeEntry("wan", "wan", "egress", "wan", "tbf", _FAST)
    eventually(lambda: seen(known, shape)["wan"].counted.sent >= 5 * _FRAME)
    eventually(lambda: (seen(known, shape)["wan"].counted.now or 0) > 0)
    assert seen(known, shape)["wan"].standing == Standing.UP


def test_a_shape_that_is_not_there_is_told_as_such(space):
    gone = ShapeEntry("gone", "ppp0", "ingress", "mw-gone", "htb", _FAST, CLASSES, optional=True)
    alien = ShapeEntry("alien", "lo", "egress", "lo", "htb", _FAST, CLASSES)
    found = seen(space, HTB, gone, alien)
    assert {name: shape.standing for name, shape in found.items()} == {
        "wan": Standing.UP,
        "gone": Standing.ABSENT,
        "alien": Standing.LOST,
    }
    assert all(one.counted.packets == 0 for one in found["gone"].classes + found["alien"].classes)
    netns.tc(space, ["qdisc del dev wan root", "qdisc add dev wan root handle 7: htb default 1"])
    assert seen(space)["wan"].standing == Standing.LOST


FILE = """
[shape.wan]
device = "wan"
rate = "10mbit"
leaf = "pfifo"
default = "rest"
[shape.wan.class.web]
rate = "2mbit"
match = [{ protocol = "udp", destination-port = 9 }]
[shape.wan.class.bulk]
rate = "1mbit"
[shape.wan.class.rest]
rate = "1mbit"
[mark.slow]
match = [{ protocol = "udp", destination-port = 10 }]
class = "wan.bulk"
"""


def test_the_api_tells_what_the_command_line_tells():
    with alone_with(["wan"]) as lab, running(lab, FILE):
        netns.ip(lab.director.namespace, ["neigh replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev wan"])
        send(lab.director.namespace, "", 3)
        send(lab.director.namespace, "", 2, port=10)
        api = Api(lab)
        eventually(api.path.exists)
        eventually(lambda: api.get("/v1/shapes")[0]["classes"][0]["packets"] >= 3)
        told, shown = api.get("/v1/status"), status(lab)
        assert told["daemon"]
        assert [one["name"] for one in shown["shapes"][0]["classes"]] == ["web", "bulk", "rest"]
        assert {
            one["name"]: one["packets"] for one in api.get("/v1/shapes/wan")["classes"] if one["name"] != "rest"
        } == {
            "web": 3,
            "bulk": 2,
        }
        assert api.get("/v1/marks") == told["marks"]
        assert (told["marks"][0]["class"], told["marks"][0]["packets"]) == ("wan.bulk", 2)
        assert 'did you mean "wan"?' in api.get("/v1/shapes/wam", code=404)["error"]
        figures = api.get("/metrics")
        for line in (
            'markway_class_packets_total{class="web",shape="wan"} 3.0',
            'markway_mark_packets_total{mark="slow"} 2.0',
            'markway_shape_up{shape="wan"} 1.0',
        ):
            assert line in figures
