"""Trees come, change and go whole or not at all, and nothing of others is touched.

director: devices `wan` and `lan`, without neighbours
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.conftest import has
from tests.kernel.daemon import running
from tests.kernel.packets import UDP, Packet, send
from tests.kernel.shaped import Watch, alone_with, counted, numbers, quick
from tests.kernel.support import apply, eventually, run, status, write

from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

TREE = """
[shape.up]
device = "wan"
rate = "10mbit"
default = "rest"
leaf = "pfifo"
[shape.up.class.rest]
rate = "1mbit"
ceil = "10mbit"
[shape.up.class.bulk]
rate = "5mbit"
[shape.up.class.slow]
parent = "bulk"
rate = "1mbit"
ceil = "5mbit"
[shape.up.class.fast]
parent = "bulk"
rate = "4mbit"
prio = 1
leaf = "pfifo"
"""
FILTER = """
[[shape.up.filter]]
u32 = ["ip protocol 17 0xff", "udp dst 53 0xffff"]
class = "fast"
"""
MARKS = """
[mark.old]
match.source = "10.0.0.7"
class = "up.slow"
uplink = "dsl"
[uplink.dsl]
table = 100
[realm.office]
number = 5
routes = [{ to = "10.1.0.0/16", via = "10.9.0.9", device = "wan" }]
"""
DOWN = """
[shape.down]
device = "wan"
direction = "ingress"
rate = "20mbit"
default = "all"
[shape.down.class.all]
rate = "20mbit"
"""
OTHER = '[service.web]\nlisten = "192.0.2.10:80"\nbackend.a.address = "10.9.0.7"\n'
EVERYTHING = TREE + FILTER + MARKS + DOWN


@pytest.fixture
def lab() -> Iterator[Lab]:
    with alone_with(["wan", "lan"]) as made:
        quiet = {f"ipv6/conf/{which}/disable_ipv6": "1" for which in ("all", "default")}
        netns.sysctl(made.director.namespace, quiet)  # a device that comes gets an address by chance
        yield made


def seen(lab: Lab) -> str:
    """All that shaping could have left on a machine."""
    commands = (
        "tc qdisc",
        "tc filter show dev wan",
        "tc class show dev wan",
        "ip -br addr",
        "ip rule",
        "ip route show table all",
    )
    found = "".join(lab.director.run(*command.split()).stdout for command in (*commands, "ip -6 rule"))
    # Which handles leaves get, and in which order they are told, is the kernel's choice.
    return "\n".join(sorted(re.sub(r"(?m)(^qdisc \S+|leaf) (?!4d5)[0-9a-f]+:", r"\1", found).splitlines()))


def refused(lab: Lab, text: str, place: str) -> str:
    """Applying fails, says where in the file, and leaves all as it was; what was said."""
    before, rules = seen(lab), lab.nft("-s", "list", "ruleset")
    said = apply(lab, text, code=1)
    assert re.search(rf"markway\.toml:{place}", said), said
    assert "Traceback" not in said
    assert (seen(lab), lab.nft("-s", "list", "ruleset")) == (before, rules)
    return said


def line_of(text: str, what: str) -> int:
    return text[: text.index(what)].count("\n") + 1


def test_what_is_applied_comes_once_and_goes_whole(lab: Lab):
    before = seen(lab)
    path = write(lab, EVERYTHING)
    assert "htb" in run(lab, "plan", path)
    assert seen(lab) == before
    apply(lab, EVERYTHING)
    there = seen(lab)
    assert apply(lab, EVERYTHING).startswith("Nothing to change")
    assert seen(lab) == there
    assert "4d57:" in there
    run(lab, "rollback")
    assert seen(lab) == before
    run(lab, "rollback")
    assert seen(lab) == there
    apply(lab, OTHER)
    assert seen(lab) == before


def test_each_kind_of_change_keeps_the_rest_of_the_tree(lab: Lab):
    apply(lab, TREE)
    send(lab.director.namespace, "wan", [Packet(UDP)] * 7)
    names = numbers(lab, "up")
    changes = (
        TREE.replace('"4mbit"', '"3mbit"').replace("prio = 1", "prio = 2"),
        TREE + FILTER,
        TREE + FILTER.replace("53", "54"),
        TREE + FILTER + MARKS,
        TREE.replace('[shape.up.class.slow]\nparent = "bulk"\nrate = "1mbit"\nceil = "5mbit"\n', ""),
        TREE + '[shape.up.class.more]\nrate = "1mbit"\nmatch.dscp = "ef"\n',
        TREE.replace('"10mbit"', '"11mbit"'),
        TREE,
    )
    with quick(lab) as files:
        for text in changes:
            files.apply(text)
            assert counted(lab, "wan")[names["rest"]].packets == 7
    assert apply(lab, TREE).startswith("Nothing to change")


def test_a_root_discipline_of_others_is_left_alone(lab: Lab):
    apply(lab, DOWN.replace('"wan"', '"lan"').replace('"ingress"', '"egress"'))
    netns.tc(lab.director.namespace, ["qdisc add dev wan root handle 5: tbf rate 1mbit burst 5k limit 50k"])
    text = DOWN.replace('"wan"', '"lan"').replace('"ingress"', '"egress"') + TREE
    said = refused(lab, text, str(line_of(text, "[shape.up]")))
    assert "tbf" in said


def test_what_the_kernel_refuses_is_shown_in_the_file(lab: Lab):
    apply(lab, TREE)
    unreachable = TREE.replace('"4mbit"', '"3mbit"') + MARKS.replace("10.9.0.9", "10.77.0.9")
    said = refused(lab, unreachable, str(line_of(unreachable, "routes =")))
    assert "gateway" in said
    there = TREE.replace('"10mbit"', '"12mbit"') + DOWN
    netns.ip(lab.director.namespace, ["link add mw-down type ifb"])
    refused(lab, there, str(line_of(there, "[shape.down]")))
    netns.ip(lab.director.namespace, ["link del mw-down"])
    assert apply(lab, TREE).startswith("Nothing to change")


def test_a_device_that_is_not_there(lab: Lab):
    text = TREE.replace('"wan"', '"ppp0"')
    refused(lab, text, "3:")
    apply(lab, text.replace("[shape.up]", "[shape.up]\noptional = true"))
    (shape,) = status(lab)["shapes"]
    assert shape["state"] == "absent"


def test_the_daemon_shapes_a_device_that_comes_later(lab: Lab):
    text = TREE.replace("[shape.up]", "[shape.up]\noptional = true").replace('"wan"', '"ppp0"')
    with running(lab, text):
        netns.ip(lab.director.namespace, ["link add ppp0 type veth peer name peer", "link set ppp0 up"])
        eventually(lambda: counted(lab, "ppp0"))


def test_shaping_goes_on_without_the_daemon(lab: Lab):
    text = TREE + FILTER
    with running(lab, text) as daemon:
        names = numbers(lab, "up")
        there = seen(lab)
        daemon.process.kill()
        daemon.process.wait()
    assert seen(lab) == there
    watch = Watch(lab, "wan", names)
    send(lab.director.namespace, "wan", [Packet(UDP, dport=53)])
    watch.took({"bulk": 1, "fast": 1})
    with running(lab, text):
        assert seen(lab) == there
    assert counted(lab, "wan")[names["fast"]].packets == 1


LEAVES = ("cake", "fq_codel", "fq", "sfq", "pfifo")


def test_a_leaf_that_the_kernel_lacks_falls_back_to_the_nearest(lab: Lab):
    text = '[shape.up]\ndevice = "wan"\nrate = "10mbit"\ndefault = "pfifo"\n' + "".join(
        f'[shape.up.class.{kind}]\nrate = "1mbit"\nleaf = "{kind}"\n' for kind in LEAVES
    )
    planned = run(lab, "plan", write(lab, text))
    apply(lab, text)
    (shape,) = status(lab)["shapes"]
    shown = lab.director.run("tc", "qdisc", "show", "dev", "wan").stdout
    held = {parent: kind for kind, parent in re.findall(r"qdisc (\S+) \S+ parent (\S+)", shown)}
    lacking = [kind for kind in LEAVES if kind != "pfifo" and not has(f"sch_{kind}")]
    for each in shape["classes"]:
        assert held[each["classid"]] == each["leaf"]
        assert (each["leaf"] == each["name"]) == (each["name"] not in lacking)
    for kind in lacking:
        assert any(f"no {kind}" in notice for notice in shape["notices"])
        assert f"no {kind}" in planned
    for kind in lacking[:1]:
        strict = text.replace(f'leaf = "{kind}"', f'leaf = {{ kind = "{kind}", strict = true }}')
        assert f"modprobe sch_{kind}" in refused(lab, strict, str(line_of(strict, "strict")))


DAMAGES = (
    "qdisc del dev wan root",
    "filter del dev wan ingress",
    "class change dev wan classid 4d57:fffe htb rate 3mbit",
)


def test_the_daemon_mends_a_tree_and_shapes_a_device_that_comes_back(lab: Lab):
    space = lab.director.namespace
    with running(lab, TREE + DOWN) as daemon:
        there = seen(lab)
        for number, damage in enumerate(DAMAGES, 1):
            netns.tc(space, [damage])
            daemon.wait("mended", count=number)
            assert seen(lab) == there
        netns.ip(space, ["link del wan"])
        netns.ip(space, ["link add wan type veth peer name peer", "link set wan up"])
        eventually(lambda: counted(lab, "wan"))


def test_the_daemon_says_once_that_somebody_else_took_a_device(lab: Lab):
    space = lab.director.namespace
    with running(lab, TREE) as daemon:
        theirs = "qdisc add dev wan root handle 5: tbf rate 1mbit burst 5k limit 50k"
        netns.tc(space, ["qdisc del dev wan root", theirs])
        assert "tbf 5:" in daemon.wait("error")["text"]
        netns.tc(space, ["qdisc del dev wan root"])
        daemon.wait("mended")
        assert counted(lab, "wan")
