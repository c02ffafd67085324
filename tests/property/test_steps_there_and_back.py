"""The way from any plumbing to any other, on a kernel that refuses what the real one refuses."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as some
from tests.property.plumbed import Kernel, RefusedError

from markway.program.plumbing import Class, Filter, Link, PolicyRule, Qdisc, Route
from markway.program.steps import Step, steps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.program.plumbing import Part

SETTINGS = settings(deadline=None)
DEVICES = {"eth0", "eth1"}
LEAVES = [("pfifo", ""), ("pfifo", "limit 10"), ("fq_codel", "flows 8"), ("fq_codel", "flows 9"), ("sfq", "perturb 10")]


@some.composite
def trees(draw: some.DrawFn, device: str) -> list[Part]:
    """A device's discipline, with classes and filters if it can have some."""
    kind = draw(some.sampled_from(["", "htb", "htb", "htb", "tbf", "pfifo"]))
    if not kind:
        return []
    if kind != "htb":
        handle = {"tbf": "4d58:", "pfifo": "4d5e:"}[kind]
        return [Qdisc(device, "root", kind, draw(some.sampled_from(["", "limit 5", "limit 6"])), handle)]
    parts: list[Part] = [Qdisc(device, "root", "htb", f"default {draw(some.sampled_from(['fffe', 'fffd']))}", "4d57:")]
    ids = draw(some.lists(some.integers(1, 6), unique=True, max_size=6))
    parents: dict[int, int] = {}
    for position, number in enumerate(ids):
        parents[number] = draw(some.sampled_from([0, *ids[:position]]))
        parent = f"4d57:{parents[number]:x}" if parents[number] else "4d57:"
        rate = draw(some.sampled_from([8000, 16000]))
        parts.append(Class(device, parent, f"4d57:{number:x}", rate, rate))
    ends = [number for number in ids if number not in parents.values()]
    for number in ends:
        leaf = draw(some.sampled_from([None, *LEAVES]))
        parts += [Qdisc(device, f"4d57:{number:x}", *leaf)] if leaf else []
    return [*parts, *draw(filters(device, ends))] if ends else parts


@some.composite
def filters(draw: some.DrawFn, device: str, ends: list[int]) -> list[Part]:
    found: list[Part] = []
    for preference in draw(some.sets(some.integers(1, 3))):
        protocol = draw(some.sampled_from(["ip", "all"]))
        kind, mask = draw(some.sampled_from([("u32", ""), ("fw", "/0xff"), ("fw", "")]))
        place = device, "4d57:", preference, protocol
        table = draw(some.sampled_from(["", f"{preference}:"])) if kind == "u32" else ""
        found += [Filter(*place, kind, "divisor 1", table)] if table else []
        for number in range(1, draw(some.integers(1, 4)) + 1):
            end = f"4d57:{draw(some.sampled_from(ends)):x}"
            handle = f"{table or ':'}:{number:x}" if kind == "u32" else f"{number:#x}{mask}"
            what = f"match u8 {draw(some.integers(1, 2))} 0xff at 0 " if kind == "u32" else ""
            found.append(Filter(*place, kind, f"{what}classid {end}", handle, end))
        found += [Filter(*place, kind, f"match u32 0 0 link {table} offset", "::1")] if table else []
    return found


@some.composite
def plumbing(draw: some.DrawFn) -> list[Part]:
    """What a program may want."""
    parts: list[Part] = []
    if draw(some.booleans()):
        parts += [Link("mw-in"), Qdisc("eth1", "ingress", "ingress"), *draw(trees("mw-in"))]
        parts.append(Filter("eth1", "ffff:fff2", 0x4D57, "all", "u32", "match u32 0 0 action mirred", "::1"))
    for device in sorted(DEVICES):
        parts += draw(trees(device))
    for number in draw(some.sets(some.integers(1, 3))):
        way = draw(some.sampled_from(["dev eth0 realm 5", "dev eth1", "dev eth1 realm 6"]))
        parts.append(Route(f"10.{number}.0.0/16", way))
    return [*parts, *(PolicyRule(4, 100, n, 0xF, 100) for n in draw(some.sets(some.integers(1, 3))))]


