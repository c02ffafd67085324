"""Whatever cuts an apply off, or changes what it made: the next apply sees it, and mends that and no more.

director: devices `wan` and `lan`, without neighbours
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
from tests.kernel.shaped import alone_with
from tests.kernel.support import read, unique_name

from markway.apply import transaction
from markway.apply.store import Store
from markway.apply.transaction import ApplyError, present, put
from markway.compiler import compile_config
from markway.config.model import Config
from markway.kernel import netns, nft, table
from markway.kernel.netlink import Netlink
from markway.kernel.tc import perform
from markway.marks import Registry
from markway.program.plumbing import Class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from markway.lab.lab import Lab
    from markway.program.model import Program
    from markway.program.steps import Command, Step

TREE = """
[shape.up]
device = "wan"
rate = "10mbit"
default = "rest"
leaf = "pfifo"
class.rest = { rate = "1mbit", ceil = "10mbit" }
class.bulk = { rate = "5mbit" }
class.slow = { parent = "bulk", rate = "1mbit", ceil = "5mbit", match = { port = 25 } }
class.fast = { parent = "bulk", rate = "4mbit", prio = 1 }
filter = [
  { u32 = ["ip protocol 17 0xff", "udp dst 53 0xffff"], class = "fast" },
  { u32 = ["ip dst 10.0.0.0/8"], class = "slow", priority = 20 },
]
"""
FLAT = """
[shape.up]
device = "wan"
rate = "10mbit"
default = "rest"
leaf = "pfifo"
class.rest = { rate = "2mbit", ceil = "10mbit" }
class.bulk = { rate = "5mbit", match = { port = 25 } }
class.fast = { rate = "4mbit", prio = 1, leaf = "bfifo" }
filter = [{ u32 = ["ip dst 10.0.0.0/8"], class = "fast" }]
"""
BUCKET = '[shape.up]\ndevice = "wan"\ndiscipline = "tbf"\nrate = "3mbit"\n'
DOWN = """
[shape.down]
device = "wan"
direction = "ingress"
rate = "20mbit"
default = "all"
leaf = "pfifo"
class.all.rate = "20mbit"
"""
OTHER = BUCKET.replace("wan", "lan").replace("shape.up", "shape.other")
MARKS = """
[uplink.dsl]
table = 100
[mark.slow]
match.source = "10.0.0.7"
uplink = "dsl"
[realm.office]
number = 5
routes = [{ to = "10.1.0.0/16", via = "10.9.0.9", device = "wan" }]
"""
CLASSIC = (
    TREE.replace('leaf = "pfifo"', 'leaf = { kind = "sfq", perturb = "10s" }')
    .replace(
        "filter = [",
        """filter = [
  { fw = 80, class = "slow", priority = 20 },
  { fw = 81, class = "fast", priority = 20 },
  { route = { to = 5 }, class = "slow", priority = 30 },
  { route = { from = 6, to = 5 }, class = "fast", priority = 30 },""",
    )
    .replace(', class = "slow", priority = 20 },\n]', ', class = "slow", priority = 40 },\n]')
)
LINKED = FLAT.replace('["ip dst 10.0.0.0/8"]', '["u8 0x10 0xff at nexthdr+13", "ip protocol 6 0xff"]')
FILES = ["", TREE, FLAT, BUCKET, TREE + DOWN, FLAT + MARKS, DOWN + OTHER, TREE + OTHER + MARKS + DOWN, LINKED]


def compiled(text: str) -> Program:
    return compile_config(read(text) if text else Config(), Registry()).program


class Killed(BaseException):
    """What no code can catch by mistake."""


class Machine:
    """A director whose programs are written from within this process, as another process each time."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder

    @contextmanager
    def inside(self) -> Iterator[tuple[Store, Netlink]]:
        with netns.enter(self.lab.director.namespace), Netlink() as netlink:
            yield Store(self.folder), netlink

    def put(self, program: Program) -> tuple[str, ...]:
        """Bring a program into force; what was found to be wrong before."""
        with self.inside() as (store, netlink):
            now = present(store, netlink)
            put(store, netlink, now, program, config="", why="test")
            found = present(store, netlink)
            assert found.faults == ()
            assert found.program is not None
            assert found.program.id == program.id
            return now.faults

    def faults(self) -> tuple[str, ...]:
        with self.inside() as (store, netlink):
            return present(store, netlink).faults

    @property
    def seen(self) -> list[str]:
        """All that is there, without what the kernel numbers or counts; filters with their priorities."""
        run = self.lab.director.run
        shown = "".join(
            run(*command.split()).stdout
            for command in ("tc qdisc", "tc class show dev wan", "tc class show dev lan", "tc filter show dev wan")
        )
        shown += "".join(run("ip", "-br", "link").stdout.splitlines(keepends=True))
        shown += "".join(run(*each.split()).stdout for each in ("ip rule", "ip -6 rule", "ip route show table all"))
        shown += self.lab.nft("-s", "list", "ruleset").replace(",", " ")
        shown = re.sub(r"(qdisc \S+) \S+: dev (\S+) parent", r"\1 \2", shown)
        shown = re.sub(r'direct_packets_stat \d+|leaf \S+:|fh \S+|ht \S+| [0-9a-f:]{17} |comment "\w+"', "", shown)
        return sorted(line for line in shown.splitlines() if not re.search("proto kernel|noqueue.* mw-", line))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with alone_with(["wan", "lan"], unique_name()) as lab:
        yield Machine(lab, tmp_path)


def killed_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> Callable[[], int]:
    """Have the process die after so many steps; the table's transaction is one. Says how many there were."""
    done = 0

    def one_by_one(steps: Sequence[Step]) -> list[Command]:
        nonlocal done
        for step in steps:
            if done == moment:
                raise Killed
            perform([step])
            done += 1
        return []

    def written(write: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: object) -> None:
            nonlocal done
            if done == moment:
                raise Killed
            write(*args)
            done += 1

        return counted

    monkeypatch.setattr(transaction, "perform", one_by_one)
    monkeypatch.setattr(transaction, "_write", written(transaction._write))
    monkeypatch.setattr(transaction, "_write_back", lambda *_: None)
    monkeypatch.setattr(transaction, "_take_back", lambda *_: None)
    return lambda: done


@pytest.mark.needs("cls_fw", "cls_route", "sch_sfq")
@pytest.mark.parametrize("seed", range(4))
def test_an_apply_of_classic_filters_cut_off_anywhere(machine: Machine, seed: int):
    cut_off_anywhere(machine, Random(seed), [CLASSIC, LINKED, CLASSIC.replace("8", "9"), TREE])


@pytest.mark.parametrize("seed", range(4))
def test_an_apply_cut_off_anywhere_is_completed_or_undone_by_the_next(machine: Machine, seed: int):
    random = Random(seed)
    cut_off_anywhere(machine, random, random.sample(FILES, 4))


def cut_off_anywhere(machine: Machine, random: Random, files: list[str]) -> None:
    """From each file to the next, killed at some moments, and from there to any."""
    fresh = {}
    for text in files:
        machine.put(compiled(""))
        machine.put(compiled(text))
        fresh[text] = machine.seen
    for old, new in zip(fresh, [*list(fresh)[1:], next(iter(fresh))], strict=True):
        moment = 0
        while True:
            machine.put(compiled(old))
            assert machine.seen == fresh[old]
            with pytest.MonkeyPatch.context() as patch, machine.inside() as (store, netlink):
                steps = killed_at(patch, moment)
                program = compiled(new)
                try:
                    put(store, netlink, present(store, netlink), program, config="", why="test")
                except Killed:
                    assert steps() == moment
                else:
                    break
            following = random.choice(list(fresh))
            machine.put(compiled(following))
            went = [files.index(text) for text in (old, new, following)]
            assert machine.seen == fresh[following], f"files {went}, killed after {moment} steps"
            moment += random.randint(1, 12)


DAMAGES = [
    (["class change dev wan classid 4d57:fffe htb rate 3mbit ceil 10mbit"], "class 4d57:fffe of wan"),
    (["qdisc del dev wan root"], "htb of wan is gone"),
    (["qdisc replace dev wan parent 4d57:fffe pfifo limit 3"], "pfifo of class 4d57:fffe"),
    (["filter del dev wan parent 4d57: protocol ip pref 20"], "a filter u32 of wan"),
    (["filter del dev wan ingress pref 19799"], "a filter u32 of wan"),
    (["qdisc del dev wan root", "qdisc add dev wan root handle 4d58: tbf rate 1mbit burst 5k limit 50k"], "of wan"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_a_damaged_tree_is_made_whole_and_nothing_else_is_touched(machine: Machine, damage: list[str], said: str):
    program = compiled(TREE + DOWN)
    machine.put(program)
    before = machine.seen
    with machine.inside() as (_, netlink):
        written = table.generation(netlink)
    netns.tc(machine.lab.director.namespace, damage)
    (fault,) = machine.put(program)
    assert said in fault
    assert machine.seen == before
    with machine.inside() as (_, netlink):
        assert table.generation(netlink) == written


def test_a_damaged_table_is_made_whole_and_no_tree_is_touched(machine: Machine):
    program = compiled(TREE + DOWN)
    machine.put(program)
    before = machine.seen
    handles = machine.lab.director.run("tc", "qdisc").stdout
    machine.lab.nft("delete", "table", "inet", "markway")
    machine.put(program)
    assert machine.seen == before
    assert machine.lab.director.run("tc", "qdisc").stdout == handles


def test_who_loses_the_state_folder_finds_ours_by_its_mark(machine: Machine, tmp_path: Path):
    machine.put(compiled(TREE + DOWN + OTHER + MARKS))
    machine.folder = tmp_path / "fresh"
    machine.folder.mkdir()
    machine.put(compiled(FLAT))
    seen = machine.seen
    machine.put(compiled(""))
    machine.put(compiled(FLAT))
    assert machine.seen == seen


def test_what_others_have_put_into_our_tree_stays_while_it_is_in_nobodys_way(machine: Machine):
    machine.put(compiled(TREE))
    alien = ["class add dev wan parent 4d57:fffd classid 4d57:abc htb rate 1mbit"]
    alien += ["filter add dev wan parent 4d57: protocol ip pref 7 u32 match ip dport 7 0xffff flowid 4d57:abc"]
    netns.tc(machine.lab.director.namespace, alien)
    assert machine.faults() == ()
    machine.put(compiled(FLAT))
    assert any("4d57:abc" in line for line in machine.seen)
    machine.put(compiled(""))
    assert not any("4d57:" in line for line in machine.seen)


@pytest.mark.parametrize("new", [FLAT, FLAT + DOWN + MARKS])
def test_a_removal_that_is_refused_takes_everything_back(machine: Machine, new: str):
    old = compiled(TREE)
    machine.put(old)
    (slow,) = (
        part.classid for part in old.plumbing if isinstance(part, Class) and part.ceil == 5_000_000 == 5 * part.rate
    )
    alien = f"filter add dev wan parent 4d57: protocol ip pref 7 u32 match ip dport 7 0xffff flowid {slow}"
    netns.tc(machine.lab.director.namespace, [alien])
    before = machine.seen
    with (
        machine.inside() as (store, netlink),
        pytest.raises(ApplyError, match=rf"tc class del dev wan classid {slow}: .*in use"),
    ):
        put(store, netlink, present(store, netlink), compiled(new), config="", why="test")
    assert machine.seen == before
    assert machine.faults() == ()


def test_a_table_that_is_refused_takes_the_tree_back(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.put(compiled(TREE))
    before = machine.seen

    def refuse(*_: object) -> None:
        raise nft.NftError("no")

    with machine.inside() as (store, netlink), monkeypatch.context() as patch:
        patch.setattr(transaction, "_write", refuse)
        with pytest.raises(ApplyError, match="no"):
            put(store, netlink, present(store, netlink), compiled(FLAT + DOWN + MARKS), config="", why="test")
    assert machine.seen == before
    assert machine.faults() == ()


def test_what_the_kernel_takes_and_does_not_do_is_refused_and_taken_back(machine: Machine):
    """A burst that takes longer than 2**32 ticks of 64 ns is another to the kernel."""
    machine.put(compiled(FLAT))
    before = machine.seen
    clipped = FLAT.replace('rate = "4mbit"', 'rate = "8kbit", burst = "1mb"')
    with machine.inside() as (store, netlink), pytest.raises(ApplyError, match="but its burst is"):
        put(store, netlink, present(store, netlink), compiled(clipped), config="", why="test")
    assert machine.seen == before
    assert machine.faults() == ()


def test_what_arrives_is_shared_with_others(machine: Machine):
    space = machine.lab.director.namespace
    before = machine.seen
    theirs = "filter add dev wan ingress pref 5 protocol ip u32 match ip dport 9 0xffff"
    netns.tc(space, ["qdisc add dev wan clsact", theirs])
    with_theirs = machine.seen
    machine.put(compiled(DOWN))
    assert any(
        "pref 19799" in line
        for line in machine.lab.director.run("tc", "filter", "show", "dev", "wan", "ingress").stdout.splitlines()
    )
    machine.put(compiled(""))
    assert without_table(machine.seen) == without_table(with_theirs)
    netns.tc(space, ["qdisc del dev wan clsact"])
    machine.put(compiled(DOWN))
    netns.tc(space, [theirs])
    machine.put(compiled(""))
    assert any("qdisc ingress" in line for line in machine.seen)
    netns.tc(space, ["filter del dev wan ingress pref 5"])
    machine.put(compiled(DOWN))
    machine.put(compiled(""))
    assert without_table(machine.seen) == without_table(before)


def without_table(seen: list[str]) -> list[str]:
    """What is there beside nftables."""
    return [line for line in seen if line.startswith(("qdisc", "class", "filter", "wan", "lan", "mw-"))]
