"""The daemon: who is asked, who gets connections, and what survives its own end.

client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c
"""

from __future__ import annotations

import signal
import sys

import pytest
from tests.kernel.daemon import EVEN, VIP, WEB, all_up, answers, given, running
from tests.kernel.support import apply, eventually, marks, run, seen, status, write


def test_a_dead_backend_gets_nothing_and_a_revived_one_its_share(lab):
    net = lab(WEB)
    with all_up(net) as daemon:
        net.stop("b")
        assert "refused" in daemon.wait("down", "web/b")["text"]
        eventually(lambda: sum(given(net).values()) == 30)
        assert answers(net) == {"a": 15, "c": 15}
        net.start("b")
        daemon.wait("up", "web/b", 2)
        eventually(lambda: given(net) == EVEN)


def test_none_is_believed_up_before_it_was_asked(lab):
    net = lab(WEB)
    net.stop("a")
    with running(net, WEB) as daemon:
        daemon.wait("up", "web/b")
        daemon.wait("up", "web/c")
        daemon.wait("down", "web/a")
        eventually(lambda: given(net) == {"b": 15, "c": 15})
        assert seen(net, "web")["backends"]["a"]["connections"] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_its_end_ends_nothing_and_the_next_takes_over_without_a_change(lab, number):
    net = lab(WEB)
    with all_up(net) as daemon:
        net.stop("b")
        daemon.wait("down", "web/b")
        eventually(lambda: sum(given(net).values()) == 30)
        before = status(net)["program"]
        daemon.end(number)
    assert answers(net) == {"a": 15, "c": 15}
    assert status(net)["program"] == before
    with running(net, WEB) as daemon:
        daemon.wait("down", "web/b")
        assert status(net)["program"] == before
        assert answers(net) == {"a": 15, "c": 15}
        assert not daemon.seen("up")


def test_it_takes_over_what_another_command_applied(lab):
    net = lab(WEB)
    two = WEB.replace('backend.c = { address = "192.168.1.13:8080" }', "")
    with running(net, WEB) as daemon:
        daemon.wait("up", "web/c")
        apply(net, two)
        daemon.wait("apply")
        eventually(lambda: given(net) == {"a": 15, "b": 15})
        net.stop("a")
        daemon.wait("down", "web/a")
        eventually(lambda: given(net) == {"b": 30})
        run(net, "rollback")
        daemon.wait("apply", count=2)
        eventually(lambda: given(net) == {"b": 15, "c": 15})


def test_it_applies_the_file_again_on_hangup_and_keeps_what_is_if_it_is_wrong(lab):
    net = lab(WEB)
    with running(net, WEB) as daemon:
        for name in "abc":
            daemon.wait("up", f"web/{name}")
        write(net, WEB.replace("192.168.1.12:8080", "192.168.1.12:8080:"))
        daemon.send(signal.SIGHUP)
        assert "markway.toml:6" in daemon.wait("error")["text"]
        eventually(lambda: given(net) == EVEN)
        write(net, WEB.replace(':8080" }', ':8080", weight = 4 }', 1))
        daemon.send(signal.SIGHUP)
        daemon.wait("apply")
        eventually(lambda: given(net) == {"a": 20, "b": 5, "c": 5})


def test_it_mends_what_somebody_else_broke(lab):
    net = lab(WEB)
    with all_up(net) as daemon:
        held = marks(net, "web")
        net.nft("flush chain inet markway slot")
        daemon.wait("mended")
        assert answers(net) == EVEN
        net.nft("flush ruleset")
        daemon.wait("mended", count=2)
        assert answers(net) == EVEN
        assert marks(net, "web") == held


def test_without_a_program_and_with_a_broken_file_it_says_why_and_ends(lab):
    net = lab(WEB)
    path = write(net, WEB.replace("tcp = true", "tcp = false"))
    done = net.director.run(sys.executable, "-m", "markway", "run", path, check=False)
    assert done.returncode == 1
    assert "markway.toml:4:11: service.web.check.tcp: expected true" in done.stderr
    assert "Traceback" not in done.stderr


PASSIVE = WEB.replace('every = "400ms"', 'every = "30s"').replace("rise = 2, fall = 2", "fall = 2")


def test_a_sign_from_the_kernel_makes_it_ask_at_once(lab):
    """Checks come every half minute; the backend's death is found out by the connections that it refuses."""
    net = lab(PASSIVE)
    with all_up(net, PASSIVE) as daemon:
        net.stop("b")
        assert net.fetch(VIP, 3).failed == 1
        daemon.wait("down", "web/b")
        eventually(lambda: given(net) == {"a": 15, "c": 15})


@pytest.mark.parametrize("schedule", ["least-connections", "queue"])
def test_the_queue_worker_decides_while_it_lives_and_the_slot_table_after(lab, schedule):
    """Ten held connections make their backend the worst choice; without the worker every third comes to it."""
    it = WEB.replace("check =", f'schedule = "{schedule}"\ncheck =')
    net = lab(it)
    with running(net, it) as daemon:
        for name in "abc":
            daemon.wait("up", f"web/{name}")
        eventually(lambda: len(given(net)) == 3)
        with net.clients[0].hold(VIP, 30) as holding:
            eventually(lambda: holding.opened.open == 30)
            assert not net.fetch(VIP, 60).failed
        daemon.end(signal.SIGKILL)
    assert answers(net) == EVEN


def test_who_asked_a_machine_that_is_gone_is_answered_by_another_when_it_asks_again(lab):
    slow = WEB.replace('every = "400ms", fast = "100ms", timeout = "300ms"', 'every = "1s", timeout = "1s"')
    net = lab(slow)
    with all_up(net, slow) as daemon:
        net.host("b").run("nft", "table inet dead { chain in { type filter hook input priority 0; drop; }; }")
        assert net.fetch(VIP, 30, timeout=20).failed == 0
        assert daemon.wait("cut", "web/b")["text"] == "10 unanswered flows cut"
        assert answers(net) == {"a": 15, "c": 15}


def test_a_backend_that_an_apply_moves_gets_nothing_before_it_was_asked(lab):
    """Its name stays; nobody listens where it moves to."""
    net = lab(WEB)
    moved = WEB.replace("192.168.1.12:8080", "192.168.1.12:8099")
    with all_up(net) as daemon:
        apply(net, moved)
        assert answers(net) == {"a": 15, "c": 15}
        daemon.wait("down", "web/b")
        assert answers(net) == {"a": 15, "c": 15}


def test_a_backend_that_a_rollback_brings_back_is_asked_first(lab):
    net = lab(WEB)
    two = WEB.replace('backend.b = { address = "192.168.1.12:8080" }\n', "")
    with running(net, WEB) as daemon:
        for name in "abc":
            daemon.wait("up", f"web/{name}")
        apply(net, two)
        net.stop("b")
        eventually(lambda: given(net) == {"a": 15, "c": 15})
        run(net, "rollback")
        assert answers(net) == {"a": 15, "c": 15}
        daemon.wait("down", "web/b")
        assert answers(net) == {"a": 15, "c": 15}
