"""Rates, borrowing and waiting, to 1 %, in virtual time and in a kernel that has every discipline and classifier.

client1 --[198.51.100.0/24]-- eth0 director --[192.168.1.0/24]-- a

Of what a class counts, GOODPUT (95.6 %) arrives as a server's bytes: the rest are headers.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.kernel.shape_files import BORROWING, CLASSES, CLASSIC, CLASSIC_MARKING, MARKING, SERVICE, four_classes, path
from tests.kernel.shaped import Watch, numbers
from tests.kernel.support import apply, read, unique_name

from markway.lab.lab import Lab
from markway.lab.latency import loaded_round_trips
from markway.lab.round_trips import percentile
from markway.lab.transfers import GOODPUT, Path, Transfer, rates, single_packets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytestmark = pytest.mark.virtual_time

EXACT = 0.01


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    time.sleep(1)  # timers are exact from the kernel's first tick on
    with Lab.up(read(SERVICE), unique_name()) as made:
        single_packets(made)
        yield made


def exactly(wanted: float) -> object:
    """Equal to what arrives of a rate, to 1 %."""
    return pytest.approx(wanted * GOODPUT, rel=EXACT)


def together(paths: Sequence[Path], wanted: Sequence[int], seconds: float = 1.5) -> list[float]:
    """What arrives of transfers that go on at once."""
    with ExitStack() as stack:
        pairs = zip(paths, wanted, strict=True)
        running = [stack.enter_context(Transfer(each, buffer=max(8_192, rate // 32))) for each, rate in pairs]
        return rates(running, seconds, settle=1.0)


WAYS = [
    "match",
    "mark",
    "u32",
    pytest.param("fw", marks=pytest.mark.needs("cls_fw")),
    pytest.param("route", marks=pytest.mark.needs("cls_route")),
]


@pytest.mark.parametrize("way", WAYS)
def test_four_rates_at_once(lab: Lab, way: str):
    apply(lab, four_classes(way))
    if way == "fw":
        lab.nft("-f", "-", text=MARKING)
    try:
        found = together([each.path(lab) for each in CLASSES], [each.rate for each in CLASSES])
    finally:
        if way == "fw":
            lab.nft("delete", "table", "ip", "others")
    shown = lab.director.run("tc", "filter", "show", "dev", "eth0").stdout
    assert (f" {way} " in shown) == (way in {"u32", "fw", "route"})
    assert found == [exactly(each.rate) for each in CLASSES]


LEAVES = ("fq_codel", "sfq", "cake", "fq")


@pytest.mark.needs(*(f"sch_{leaf}" for leaf in LEAVES))
def test_no_leaf_changes_a_rate(lab: Lab):
    text = four_classes("match")
    for each, leaf in zip(CLASSES, LEAVES, strict=True):
        text = text.replace(f'rate = "{each.rate}bit"\n', f'rate = "{each.rate}bit"\nleaf = "{leaf}"\n')
    apply(lab, text)
    shown = lab.director.run("tc", "qdisc", "show", "dev", "eth0").stdout
    assert all(f"qdisc {leaf} " in shown for leaf in LEAVES)
    found = together([each.path(lab) for each in CLASSES], [each.rate for each in CLASSES])
    assert found == [exactly(each.rate) for each in CLASSES]


def test_borrowing_and_giving_back(lab: Lab):
    apply(lab, BORROWING)
    with Transfer(path(lab, 5001), buffer=100_000) as small:
        assert rates([small], 1) == [exactly(20e6)]
        with Transfer(path(lab, 5002), buffer=100_000) as large:
            # What `rest` leaves, 100 kbit/s, they share.
            assert rates([small, large], 2) == [exactly(4.05e6), exactly(15.95e6)]
        assert rates([small], 1) == [exactly(20e6)]
    with Transfer(path(lab, 5009)) as rest:
        assert rates([rest], 2) == [exactly(2e6)]


PRIORITIES = f"""{SERVICE}
[shape.wan]
device = "eth0"
rate = "10mbit"
default = "rest"
[shape.wan.class.rest]
rate = "1mbit"
[shape.wan.class.tree]
rate = "9mbit"
[shape.wan.class.first]
parent = "tree"
rate = "1mbit"
ceil = "6mbit"
prio = 1
match.source-port = 5001
[shape.wan.class.second]
parent = "tree"
rate = "2mbit"
ceil = "10mbit"
prio = 2
match.source-port = 5002
[shape.wan.class.third]
parent = "tree"
rate = "1mbit"
ceil = "10mbit"
prio = 3
match.source-port = 5003
"""


def test_priority_decides_who_borrows(lab: Lab):
    """In a tree of 9 Mbit/s: first up to its ceiling, then the second; the third keeps its rate."""
    apply(lab, PRIORITIES)
    found = together([path(lab, port) for port in (5001, 5002, 5003)], [6_000_000, 2_000_000, 1_000_000])
    assert found == [exactly(6e6), exactly(2e6), exactly(1e6)]
    found = together([path(lab, port) for port in (5002, 5003)], [8_000_000, 1_000_000])
    assert found == [exactly(8e6), exactly(1e6)]


@pytest.mark.needs("cls_fw")
def test_the_classic_case(lab: Lab):
    """A web server's packets, marked 80, have 200 kbit/s by a `fw` filter; all others 1024."""
    apply(lab, CLASSIC)
    lab.nft("-f", "-", text=CLASSIC_MARKING)
    client, director = lab.clients[0].namespace, lab.director.namespace
    watch = Watch(lab, "eth0", numbers(lab, "wan"))
    paths = [Path(client, director, "198.51.100.1", port) for port in (80, 5000)]
    try:
        assert together(paths, [200_000, 1_024_000]) == [exactly(200e3), exactly(1024e3)]
    finally:
        lab.nft("delete", "table", "ip", "others")
    assert watch.packets().keys() == {"web", "rest"}


