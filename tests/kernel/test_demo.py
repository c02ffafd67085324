"""The demo runs by itself, tells the truth, and leaves nothing behind.

client1, client2 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import eventually, unique_name

from markway.kernel import netns
from markway.lab import build, servers
from markway.lab.demo.edit import edited, with_weight, without
from markway.lab.demo.promises import Promise, deviations
from markway.lab.topology import DIRECTOR, LabError, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

FAST = ("--connections", "600", "--brief")
LAST = (
    "Classes get their rates",
    "Who tries too often waits",
    "A dead backend gets nothing",
    "A loaded backend gets less",
    "A drained backend empties",
)
PROMISES = (
    "No connection failed",
    "Shares are as asked",
    "Marks tell the backends",
    "Applied again: no change",
    "Open connections stay",
    "A removed backend finishes",
    "Nothing else has changed",
)
FOREIGN = """
table inet foreign {
    chain early {
        type nat hook prerouting priority -110; policy accept;
        ip daddr 203.0.113.10 tcp dport 80 numgen random mod 4 0 dnat ip to 192.168.1.11:80
    }
}
"""


@pytest.fixture
def name() -> Iterator[str]:
    chosen = unique_name()
    yield chosen
    with suppress(LabError):
        build.down(chosen)


@contextmanager
def demo(name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The running demo: no terminal, nothing to read."""
    argv = [sys.executable, "-m", "markway.lab.demo", "--name", name, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(name: str, *options: str) -> tuple[int, str]:
    """The demo's exit status and what it printed, within the time it may take."""
    with demo(name, *options) as process:
        said, _ = process.communicate(timeout=90)
    return process.returncode, said


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f'it never said "{text}":\n{said}')


def judged(said: str) -> dict[str, str]:
    """The sign beside each promise."""
    return {text: sign for sign, text in re.findall(r"^  ([✓✗·])  (.+?)  ", said, re.MULTILINE)}


def gone(name: str) -> bool:
    return not netns.names(namespace(name, "")) and name not in build.names()


def test_it_shows_what_arrives_and_keeps_every_promise(name):
    status, said = run(name, *FAST)
    assert status == 0, said
    assert judged(said) == dict.fromkeys(PROMISES, "✓")
    assert "7 of 7 promises held" in said
    assert gone(name)
    rows = re.findall(r"^  ([abc]) +0x[0-9a-f]+ +(\w+) +([\d.]+)% +([\d.]+)% .* ([\d,]+)$", said, re.MULTILINE)
    assert rows == [
        ("a", "3", "50.0", "50.0", "300"),
        ("b", "2", "33.3", "33.3", "200"),
        ("c", "1", "16.7", "16.7", "100"),
        *((backend, "3" if backend != "b" else "2", share, got, count) for backend, share, got, count in after(said)),
        ("a", "3", "50.0", "50.0", "300"),
        ("b", "gone", "0.0", "0.0", "0"),
        ("c", "3", "50.0", "50.0", "300"),
    ]
    assert "0 of 120 established connections touched" in said
    assert not re.search(r" $", said, re.MULTILINE)


@pytest.mark.alone
@pytest.mark.real_time  # its servers work until their load is seen
def test_its_last_act_shows_what_the_daemon_sees_to(name):
    with demo(name, "--connections", "600") as process:
        said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert judged(said) == dict.fromkeys((*PROMISES[:-1], *LAST, PROMISES[-1]), "✓")
    last = said.partition("── 5")[2]
    events = re.findall(r"^ +[\d.]+  (\w+) +web/(\w)  ", last, re.MULTILINE)
    wanted = [("killed", "b"), ("down", "b"), ("started", "b"), ("up", "b"), ("loaded", "a"), ("load", "a")]
    wanted += [("relieved", "a"), ("drain", "c"), ("closed", "c"), ("drained", "c")]
    assert list(dict.fromkeys(events)) == wanted
    assert gone(name)


def after(said: str) -> list[tuple[str, str, str, str]]:
    """The second round: 600 is not a multiple of the table's turn, so a connection more or less is right."""
    second = said.partition("2  c gets another weight")[2].partition("3  b leaves")[0]
    rows = re.findall(r"^  ([abc]) +0x[0-9a-f]+ +\w+ +([\d.]+)% +([\d.]+)% .* ([\d,]+)$", second, re.MULTILINE)
    for (_, asked, _, count), right in zip(rows, (225, 150, 225), strict=True):
        assert float(asked) == right / 6
        assert abs(int(count) - right) <= 2
    return rows


