"""check, plan, apply, confirm, rollback and status: whole or not at all, nothing breaks, and what is said of it.

client1 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import apply, eventually, flows, in_force, run, seen, status, write

from markway.kernel import netns
from markway.lab.build import STATE_DIRECTORY, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.lab.lab import Lab

MARKWAY = [sys.executable, "-m", "markway"]


def config(weights: str = "111", lines: str = "", more: str = "") -> str:
    """One service; a `-` in `weights` leaves the backend out."""
    text = f'[service.web]\nlisten = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]\n{lines}\n'
    for number, (name, weight) in enumerate(zip("abc", weights, strict=True)):
        if weight != "-":
            address = f'["192.168.1.1{number}:8080", "[fd00:1::1{number}]:8080"]'
            text += f"backend.{name} = {{ address = {address}, weight = {weight} }}\n"
    return text + more


OTHER = '[service.other]\nlisten = "192.0.2.11:81"\nbackend.z.address = "192.168.1.19:8081"\n'


def held(lab: Lab) -> list[str]:
    """What the kernel's table holds, without counters and in no order, as hash sets have none."""
    return sorted(lab.nft("-s", "list", "table", "inet", "markway").replace(",", " ").split())


def works(lab: Lab) -> bool:
    return not lab.fetch("192.0.2.10:80", 12).failed and not lab.fetch("[2001:db8::10]:80", 12).failed


def test_applying_twice_changes_nothing():
    with in_force(config()) as lab:
        before = lab.nft("list", "table", "inet", "markway")
        assert apply(lab, config()).startswith("Nothing to change: 1 service in force")
        assert "Nothing to change" in run(lab, "plan", write(lab, config()))
        assert lab.nft("list", "table", "inet", "markway") == before
        run(lab, "plan", "--exit-code", write(lab, config()))
        run(lab, "plan", "--exit-code", write(lab, config("211")), code=2)


def test_check_and_plan_change_nothing(lab):
    it = lab(config())
    path = write(it, config())
    run(it, "check", path)
    assert "add chain inet markway service/web/ip" in run(it, "plan", path)
    assert it.nft("list", "ruleset") == ""
    assert list(it.fetch("192.0.2.10:80", 1).failures) == ["refused"]


@pytest.mark.parametrize(
    ("target", "udp", "lines"),
    [
        ("192.0.2.10:80", False, ""),
        ("[2001:db8::10]:80", True, ""),
        ("[2001:db8::10]:80", False, 'mode = "snat"'),
        ("192.0.2.10:80", True, 'schedule = "source-hash"'),
        ("192.0.2.10:80", False, 'persist = { timeout = "1m" }'),
    ],
)
def test_held_connections_outlive_every_change(target, udp, lines):
    options = ["--udp"] if udp else []
    options += ["--source", "198.51.100.64/26" if "." in target else "2001:db8:c1:0:1::/80"]
    with in_force(config(lines=lines)) as lab, lab.clients[0].hold(target, 60, *options) as holding:
        before = holding.opened.answers
        assert holding.opened.open == 60
        changes = [
            config("311", lines),  # a weight
            config("-11", lines),  # a backend leaves
            config("-11", lines, OTHER),  # a service joins
            config("0-1", lines),  # one comes back without weight, another leaves
            config("121", lines + '\nsource-rate = "9/second"'),  # structure
            OTHER,  # the whole service leaves
            config("111", lines),
        ]
        for change in changes:
            apply(lab, change)
            report = holding.report()
            assert (report.open, report.moved, report.failures) == (60, 0, {}), change
        assert report.answers == before