ROOTS: Mapping[str, str] = {
    "tbf": 'discipline = "tbf"\nrate = "3mbit"\n',
    "cake": 'discipline = { kind = "cake", nat = true }\nrate = "3mbit"\n',
    "htb": 'rate = "3mbit"\nleaf = { kind = "sfq", perturb = "10s" }\n',
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.needs(f"sch_{kind}")) for kind in ROOTS])
def test_a_rate_without_classes(lab: Lab, kind: str):
    apply(lab, f'{SERVICE}[shape.wan]\ndevice = "eth0"\n{ROOTS[kind]}')
    assert f"qdisc {kind} " in lab.director.run("tc", "qdisc", "show", "dev", "eth0", "root").stdout
    assert together([path(lab, 5001)], [3_000_000]) == [exactly(3e6)]


@pytest.mark.needs("sch_prio")
def test_bands_of_prio(lab: Lab):
    text = f'{SERVICE}[shape.wan]\ndevice = "eth0"\ndiscipline = "prio"\ndefault = "low"\n'
    for name, port in (("high", 5001), ("middle", 5002), ("low", 5003)):
        text += f"[shape.wan.class.{name}]\nmatch.source-port = {port}\n"
    apply(lab, text)
    watch = Watch(lab, "eth0", numbers(lab, "wan"))
    for port, band in ((5001, "high"), (5002, "middle"), (5009, "low")):
        with Transfer(path(lab, port)):
            time.sleep(0.1)
        found = watch.packets()
        assert max(found, key=lambda name: found[name]) == band
        watch = Watch(lab, "eth0", numbers(lab, "wan"))


def test_a_connection_that_has_carried_much_becomes_bulk(lab: Lab):
    """After a megabyte both ways together, 200 kbit/s instead of 4 Mbit/s."""
    text = f"""{SERVICE}
[shape.wan]
device = "eth0"
rate = "8mbit"
default = "rest"
[shape.wan.class.rest]
rate = "4mbit"
[shape.wan.class.bulk]
rate = "200kbit"
match.bytes-over = "1m"
"""
    apply(lab, text)
    with Transfer(path(lab, 5001)) as transfer:
        assert rates([transfer], 1, settle=0.3) == [exactly(4e6)]
        time.sleep(2)
        assert rates([transfer], 8) == [exactly(200e3)]


SHARED = {
    "home": 'preset = "home"\n',
    "fq_codel": 'leaf = "fq_codel"\n',
    "cake": 'discipline = "cake"\n',
}
"""What 1024 kbit/s in front of a modem can be shared by."""


@pytest.mark.needs("sch_fq_codel", "sch_cake")
def test_dns_and_ssh_during_uploads(lab: Lab, capsys: pytest.CaptureFixture[str]):
    found = {}
    for name, shape in {"nothing": "", **SHARED}.items():
        wan = f'[shape.wan]\ndevice = "eth0"\nrate = "1024kbit"\n{shape}' if shape else ""
        apply(lab, SERVICE + wan)
        trips = loaded_round_trips(lab, 100, 0.05)
        found[name] = {what: percentile(took, 0.95) for what, took in trips.items()}
    with capsys.disabled():
        for name, each in found.items():
            sys.stdout.write(f"\n{name}: " + ", ".join(f"{what} {1e3 * p95:.1f} ms" for what, p95 in each.items()))
    for what, alone in found["nothing"].items():
        assert alone > 1.0
        assert found["home"][what] < alone / 10
        assert found["cake"][what] < alone / 10