def test_a_server_that_dies_breaks_a_promise(name):
    with demo(name, *FAST) as process:
        said = read_until(process, "Nothing to change")
        servers.stop(name, [namespace(name, "b")])
        rest, _ = process.communicate(timeout=90)
    said += rest
    assert process.returncode == 1, said
    assert judged(said)["No connection failed"] == "✗"
    assert "Connection refused" in said
    assert judged(said)["A removed backend finishes"] == "·"
    assert "not put to the test" in said
    assert gone(name)


def test_a_foreign_rule_that_leads_astray_is_found(name):
    with demo(name, *FAST) as process:
        said = read_until(process, "Nothing to change")
        netns.run(namespace(name, DIRECTOR), ["nft", "-f", "-"], text=FOREIGN)
        rest, _ = process.communicate(timeout=90)
    said += rest
    assert process.returncode == 1, said
    signs = judged(said)
    assert signs["Shares are as asked"] == signs["Marks tell the backends"] == "✗"
    assert signs["No connection failed"] == "✓"
    assert re.search(r"IPv4: \w got ", said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing(name, number):
    with demo(name) as process:
        read_until(process, "apply")
        process.send_signal(number)
        said, _ = process.communicate(timeout=90)
    assert process.returncode == 128 + number
    assert "interrupted; its lab is removed" in said
    eventually(lambda: gone(name))


def test_a_killed_demo_s_lab_is_removed_and_a_kept_one_is_not(name):
    with demo(name) as process:
        read_until(process, "apply")
        status, said = run(name)
        assert (status, said) == (2, "markway demo: another demo is running; wait for its end, or use another --name\n")
        process.kill()
    assert build.record(name).ready
    status, said = run(name, *FAST, "--keep")
    assert status == 0, said
    assert "removed the lab of a demo that was killed" in said
    command = re.findall(r"a request +(.+)$", said, re.MULTILINE)[0].split()
    assert subprocess.check_output(command, text=True) in {"a\n", "c\n"}
    removal = re.findall(r"remove it +(.+)$", said, re.MULTILINE)[0]
    assert run(name) == (2, f'markway demo: the lab "{name}" is up; remove it first: {removal}\n')
    subprocess.run(removal.split(), check=True, stdout=subprocess.DEVNULL)
    assert gone(name)


def test_round_robin_is_exact_to_one_turn_of_the_table():
    weights = {"a": 3, "b": 2, "c": 1}
    assert all(d.within for d in deviations({"a": 300, "b": 200, "c": 100}, weights, 36).values())
    # 624 are 17 turns of 36, and 12 more: of these each backend may have none, or all that a turn has for it.
    assert all(d.within for d in deviations({"a": 316, "b": 206, "c": 102}, weights, 36).values())
    found = deviations({"a": 325, "b": 204, "c": 95}, weights, 36)
    assert [d.within for d in found.values()] == [False, True, False]
    assert found["a"].off == 13.0
    assert found["a"].allowed == 18.0
    assert not deviations({"a": 6}, {"a": 1, "b": 1}, 4)["a"].within


def test_a_broken_promise_stays_broken():
    promise = Promise("one")
    for kept, detail in ((True, "fine"), (False, "alas"), (True, "fine again")):
        promise.judge(kept, detail)
    assert (promise.kept, promise.detail) == (False, "alas")


def test_the_file_is_edited_as_a_person_would():
    text = "[service.s]\n\n[service.s.backend.a]\nweight = 1\n\n# Other.\n[service.s.backend.b]\nweight = 1\n"
    heavier = with_weight(text, "s", "b", 3)
    assert edited(text, heavier) == ["  [service.s.backend.b]", "- weight = 1", "+ weight = 3"]
    assert edited(text, without(text, "s", "b")) == ["- [service.s.backend.b]", "- weight = 1"]
    with pytest.raises(ValueError, match=r"no section \[service\.s\.backend\.z\]"):
        without(text, "s", "z")