@pytest.mark.real_time  # it changes until the client ends
def test_no_connection_fails_while_changes_go_on():
    with in_force(config()) as lab:
        target = ["192.0.2.10:80", "--count", "6000", "--rate", "2000"]
        client = lab.clients[0].spawn(sys.executable, "-m", "markway.lab.client", *target)
        changes = 0
        while client.poll() is None:
            change = (config("211"), config("1-1"), config("111", more=OTHER), config("111", 'mode = "snat"'))
            apply(lab, change[changes % 4])
            changes += 1
        tally = json.loads(client.communicate()[0])
        assert changes >= 2
        assert tally["failed"] == 0
        assert sum(tally["answers"].values()) == tally["connections"] > 1000


def test_a_changed_weight_and_a_removed_backend_take_effect_and_touch_no_connection():
    with in_force(config("111", more=OTHER)) as lab, lab.clients[0].hold("192.0.2.10:80", 30):
        plan = json.loads(run(lab, "plan", "--json", write(lab, config("211", more=OTHER))))
        assert plan["established"] == {"connections": 30, "touched": 0}
        [impact] = plan["services"]
        assert impact["moved"] == pytest.approx(2 * (1 / 3 - 1 / 4))
        assert not any(line.startswith(("delete table", "flush ruleset")) for line in plan["nft"])
        apply(lab, config("211", more=OTHER))
        assert lab.fetch("192.0.2.10:80", 400).answers == {"a": 200, "b": 100, "c": 100}
        apply(lab, config("-11", more=OTHER))
        assert lab.fetch("192.0.2.10:80", 100).answers == {"b": 50, "c": 50}


def test_counters_survive_a_changed_weight_and_a_new_service():
    with in_force(config()) as lab:
        assert not lab.fetch("192.0.2.10:80", 90).failed
        apply(lab, config("411"))
        apply(lab, config("411", more=OTHER))
        web = seen(lab, "web")
        assert web["offered"] == 90
        assert {name: b["connections"] for name, b in web["backends"].items()} == {"a": 30, "b": 30, "c": 30}


def test_a_backend_that_leaves_does_not_leave_its_connections_behind_as_refused():
    with in_force(config()) as lab:
        assert not lab.fetch("192.0.2.10:80", 90).failed
        apply(lab, config("-11"))
        apply(lab, config("-21"))
        assert not lab.fetch("192.0.2.10:80", 30).failed
        web = seen(lab, "web")
        assert (web["offered"], web["refused"]) == (120, 0)
        assert {name: b["got"] for name, b in web["backends"].items()} == {"b": 20 / 30, "c": 10 / 30}


def test_numbers_stay_when_services_come_go_and_change_places():
    with in_force(config()) as lab:
        before = {name: b["mark"] for name, b in seen(lab, "web")["backends"].items()}
        many = "".join(
            f'[service.s{n}]\nlisten = "192.0.2.20:{n}"\nbackend.z.address = "192.168.1.10:8080"\n'
            for n in range(1, 40)
        )
        for text in (many + config(), config("111", more=many), config("11-"), config(), OTHER, OTHER + config()):
            apply(lab, text)
            if "service.web" in text:
                now = {name: b["mark"] for name, b in seen(lab, "web")["backends"].items()}
                assert now == {name: before[name] for name in now}


@pytest.mark.parametrize(
    "damage",
    [
        ["delete table inet markway"],
        ["flush chain inet markway service/web/ip"],
        ["insert rule inet markway prerouting-dstnat accept"],
        ["add chain inet markway strange"],
        ["add set inet markway strange { type mark; }"],
        ["delete element inet markway backends4 { MARK }"],
        ["delete element inet markway slots { 0 }"],
        ["delete element inet markway slots { 0 }", "add element inet markway slots { 0 : 0x7f }"],
        ["delete element inet markway listeners4 { 192.0.2.10 . tcp . 80 }"],
        ["flush set inet markway program"],
        ["flush table inet markway"],
    ],
)
def test_what_somebody_else_changed_is_noticed_and_mended(damage):
    it = config(lines='persist = { timeout = "1h" }')
    with in_force(it) as lab:
        mark = f"{seen(lab, 'web')['backends']['a']['mark']:#x}"
        whole = held(lab)
        for line in damage:
            lab.nft(line.replace("MARK", mark))
        run(lab, "status", code=1)
        assert "writing the table anew" in apply(lab, it) or damage == ["delete table inet markway"]
        assert held(lab) == whole
        run(lab, "status")
        assert works(lab)


