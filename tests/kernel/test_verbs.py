"""Drain, enable, disable, weight: on real connections, with the daemon and without it.

    client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c

"With" and "without" are the same tests: an operator must not have to know whether the daemon runs.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager

import pytest
from tests.kernel.daemon import EVEN, VIP, WEB, all_up, answers, given, running
from tests.kernel.support import apply, eventually, run, seen, status, write


@pytest.fixture(params=["with", "without"])
def net(lab, request):
    """A director with the service in force, with the daemon or after its end."""
    made = lab(WEB)
    with all_up(made) as daemon:
        if request.param == "without":
            daemon.end()
        yield made


@contextmanager
def draining(lab, *args):
    """`markway drain`, and the process that waits."""
    process = lab.director.spawn(sys.executable, "-m", "markway", "drain", *args)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def state(lab, name):
    return seen(lab, "web")["backends"][name]["state"]


def test_a_drained_backend_serves_its_connections_to_their_end_and_gets_no_new_one(net):
    with net.clients[0].hold(VIP, 30) as held:
        assert held.opened.answers == EVEN
        with draining(net, "web/a") as drain:
            assert drain.stdout
            assert drain.stdout.readline() == "web/a  10 connections left\n"
            assert answers(net) == {"b": 15, "c": 15}
            assert state(net, "a") == "drain"
            report = held.report()
            assert (report.open, report.moved, report.answers) == (30, 0, EVEN)
            assert drain.poll() is None
            held.close()
            assert drain.wait(20) == 0
            assert drain.stdout.read().splitlines()[-1] == "web/a  empty"
    assert state(net, "a") == "drained"
    assert seen(net, "web")["backends"]["a"]["active"] == 0
    assert run(net, "enable", "web/a").startswith("web/a takes new connections.")
    eventually(lambda: given(net) == EVEN)


def test_at_the_deadline_what_is_left_is_cut_and_nothing_else(net):
    with net.clients[0].hold(VIP, 30) as held:
        said = run(net, "drain", "web/a", "--deadline", "1s", "--cut")
        assert "web/a  10 connections left\n" in said
        assert "web/a  10 connections cut at the deadline\n" in said
        report = held.report()
        assert report.answers == {"b": 10, "c": 10}
        assert report.failures == {"reset": 10}


def test_at_the_deadline_what_is_left_stays_if_nobody_says_cut(net):
    with net.clients[0].hold(VIP, 30) as held:
        assert held.opened.answers == EVEN
        said = run(net, "drain", "web/a", "web/b", "--deadline", "1s", code=3)
        for name in "ab":
            assert f"web/{name}  10 connections left at the deadline\n" in said
        assert held.report().answers == EVEN
    assert answers(net) == {"c": 30}


def test_a_drain_that_is_interrupted_goes_on(net):
    with net.clients[0].hold(VIP, 30), draining(net, "web/a") as drain:
        assert drain.stdout
        assert drain.stderr
        drain.stdout.readline()
        drain.send_signal(signal.SIGINT)
        assert drain.wait(20) == 130
        assert "the drain goes on. To end it: markway enable web/a" in drain.stderr.read()
        assert answers(net) == {"b": 15, "c": 15}


def test_a_drain_ends_with_a_word_when_somebody_enables_the_backend(net):
    with net.clients[0].hold(VIP, 30), draining(net, "web/a") as drain:
        assert drain.stdout
        assert drain.stderr
        drain.stdout.readline()
        run(net, "enable", "web/a")
        assert drain.wait(20) == 1
        assert "web/a is not drained any more" in drain.stderr.read()


def test_disable_takes_out_and_cuts_if_told_so(net):
    with net.clients[0].hold(VIP, 30) as held:
        assert run(net, "disable", "web/b").startswith("web/b is out.")
        assert answers(net) == {"a": 15, "c": 15}
        assert held.report().answers == EVEN
        run(net, "disable", "--cut", "web/b")
        assert held.report().answers == {"a": 10, "c": 10}
    assert state(net, "b") == "disabled"


def test_a_weight_counts_from_the_next_connection_and_can_be_taken_back(net):
    assert run(net, "weight", "web/a", "4").startswith("web/a has weight 4.")
    assert answers(net) == {"a": 20, "b": 5, "c": 5}
    backend = seen(net, "web")["backends"]["a"]
    assert (backend["weight"], backend["effective"], backend["file_weight"]) == (4, 4, 1)
    assert run(net, "weight", "web/a", "--reset").startswith("web/a has the file's weight, 1.")
    assert answers(net) == EVEN
    assert json.loads(run(net, "weight", "web/a", "0", "--json").partition("markway: ")[0])[0]["weight"] == 0
    assert answers(net) == {"b": 15, "c": 15}


def test_names_that_nobody_has_change_nothing(net):
    before = status(net)["program"]
    assert 'there is no backend "web/d", did you mean "web/' in run(net, "drain", "web/a", "web/d", code=1)
    assert 'there is no backend "wep/a", did you mean "web/a"?' in run(net, "disable", "wep/a", code=1)
    assert "there is no" in run(net, "weight", "web/x", "3", code=1)
    assert "write SERVICE/BACKEND" in run(net, "enable", "web", code=2)
    assert "give a weight" in run(net, "weight", "web/a", code=2)
    assert "--deadline" in run(net, "drain", "web/a", "--cut", code=2)
    assert status(net)["program"] == before
    assert answers(net) == EVEN


def test_what_an_operator_said_outlives_the_daemon_and_changes_of_the_file(lab):
    net = lab(WEB)
    with all_up(net) as daemon:
        run(net, "disable", "web/a")
        run(net, "weight", "web/b", "2")
        daemon.end(signal.SIGKILL)
    assert answers(net) == {"b": 20, "c": 10}
    with running(net, WEB):
        eventually(lambda: status(net)["daemon"])
        assert answers(net) == {"b": 20, "c": 10}
        apply(net, WEB + "fallback = 'drop'\n")
        assert answers(net) == {"b": 20, "c": 10}
        assert state(net, "a") == "disabled"
    assert answers(net) == {"b": 20, "c": 10}


def test_what_was_said_without_the_daemon_is_the_next_ones(lab):
    net = lab(WEB)
    with all_up(net):
        pass
    run(net, "disable", "web/a")
    with running(net, WEB) as daemon:
        daemon.wait("start")
        assert answers(net) == {"b": 15, "c": 15}
        assert not daemon.seen("up")
        run(net, "enable", "web/a")
        eventually(lambda: given(net) == EVEN)


def test_a_deadline_outlives_the_daemon(lab):
    net = lab(WEB)
    with all_up(net) as daemon, net.clients[0].hold(VIP, 30) as held:
        run(net, "drain", "web/a", "--deadline", "3s", "--cut", "--no-wait")
        daemon.end(signal.SIGKILL)
        assert held.report().answers == EVEN
        with running(net, WEB) as again:
            assert again.wait("drained", "web/a")["data"] == {"left": 10}
            again.wait("cut", "web/a")
            assert held.report().answers == {"b": 10, "c": 10}


def test_the_daemon_dies_in_the_middle_of_a_drain_which_ends_all_the_same(lab):
    net = lab(WEB)
    with all_up(net) as daemon, net.clients[0].hold(VIP, 30) as held, draining(net, "web/a") as drain:
        assert drain.stdout
        drain.stdout.readline()
        daemon.end(signal.SIGKILL)
        assert answers(net) == {"b": 15, "c": 15}
        held.close()
        assert drain.wait(20) == 0


def test_a_backend_that_another_command_adds_gets_nothing_before_it_has_answered(lab):
    net = lab(WEB)
    two = WEB.replace('backend.c = { address = "192.168.1.13:8080" }', "")
    net.stop("c")
    with running(net, two) as daemon:
        daemon.wait("up", "web/a")
        daemon.wait("up", "web/b")
        eventually(lambda: given(net) == {"a": 15, "b": 15})
        apply(net, WEB)
        assert answers(net) == {"a": 15, "b": 15}
        daemon.wait("down", "web/c")
        net.start("c")
        daemon.wait("up", "web/c")
        eventually(lambda: given(net) == EVEN)


def test_apply_says_that_nobody_makes_the_checks(lab):
    net = lab(WEB)
    assert "service web has a check, and the daemon does not run: markway run" in apply(net, WEB)
    assert "No daemon" in run(net, "status")
    assert "the daemon does not run" in run(net, "events", code=1)


def test_status_and_top_tell_states_weights_and_reasons(lab):
    net = lab(WEB)
    with all_up(net) as daemon:
        net.stop("b")
        daemon.wait("down", "web/b")
        run(net, "weight", "web/a", "3")
        found = status(net)
        assert found["daemon"]
        assert found["pid"] == daemon.process.pid
        shown = {line.split()[0]: line for line in run(net, "status").splitlines() if line.startswith("  ")}
        assert "down" in shown["b"]
        assert "0/1" in shown["b"]
        assert "connection refused" in shown["b"]
        assert " ms " in shown["a"]
        frame = run(net, "top", "--once", "--every", "100ms")
        assert "2 of 3 backends up" in frame
        assert "connection refused" in frame
        assert f"daemon {daemon.process.pid}" in frame
        assert "web/a  weight 3" in frame
        listed = run(net, "events")
        assert listed.index("up        web/b") < listed.index("down      web/b") < listed.index("weight    web/a")
    frame = run(net, "top", "--once", "--every", "100ms")
    assert "no daemon" in frame
    assert "down" in frame


def test_two_daemons_do_not_fight(lab):
    net = lab(WEB)
    with all_up(net) as daemon:
        done = net.director.run(sys.executable, "-m", "markway", "run", write(net, WEB), check=False)
        assert done.returncode == 1
        assert f"process {daemon.process.pid}" in done.stderr
        assert status(net)["pid"] == daemon.process.pid
