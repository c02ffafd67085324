"""The daemon keeps lists: who is on them gets nothing, whatever becomes of the daemon, the list and the table.

client1 (198.51.100.11), client2 (198.51.100.12) --- director --- a
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from tests.kernel.daemon import VIP, running
from tests.kernel.support import apply, eventually, run, write

from markway.lab.build import directory

if TYPE_CHECKING:
    from pathlib import Path

    from markway.lab.lab import Lab

SERVICE = """
[service.web]
listen = "192.0.2.10:80/tcp"
backend.a = { address = "192.168.1.11:8080" }
backend.b = { address = "192.168.1.12:8080" }
"""
FIRST, SECOND = "198.51.100.11", "198.51.100.12"


def listed(lab: Lab, text: str) -> Path:
    """A list where the lab's end removes it, replaced whole as those do who care."""
    path = directory(lab.name) / "drones.txt"
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)
    return path


def config(lab: Lab, more: str = "") -> str:
    path = directory(lab.name) / "drones.txt"
    return f'{SERVICE}\n[blocklist.drones]\nfile = "{path}"\n{more}\n'


def reached(lab: Lab) -> list[bool]:
    """Whether the service answers either client."""
    return [not lab.fetch(VIP, 1, client=number, timeout=0.3).failed for number in (0, 1)]


def shown(lab: Lab) -> dict[str, object]:
    """What `markway blocklist status` tells of the list."""
    [found] = json.loads(run(lab, "blocklist", "status", "--json"))["blocklists"]
    return dict(found)


@pytest.fixture
def net(lab):
    made = lab(SERVICE)
    listed(made, f"{FIRST}\n203.0.113.0/24\n")
    return made


def test_who_is_listed_gets_nothing_and_a_changed_file_is_followed(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        assert reached(net) == [False, True]
        found = shown(net)
        assert (found["entries"], found["faulty"], found["in_force"]) == (2, 0, True)
        assert found["packets"]
        listed(net, f"{SECOND}\n203.0.113.0/24\nwhat is this\n")
        daemon.wait("list", count=2)
        assert reached(net) == [True, False]
        assert shown(net)["faulty"] == 1
        listed(net, "<html>")
        assert "a page of HTML" in daemon.wait("warning")["text"]
        assert reached(net) == [True, False]
        assert "a page of HTML" in str(shown(net)["failure"])


def test_lists_outlive_the_daemon_and_come_back_with_it(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        daemon.end(signal.SIGKILL)
    assert reached(net) == [False, True]
    (directory(net.name) / "drones.txt").unlink()
    net.nft("delete", "table", "inet", "markway")  # as after a reboot
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        assert reached(net) == [False, True]
        assert "No such file" in daemon.wait("warning")["text"]


def test_what_others_do_to_the_table_is_mended(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        net.nft("delete", "table", "inet", "markway")
        daemon.wait("mended")
        eventually(lambda: reached(net) == [False, True])
        assert not daemon.seen("apply")
        before = len(daemon.seen("mended"))
        net.nft("flush", "set", "inet", "markway", next(iter(sets(net))))
        daemon.wait("mended", count=before + 1, seconds=90)
        eventually(lambda: reached(net) == [False, True])


def test_a_change_of_the_file_of_markway_keeps_the_lists(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        apply(net, config(net, 'allow = "198.51.100.0/28"'))
        eventually(lambda: reached(net) == [True, True])
        apply(net, config(net, '[allowlist]\nnetworks = "198.51.100.12"\n'))
        eventually(lambda: reached(net) == [False, True])
        apply(net, SERVICE)
        eventually(lambda: reached(net) == [True, True])
        eventually(lambda: not sets(net))
        apply(net, config(net))
        eventually(lambda: reached(net) == [False, True])


def test_what_a_list_had_stays_until_its_new_source_is_read(net: Lab):
    moved = config(net).replace("drones.txt", "moved.txt")
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        run(net, "blocklist", "add", "drones", "203.0.113.9")
        apply(net, moved)
        assert "No such file" in daemon.wait("warning")["text"]
        assert reached(net) == [False, True]
        (directory(net.name) / "moved.txt").write_text(f"{SECOND}\n")
        eventually(lambda: reached(net) == [True, False])


def test_a_list_that_grows_a_thousandfold_is_followed_without_a_gap(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        old = sets(net)
        many = "".join(f"10.{high}.{low}.1\n" for high in range(100) for low in range(250))
        listed(net, f"{FIRST}\n{many}")
        while not daemon.seen("list")[1:]:
            assert reached(net) == [False, True]
        assert reached(net) == [False, True]
        assert old.isdisjoint(sets(net))


def sets(lab: Lab) -> set[str]:
    """The lists' sets in the kernel."""
    found = json.loads(lab.nft("--json", "--terse", "list", "sets", "inet"))["nftables"]
    return {one["set"]["name"] for one in found if "set" in one and one["set"]["name"].startswith("blocklist/")}


def test_status_without_a_daemon_tells_what_is_kept(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
    found = shown(net)
    assert (found["name"], found["entries"], found["in_force"]) == ("drones", 2, True)
    assert "drones" in run(net, "blocklist", "status")
    write(net, SERVICE)