def test_mending_keeps_sticky_entries_and_held_connections():
    it = config(lines='persist = { timeout = "1h" }')
    with in_force(it) as lab, lab.clients[0].hold("192.0.2.10:80", 20) as holding:
        lab.nft("flush chain inet markway service/web/ip")
        apply(lab, it)
        assert lab.fetch("192.0.2.10:80", 20).answers == {next(iter(holding.opened.answers)): 20}
        assert holding.report().open == 20


@pytest.mark.parametrize("bad", ["", "x", "[service.web]\nlisten = 5", "\x00", '[service.web]\nlisten="192.0.2.1:80"'])
def test_a_file_with_problems_changes_nothing(bad):
    with in_force(config()) as lab:
        before = held(lab)
        for command in ("check", "plan", "apply"):
            said = run(lab, command, write(lab, bad, "bad.toml"), code=1)
            assert re.match(r"\S+bad\.toml:\d+:\d+: ", said)
        assert held(lab) == before
        assert works(lab)


def test_a_program_that_the_kernel_refuses_leaves_the_old_one_in_force():
    with in_force(config()) as lab:
        before = held(lab)
        change = config("211", "deny = '10.0.0.0/8'", OTHER)
        said = injected(lab, "sendmsg:error=EPERM:when=1", "apply", write(lab, change))
        assert said.returncode == 1
        assert said.stderr.startswith("markway: the kernel refused the program; nothing was changed\n")
        assert held(lab) == before
        run(lab, "status")
        assert works(lab)
        assert "In force" in apply(lab, change)


def test_a_kernel_that_does_not_listen_is_told_in_one_line():
    with in_force(config()) as lab:
        tables = [held(lab)]
        apply(lab, config("11-"))
        tables.append(held(lab))
        apply(lab, config())
        for number in range(1, 60):
            said = injected(lab, f"sendto:error=ENOBUFS:when={number}", "apply", write(lab, config("11-")))
            if said.returncode == 0:
                break
            assert re.fullmatch(r"markway: .+\n(.+\n)?", said.stderr)
            assert "Traceback" not in said.stderr
            assert held(lab) in tables
        assert number > 3
        assert held(lab) == tables[1]


def test_a_table_that_another_process_owns_is_left_to_it(lab):
    it = lab(config())
    owner = it.director.spawn("nft", "-i")
    assert owner.stdin
    owner.stdin.write("add table inet markway { flags owner; }\n")
    owner.stdin.flush()
    eventually(lambda: "inet markway" in it.nft("list", "tables"))
    said = apply(it, config(), code=1)
    assert said.startswith("markway: the kernel refused the program; nothing was changed")
    owner.communicate()
    eventually(lambda: "inet markway" not in it.nft("list", "tables"))
    apply(it, config())
    assert works(it)


def injected(lab: Lab, fault: str, *args: str) -> subprocess.CompletedProcess[str]:
    """A `markway` command in which strace makes a system call fail, or kills."""
    call = fault.partition(":")[0]
    strace = ["strace", "-qqq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}"]
    return lab.director.run(*strace, *MARKWAY, *args, check=False)


