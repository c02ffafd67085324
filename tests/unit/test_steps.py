"""Which commands lead from one plumbing to another, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.program.plumbing import (
    ARRIVING,
    REDIRECT,
    Class,
    Filter,
    Link,
    PolicyRule,
    Qdisc,
    Route,
    Setting,
    part_of,
    record_of,
)
from markway.program.steps import Step, steps

if TYPE_CHECKING:
    from markway.program.plumbing import Part

ROOT = Qdisc("eth0", "root", "htb", "default fffe", "4d57:")
TOP = Class("eth0", "4d57:", "4d57:1", 8000, 8000)
REST = Class("eth0", "4d57:1", "4d57:fffe", 1000, 8000)
QUEUE = Qdisc("eth0", "4d57:fffe", "pfifo", "limit 10")
TREE: list[Part] = [ROOT, TOP, REST, QUEUE]


def u32(number: int, what: str = "0x01", preference: int = 5, classid: str = "4d57:fffe", table: str = ":") -> Filter:
    options = f"match u8 {what} 0xff at 1 flowid {classid}"
    return Filter("eth0", "4d57:", preference, "ip", "u32", options, f"{table}:{number:x}", classid)


def shown(way: tuple[Step, ...]) -> list[str]:
    return [f"{step.command.tool} {step.command.text}" for step in way]


def begins(way: tuple[Step, ...], *expected: str) -> None:
    assert len(way) == len(expected), shown(way)
    for line, start in zip(shown(way), expected, strict=True):
        assert line.startswith(start), shown(way)


def test_what_is_new_comes_before_the_table_changes_and_what_goes_after_it():
    new: list[Part] = [ROOT, TOP, REST, QUEUE, Class("eth0", "4d57:1", "4d57:3", 1000, 8000)]
    old: list[Part] = [ROOT, TOP, REST, QUEUE, Class("eth0", "4d57:1", "4d57:2", 1000, 8000), u32(1, classid="4d57:2")]
    before, after = steps(old, new)
    begins(before, "tc class add dev eth0 parent 4d57:1 classid 4d57:3 ")
    begins(after, "tc filter del dev eth0 parent 4d57: protocol ip pref 5", "tc class del dev eth0 classid 4d57:2")


def test_a_class_changes_in_place_and_back():
    (step,), after = steps(TREE, [ROOT, TOP, Class("eth0", "4d57:1", "4d57:fffe", 2000, 8000), QUEUE])
    assert not after
    assert step.command.text.startswith("class change dev eth0 parent 4d57:1 classid 4d57:fffe htb rate 2000bit")
    assert "rate 1000bit" in step.undo[0].text


def test_a_root_of_another_kind_takes_the_place_of_the_whole_tree():
    (step,), after = steps(TREE, [Qdisc("eth0", "root", "tbf", "rate 8000bit", "4d58:")])
    assert not after
    assert step.command.text.startswith("qdisc replace dev eth0 root handle 4d58:")
    assert [undo.text.split(" dev ")[0] for undo in step.undo] == [
        "qdisc replace",
        "class add",
        "class add",
        "qdisc replace",
    ]


def test_a_removed_root_takes_all_with_it():
    before, after = steps([*TREE, u32(1)], [])
    assert not before
    begins(after, "tc qdisc del dev eth0 root")


def test_a_class_that_loses_its_last_child_gets_its_queue_then():
    before, after = steps(TREE, [ROOT, TOP, Qdisc("eth0", "4d57:1", "pfifo")])
    assert not before
    begins(
        after,
        "tc class del dev eth0 classid 4d57:fffe",
        "tc class change dev eth0 parent 4d57: classid 4d57:1 ",
        "tc qdisc replace dev eth0 parent 4d57:1 pfifo",
    )


def test_a_class_that_gets_its_first_child_loses_its_queue_and_has_it_back_when_undone():
    before, after = steps([ROOT, TOP, Qdisc("eth0", "4d57:1", "pfifo")], TREE)
    assert not after
    begins(before, "tc class add dev eth0 parent 4d57:1 ", "tc qdisc replace dev eth0 parent 4d57:fffe ")
    assert [undo.text.split(" dev ")[0] for undo in before[0].undo] == ["class del", "qdisc replace"]


def test_a_class_moves_by_going_first():
    other = Class("eth0", "4d57:", "4d57:2", 8000, 8000)
    moved = Class("eth0", "4d57:2", "4d57:fffe", 1000, 8000)
    before, after = steps([ROOT, TOP, other, REST, QUEUE, u32(1)], [ROOT, TOP, other, moved, QUEUE, u32(1)])
    assert not after
    begins(
        before,
        "tc filter del dev eth0 parent 4d57: protocol ip pref 5",
        "tc class del dev eth0 classid 4d57:fffe",
        "tc class add dev eth0 parent 4d57:2 classid 4d57:fffe",
        "tc qdisc replace dev eth0 parent 4d57:fffe",
        "tc filter add dev eth0 parent 4d57: protocol ip pref 5",
    )


def test_a_u32_filter_has_a_copy_while_it_is_made_anew():
    before, after = steps([*TREE, u32(1), u32(2)], [*TREE, u32(1, "0x02"), u32(2)])
    assert not after
    place = "dev eth0 parent 4d57: protocol ip pref 5 handle"
    begins(
        before,
        f"tc filter add {place} ::801 ",
        f"tc filter del {place} ::1 ",
        f"tc filter add {place} ::1 ",
        f"tc filter del {place} ::801 ",
    )


def test_filters_of_one_preference_that_go_together_go_at_once():
    before, after = steps([*TREE, u32(1), u32(2), u32(1, preference=6)], [*TREE, u32(1, preference=6)])
    assert not before
    begins(after, "tc filter del dev eth0 parent 4d57: protocol ip pref 5")
    assert after[0].command.text.endswith("pref 5")
    assert len(after[0].undo) == 2


def test_a_hash_table_goes_behind_the_filter_that_leads_there():
    place = "eth0", "4d57:", 5, "ip", "u32"
    linked: list[Part] = [
        Filter(*place, "divisor 1", "5:"),
        u32(1, table="5:"),
        Filter(*place, "match u32 0 0 at 0 link 5:", "::1"),
    ]
    _, after = steps([*TREE, *linked], TREE)
    gone = "tc filter del dev eth0 parent 4d57: protocol ip pref 5"
    begins(after, f"{gone} handle ::1 u32", f"{gone} handle 5: u32", gone)
    assert [step.command.lenient for step in after] == [False, False, True]


def test_another_kind_of_filter_waits_until_its_preference_is_free():
    fw = Filter("eth0", "4d57:", 5, "ip", "fw", "classid 4d57:fffe", "0x1/0xff", "4d57:fffe")
    before, after = steps([*TREE, u32(1)], [*TREE, fw])
    assert not after
    begins(before, "tc filter del dev eth0 parent 4d57: protocol ip pref 5", "tc filter add dev eth0 ")


def test_a_queue_changes_in_place_only_if_nothing_of_the_old_would_stay():
    (changed,), _ = steps(TREE, [ROOT, TOP, REST, Qdisc("eth0", "4d57:fffe", "pfifo", "limit 20")])
    assert changed.command.text == "qdisc replace dev eth0 parent 4d57:fffe pfifo limit 20"
    before, _ = steps(TREE, [ROOT, TOP, REST, Qdisc("eth0", "4d57:fffe", "pfifo")])
    begins(before, "tc qdisc del dev eth0 parent 4d57:fffe", "tc qdisc replace dev eth0 parent 4d57:fffe pfifo")


def test_what_arrives_goes_through_a_device_of_ours():
    redirect = Filter("eth0", ARRIVING, REDIRECT, "all", "u32", "match u32 0 0 action mirred", "::1")
    parts: list[Part] = [
        Link("mw-in"),
        Qdisc("mw-in", "root", "tbf", "", "4d58:"),
        Qdisc("eth0", "ingress", "ingress"),
        redirect,
    ]
    before, after = steps([], parts)
    assert not after
    begins(before, "ip link add mw-in type ifb", "ip link set mw-in up", "tc qdisc", "tc qdisc", "tc filter")
    before, after = steps(parts, [])
    assert not before
    begins(after, "tc filter del", "tc qdisc del dev eth0 ingress", "ip link del mw-in")


def test_routes_rules_and_settings():
    old: list[Part] = [Setting("net/a", "0"), PolicyRule(6, 9, 1, 15, 100), Route("10.0.0.0/8", "dev eth0 realm 5")]
    new: list[Part] = [Setting("net/a", "1"), PolicyRule(6, 9, 2, 15, 100), Route("10.0.0.0/8", "dev eth1 realm 5")]
    before, after = steps(old, new)
    begins(before, "ip -6 rule add pref 9 fwmark 0x2/0xf ", "ip route replace 10.0.0.0/8 dev eth1 ")
    begins(after, "sysctl net/a=1", "ip -6 rule del pref 9 fwmark 0x1/0xf ")


def test_a_part_is_the_same_after_it_was_written_down():
    parts: list[Part] = [
        *TREE,
        u32(1),
        Link("mw-in"),
        Setting("a", "b"),
        Route("10.0.0.0/8", ""),
        PolicyRule(4, 9, 1, 15, 100),
    ]
    assert [part_of(record_of(part)) for part in parts] == parts
