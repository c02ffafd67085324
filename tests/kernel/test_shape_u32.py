"""u32 filters take the packets that they describe and no others; the class's counter is the judge.

director: one device for each filter, every packet of which goes to the class "caught" or to "rest"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.packets import Packet, send
from tests.kernel.shaped import Watch, alone_with
from tests.kernel.support import apply, status
from tests.kernel.u32_cases import CASES, Case

from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab


def shape(device: str, case: Case) -> str:
    """A shape with one filter."""
    u32 = ", ".join(f'"{selector}"' for selector in case.selectors)
    return f"""
[shape.{device}]
device = "{device}"
rate = "1gbit"
leaf = "pfifo"
default = "rest"
class.caught.rate = "500mbit"
class.rest.rate = "500mbit"
[[shape.{device}.filter]]
u32 = [{u32}]
protocol = "{case.protocol}"
class = "caught"
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    devices = [f"u{number}" for number in range(len(CASES))]
    with alone_with(devices) as made:
        netns.sysctl(made.director.namespace, {"ipv6/conf/all/disable_ipv6": "1"})  # it says things by itself
        apply(made, "".join(map(shape, devices, CASES)))
        yield made


@pytest.fixture(scope="module")
def classes(lab: Lab) -> dict[str, dict[str, str]]:
    """The numbers of the classes of all shapes."""
    return {each["name"]: {one["name"]: one["classid"] for one in each["classes"]} for each in status(lab)["shapes"]}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_a_filter_takes_what_it_says(lab: Lab, classes: dict[str, dict[str, str]], number: int):
    case, device = CASES[number], f"u{number}"
    watch = Watch(lab, device, classes[device])
    send(lab.director.namespace, device, case.taken)
    watch.took({"caught": len(case.taken)})
    for packet in case.left:
        send(lab.director.namespace, device, [packet])
        watch.took({"rest": 1})


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_without_a_protocol_is_refused(lab: Lab, protocol: str):
    case = Case("", (f"{protocol} dst 53 0xffff",), (), ())
    assert "protocol" in apply(lab, shape("u0", case), code=1)


def test_filters_are_asked_by_priority_and_in_order():
    order = (("ip tos 0x10 0xff", 20, "b"), ("ip ttl 64 0xff", 10, "a"), ("ip protocol 17 0xff", 20, "c"))
    text = "\n".join(
        (
            '[shape.wan]\ndevice = "u0"\nrate = "1gbit"\nleaf = "pfifo"\ndefault = "rest"',
            *(f'class.{name}.rate = "100mbit"' for name in ("a", "b", "c", "rest")),
            *(
                f'[[shape.wan.filter]]\nu32 = ["{u32}"]\npriority = {priority}\nclass = "{name}"'
                for u32, priority, name in order
            ),
        )
    )
    with alone_with(["u0"]) as lab:
        apply(lab, text)
        (wan,) = status(lab)["shapes"]
        watch = Watch(lab, "u0", {one["name"]: one["classid"] for one in wan["classes"]})
        for packet, taken in (
            (Packet(17, tos=0x10, ttl=64), "a"),
            (Packet(17, tos=0x10), "b"),
            (Packet(17), "c"),
            (Packet(), "rest"),
        ):
            send(lab.director.namespace, "u0", [packet])
            watch.took({taken: 1})