@contextmanager
def lock_held(lab: Lab) -> Iterator[None]:
    descriptor = os.open(STATE_DIRECTORY / lab.director.namespace / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_two_applies_at_once_one_is_told_or_waits():
    with in_force(config()) as lab:
        path = write(lab, config("211"))
        with lock_held(lab):
            said = run(lab, "apply", "--wait", "0s", path, code=1)
            assert re.fullmatch(r"markway: another markway command \(process \d+\) is changing this machine\n", said)
            waiting = lab.director.spawn(*MARKWAY, "apply", path)
            assert waiting.stderr
            assert waiting.stderr.readline().startswith("markway: waiting for another markway command (process ")
            assert lab.fetch("192.0.2.10:80", 30).answers == {"a": 10, "b": 10, "c": 10}
        assert waiting.wait() == 0
        assert lab.fetch("192.0.2.10:80", 40).answers == {"a": 20, "b": 10, "c": 10}


def test_many_applies_at_once_end_in_one_of_them():
    with in_force(config()) as lab:
        paths = [write(lab, config(weights, more=more), f"{weights}{bool(more)}.toml")
                 for weights in ("211", "121", "1-1") for more in ("", OTHER)]  # fmt: skip
        running = [lab.director.spawn(*MARKWAY, "apply", path) for path in paths]
        assert [process.wait() for process in running] == [0] * 6
        assert status(lab)["damage"] is None
        plans = [lab.markway("plan", "--exit-code", path).returncode for path in paths]
        assert sorted(plans) == [0, 2, 2, 2, 2, 2]
        assert works(lab)


def test_rollback_goes_back_and_forth():
    with in_force(config()) as lab:
        first = held(lab)
        apply(lab, config("1-1", more=OTHER))
        second = held(lab)
        for expected in (first, second, first):
            run(lab, "rollback")
            assert held(lab) == expected
            assert works(lab)
        run(lab, "status")


def test_rolling_the_first_apply_back_leaves_no_service():
    with in_force(config()) as lab:
        with lab.clients[0].hold("192.0.2.10:80", 10) as holding:
            run(lab, "rollback")
            assert status(lab)["services"] == []
            assert list(lab.fetch("192.0.2.10:80", 3).failures) == ["refused"]
            assert holding.report().open == 10
        run(lab, "rollback")
        assert works(lab)


def test_rollback_without_an_apply_says_so(lab):
    it = lab(config())
    assert "nothing was applied yet" in run(it, "rollback", code=1)
    assert run(it, "confirm", code=1) == "markway: nothing awaits confirmation\n"
    assert it.nft("list", "ruleset") == ""


def test_what_is_not_confirmed_is_undone():
    with in_force(config()) as lab:
        before = held(lab)
        said = apply(lab, config("1--", more=OTHER), "--confirm", "3s")
        assert "undone in 3s unless you run: markway confirm" in said
        assert lab.fetch("192.0.2.10:80", 10).answers == {"a": 10}
        assert status(lab)["confirm_within"] <= 3
        eventually(lambda: held(lab) == before)
        eventually(lambda: status(lab)["confirm_within"] is None)
        assert "not confirmed in time" in run(lab, "status")


def test_what_is_confirmed_stays():
    with in_force(config()) as lab:
        apply(lab, config("1--"), "--confirm", "1h")
        new = held(lab)
        assert "awaits confirmation" in apply(lab, config("-1-"), code=1)
        assert run(lab, "confirm").startswith("Confirmed: ")
        assert held(lab) == new
        assert run(lab, "confirm", code=1) == "markway: nothing awaits confirmation\n"
        assert "Nothing to change" in apply(lab, config("1--"))


def test_a_first_apply_that_is_not_confirmed_leaves_no_service(lab):
    it = lab(config())
    apply(it, config(), "--confirm", "1s")
    eventually(lambda: status(it)["services"] == [])
    assert list(it.fetch("192.0.2.10:80", 3).failures) == ["refused"]


def test_what_is_not_confirmed_is_undone_when_the_terminal_dies():
    with in_force(config()) as lab:
        before = held(lab)
        path = write(lab, config("1--"))
        master, slave = pty.openpty()
        with netns.enter(lab.director.namespace):
            shell = subprocess.Popen(
                ["sh", "-c", f"{' '.join(MARKWAY)} apply --confirm 2s {path}; cat"],
                stdin=slave, stdout=slave, stderr=slave, env=environment(lab.name), start_new_session=True,
            )  # fmt: skip
        os.close(slave)
        shown = b""
        while b"markway confirm" not in shown:
            shown += os.read(master, 4096)
        assert held(lab) != before
        os.close(master)
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        eventually(lambda: held(lab) == before)


KILLS = {
    "elements": ("write", "rename", "sendto"),  # sendto is the transaction, too
    "structure": ("ftruncate", "write", "fsync", "rename", "sendmsg"),  # libnftables sends by sendmsg
}
"""What apply does to the world, and so between what it can be killed."""


@pytest.mark.parametrize("kind", list(KILLS))
def test_killed_at_any_system_call_the_kernel_holds_the_old_program_or_the_new(kind):
    """strace sends SIGKILL at the first, second, ... call of each kind that writes, until apply gets through."""
    one = config()
    other = config("11-") if kind == "elements" else config("211", "deny = '10.0.0.0/8'", OTHER)
    with in_force(one) as lab:
        old, new = one, other
        killed, found = 0, {"old": 0, "new": 0}
        for call in KILLS[kind]:
            for number in range(1, 100):
                before = held(lab)
                done = injected(lab, f"{call}:signal=SIGKILL:when={number}", "apply", write(lab, new))
                now = held(lab)
                assert not lab.fetch("192.0.2.10:80", 6).failed, (call, number)
                said = apply(lab, new)
                after = held(lab)
                assert now in (before, after), (call, number)
                assert said.startswith("Nothing to change") == (now == after)
                found["new" if now == after else "old"] += 1
                old, new = new, old
                if done.returncode == 0:
                    assert now == after
                    break
                killed += 1
        run(lab, "status")
        assert works(lab)
        assert killed >= 8
        assert found["old"] > 2
        assert found["new"] > 2


def test_killed_while_arming_a_confirmation_nothing_stays_unwatched():
    """Killed anywhere: what came into force is undone in time, and no confirmation is left over."""
    with in_force(config()) as lab:
        before = held(lab)
        for call in ("rename", "sendmsg"):
            for number in range(1, 20):
                path = write(lab, config("1--", more=OTHER))
                done = injected(lab, f"{call}:signal=SIGKILL:when={number}", "apply", "--confirm", "300ms", path)
                eventually(lambda: held(lab) == before)
                eventually(lambda: lab.markway("confirm").returncode == 1 and status(lab)["confirm_within"] is None)
                if done.returncode == 0:
                    break
        assert apply(lab, config()).startswith("Nothing to change")


def test_status_says_what_is_in_force():
    with in_force(config(more=OTHER)) as lab:
        lab.fetch("192.0.2.10:80", 30)
        text = run(lab, "status")
        assert "web  192.0.2.10:80/tcp" in text
        assert "33.3%" in text
        web = seen(lab, "web")
        assert web["offered"] == 30
        assert {b["asked"] for b in web["backends"].values()} == {6 / 18}
        assert len({flow.mark for flow in flows(lab, 80)}) == 3


def test_the_text_of_a_plan_is_what_nft_takes(lab):
    """What `plan` prints, given to nft elsewhere, makes the table that `apply` makes."""
    it = lab(config())
    path = write(it, config(lines='persist = { timeout = "1m" }\nmax-connections = 9', more=OTHER))
    elsewhere = it.clients[1]
    planned = json.loads(elsewhere.run(*MARKWAY, "plan", "--json", path).stdout)["nft"]
    elsewhere.run("nft", "-f", "-", text="\n".join(planned))
    made = elsewhere.run("nft", "-s", "list", "table", "inet", "markway").stdout.replace(",", " ").split()
    run(it, "apply", path)
    marker = re.compile(r'elements|=|comment|[{}]|0x00000001|"[0-9a-f]{32}"')
    assert sorted(w for w in made if not marker.fullmatch(w)) == [w for w in held(it) if not marker.fullmatch(w)]