@some.composite
def pairs(draw: some.DrawFn) -> tuple[list[Part], list[Part]]:
    """Two at random, or one that has lost some of the other's classes, and what needs these."""
    old = draw(plumbing())
    if draw(some.booleans()):
        return old, draw(plumbing())
    gone = set[tuple[str, str]]()
    inner = {(part.device, part.parent) for part in old if isinstance(part, Class)}
    for part in reversed(old):
        if isinstance(part, Class) and draw(some.booleans()):
            children = {(p.device, p.classid) for p in old if isinstance(p, Class) and p.parent == part.classid}
            gone |= {(part.device, part.classid)} if children <= gone else set()
    kept = [p for p in old if not isinstance(p, (Class, Filter)) or (p.device, p.classid) not in gone]
    kept = [p for p in kept if not isinstance(p, Qdisc) or (p.device, p.parent) not in gone]
    ends = inner - {(part.device, part.parent) for part in kept if isinstance(part, Class)} - gone
    kept += [Qdisc(device, classid, "sfq", "perturb 10") for device, classid in sorted(ends) if classid != "4d57:"]
    return draw(some.sampled_from([(old, kept), (kept, old)]))


def made(parts: Iterable[Part]) -> Kernel:
    kernel = Kernel(DEVICES)
    for part in parts:
        for text in part.add():
            kernel.do(part.tool, text)
    return kernel


def go(kernel: Kernel, way: Iterable[Step]) -> None:
    for step in way:
        with suppress(RefusedError) if step.command.lenient else nullcontext():
            kernel.do(step.command.tool, step.command.text)


def back(kernel: Kernel, way: Iterable[Step]) -> None:
    for step in reversed(list(way)):
        for command in step.undo:
            with suppress(RefusedError) if command.lenient else nullcontext():
                kernel.do(command.tool, command.text)


@SETTINGS
@given(pairs())
def test_the_steps_lead_from_any_plumbing_to_any_other(pair):
    old, new = pair
    kernel = made(old)
    go(kernel, [step for part in steps(old, new) for step in part])
    assert kernel.state == made(new).state


@SETTINGS
@given(plumbing())
def test_what_stays_needs_no_step(parts):
    assert not steps(parts, parts)


@SETTINGS
@given(pairs(), some.data())
def test_from_wherever_the_kernel_refuses_the_undos_lead_back(pair, data):
    old, new = pair
    way = [step for part in steps(old, new) for step in part]
    kernel = made(old)
    refused = data.draw(some.integers(0, len(way)))
    go(kernel, way[:refused])
    back(kernel, way[:refused])
    assert kernel.state == made(old).state


@SETTINGS
@given(plumbing(), some.data())
def test_what_is_unfit_is_made_anew(parts, data):
    chosen = data.draw(some.sets(some.sampled_from(parts))) if parts else set()
    unfit = frozenset(part.key for part in chosen if isinstance(part, (Qdisc, Filter)))
    kernel = made(parts)
    way = [step for part in steps(parts, parts, unfit) for step in part]
    assert bool(way) == bool(unfit)
    go(kernel, way)
    assert kernel.state == made(parts).state


@SETTINGS
@given(pairs())
def test_old_and_new_stand_together_while_the_table_changes(pair):
    old, new = pair
    kernel = made(old)
    before, _ = steps(old, new)
    go(kernel, before)
    assert {(part.device, part.classid) for part in new if isinstance(part, Class)} <= kernel.classes.keys()
    assert {(part.to, "254") for part in (*old, *new) if isinstance(part, Route)} == kernel.routes.keys()
    roots = {part.key: part for part in new if isinstance(part, Qdisc) and part.parent == "root"}
    same = {p.device for p in old if isinstance(p, Qdisc) and roots.get(p.key, p) == p}
    moved = {(part.device, part.classid) for part in new if isinstance(part, Class)}
    stays = {(p.device, p.classid) for p in old if isinstance(p, Class) and p.device in same} - moved
    below_moved = [p for p in old if isinstance(p, Class) and p.key not in {part.key for part in new}]
    assert stays <= kernel.classes.keys() | {(p.device, p.classid) for p in below_moved}
