"""Shapes in `status`, `top`, `plan` and the metrics, at any width."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markway.api.plans import Todo, planned
from markway.api.shape_metrics import shape_metrics
from markway.apply.transaction import Present
from markway.cli import shapes
from markway.cli.frame import Choice, Seen, frame, panes
from markway.cli.pace import Pace, Rate
from markway.cli.plan import _text
from markway.compiler import compile_config
from markway.config.load import Source, load
from markway.marks import Registry
from markway.program.diff import diff
from markway.program.model import Program

NOTHING = {"sent": 0, "packets": 0, "dropped": 0, "overlimits": 0, "backlog": 0, "waiting": 0, "now": 0}


def item(name, parent="", *, sent=0, now=0, default=False, **more):
    asked = {"classid": "4d57:1", "rate": 200_000, "ceil": 1_000_000, "prio": 0, "leaf": "sfq", "default": default}
    got = {**NOTHING, "sent": sent, "packets": sent // 1000, "now": now, "borrowed": 0, "lent": 0}
    return {"name": name, "parent": parent, **asked, **got, **more}


def shape(*classes, name="wan", **more):
    how = {"device": "eth0", "direction": "egress", "acts_on": "eth0", "discipline": "htb", "rate": 1_024_000}
    rest = {"notices": (), "optional": False, "state": "up", **NOTHING}
    return {"name": name, **how, **rest, "classes": list(classes), **more}


TREE = shape(
    item("bulk", leaf="", lent=5),
    item("torrent", "bulk", sent=9000, now=640_000, backlog=3000),
    item("mail", "bulk", sent=1000, now=8_000),
    item("rest", default=True),
)


def record(*found, services=()):
    return {
        "daemon": True, "pid": 7, "program": "0123456789abcdef", "in_force": True, "damage": None, "beside": None,
        "services": list(services), "shapes": list(found),
    }  # fmt: skip


SERVICE = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "schedule": "random", "policy": None, "backends": []}


def lines(seen, choice=None, width=100, height=None):
    return [line.plain for line in frame(seen, choice or Choice(), width, height)]


@given(
    width=st.integers(1, 200), height=st.integers(1, 60), first=st.integers(0, 100), sort=st.sampled_from(shapes.SORTS)
)
def test_a_frame_of_shapes_never_exceeds_the_screen(width, height, first, sort):
    made = frame(Seen(record(TREE), {}), Choice(sort, first, "shapes"), width, height)
    assert len(made) <= height
    assert all(line.cell_len <= width for line in made)


def test_without_shapes_nothing_speaks_of_them():
    shown = "\n".join(lines(Seen(record(services=[SERVICE]), {}), height=24))
    assert "tab" not in shown
    assert "shape" not in shown
    assert panes(record()) == ["services"]


def test_tab_turns_between_what_there_is():
    seen, choice = Seen(record(TREE, services=[SERVICE]), {}), Choice()
    assert "tab shapes" in lines(seen, choice, height=24)[-1]
    choice.turn()
    shown = lines(seen, choice, height=24)
    assert "tab services" in shown[-1]
    assert "torrent" in "\n".join(shown)
    choice.turn()
    assert "torrent" not in "\n".join(lines(seen, choice, height=24))
    assert "torrent" in "\n".join(lines(Seen(record(TREE), {}), Choice()))  # the only thing there is


def test_classes_stand_below_their_parents_also_when_sorted():
    def order(sort):
        return [
            line.split()[0]
            for line in lines(Seen(record(TREE), rates), Choice(sort, pane="shapes"))
            if line[:2] == "  "
        ]

    rates = {"wan:mail": Rate(1.0, 90_000.0), "wan:bulk": Rate(1.0, 91_000.0), "wan:torrent": Rate(1.0, 1_000.0)}
    assert order("tree") == ["bulk", "torrent", "mail", "rest"]
    assert order("rate") == ["bulk", "mail", "torrent", "rest"]
    assert order("backlog") == ["bulk", "torrent", "mail", "rest"]


@pytest.mark.parametrize(
    ("now", "rate", "ceil", "bar"),
    [
        (0, 200, 1000, "····│················"),
        (100, 200, 1000, "██··│················"),
        (200, 200, 1000, "████│················"),
        (600, 200, 1000, "████│████████········"),
        (5000, 200, 1000, "████│████████████████"),
        (500, 1000, 1000, "██████████··········"),
        (5, 0, 0, "-"),
    ],
)
def test_a_bar_shows_what_is_used_and_what_of_it_is_borrowed(now, rate, ceil, bar):
    one = item("a", rate=rate, ceil=ceil)
    [_, row] = shapes.live([shape(one)], {"wan:a": Rate(1.0, now / 8)}, "tree")
    assert row.cells["ASKED AND GOT"].plain == bar


def test_rates_are_differences_between_looks_and_the_kernels_before_there_are_two():
    pace = Pace()
    for second in range(6):
        one = item("a", sent=125_000 * second, now=7_000)
        rates = pace.look(record(shape(one, sent=125_000 * second, packets=0)), float(second))
        [whole, row] = shapes.live([shape(one)], rates, "tree")
        assert row.cells["NOW"].plain == ("1mbit" if second else "7kbit")
    assert whole.cells["NOW"].plain == "1mbit"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"state": "absent", "device": "ppp0", "optional": True}, "ppp0 is absent: the shape waits for it"),
        ({"state": "absent"}, "eth0 is absent"),
        ({"state": "lost", "acts_on": "mw-wan"}, "no discipline of ours on mw-wan"),
    ],
)
def test_what_is_wrong_with_a_shape_is_said(more, words):
    assert words in shapes.trouble(shape(**more))
    assert words in "\n".join(lines(Seen(record(shape(**more)), {})))


def test_of_many_classes_the_busiest_are_shown_with_those_above_them():
    many = [
        item("top"),
        item("deep", "top"),
        *(item(f"c{n}", sent=n) for n in range(200)),
        item("low", "deep", sent=1, now=5),
    ]
    rows, left_out = shapes.table(shape(*many))
    shown = [row.cells["CLASS"].plain for row in rows]
    assert shown[:3] == ["top", "  deep", "    low"]
    assert "c199" in shown
    assert "c1" not in shown
    assert len(shown) == shapes.FOLD
    assert left_out == len(many) - len(shown)
    assert shapes.table(shape(*many), None) == (shapes.table(shape(*many), 1000)[0], 0)


@pytest.mark.parametrize(("rate", "text"), [(0, "0bit"), (999, "999bit"), (1_024_000, "1.02mbit"), (2.5e9, "2.5gbit")])
def test_measured_rates_have_three_digits(rate, text):
    assert shapes.bandwidth(rate) == text


def test_metrics_have_every_class_and_nothing_where_there_are_no_shapes():
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in shape_metrics([TREE])
        for sample in family.samples
    }
    assert samples["markway_shape_up", "wan"] == 1
    assert samples["markway_class_bytes_total", "wan", "torrent"] == 9000
    assert samples["markway_class_rate_bits", "wan", "torrent"] == 640_000
    assert samples["markway_class_rate_configured_bits", "wan", "mail"] == 200_000
    assert ("markway_shape_borrowed_total", "wan") not in samples
    assert list(shape_metrics([])) == []


FILE = """
[shape.wan]
device = "eth0"
rate = "1mbit"
default = "rest"
[shape.wan.class.web]
rate = "200kbit"
match = [{ protocol = "tcp", source-port = 80 }]
[shape.wan.class.rest]
rate = "800kbit"
"""


def program(text):
    config = load([Source("test.toml", text.encode())]).config
    return compile_config(config, Registry()).program


def plan_of(old, new):
    now = Present(None, None, None, [])
    changes = diff(old, new)
    beside = Todo(changes.steps, frozenset({"wan"}))
    told = planned(now, changes, beside, Counter(), otherwise=False)
    return "\n".join(_text(now, changes, beside, Counter(), full=False)), told


def test_a_plan_has_the_tree_and_the_commands_beside_the_table():
    text, told = plan_of(Program(), program(FILE.replace("[shape.wan]", "[shape.wan]\noptional = true", 1)))
    assert "# shape wan: added\n#   eth0 egress by htb at 1mbit\n" in text
    assert "tc class add dev eth0" in text
    assert text.index("tc qdisc replace dev eth0 root") < text.index("add chain inet markway shape/wan")
    assert "shape wan is new" in text
    assert "shape wan waits for eth0, which is absent" in text
    assert told["shapes"] == [{"shape": "wan", "kind": "added", "why": (), "anew": False}]
    assert any("htb rate 200000bit" in line for line in told["before"])
    assert told["after"] == []


def test_a_plan_says_what_of_a_shape_changes():
    text, _ = plan_of(program(FILE), program(FILE.replace("200kbit", "300kbit").replace("= 80", "= 81")))
    assert "# shape wan: changed: rate of web 200kbit → 300kbit" in text
    assert "tc class change dev eth0" in text
    assert "class add" not in text
    text, _ = plan_of(program(FILE), program(FILE.replace("= 80", "= 81")))
    assert "# shape wan: changed: what its classes match" in text
    text, _ = plan_of(program(FILE), program("[shape.wan]\ndevice='eth0'\ndiscipline='tbf'\nrate='1mbit'\n"))
    assert "shape wan is made anew: what waits in its queues is lost" in text


def test_very_many_commands_are_counted():
    many = "".join(f"[shape.wan.class.c{n}]\nrate='8kbit'\n" for n in range(300))
    text, told = plan_of(Program(), program(FILE + many))
    assert text.count("tc ") < 20
    assert "more …" in text
    assert "more: markway plan --full" in text
    assert len(told["before"]) > 600
