"""Lists and changes by hand, without the daemon and beside it: who is on a list gets nothing.

client1 (198.51.100.11), client2 (198.51.100.12) --- director --- a
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.daemon import running
from tests.kernel.support import apply, eventually, run, write
from tests.kernel.test_blocklists_daemon import FIRST, SECOND, SERVICE, config, listed, reached, shown

from markway.apply.store import Store
from markway.guard.overlays import Overlay, entries_of
from markway.lab.build import directory

if TYPE_CHECKING:
    from markway.lab.lab import Lab


@pytest.fixture
def net(lab):
    made = lab(SERVICE)
    listed(made, f"{FIRST}\n203.0.113.0/24\n")
    return made


def hand(lab: Lab, verb: str, *entries: str, code: int = 0) -> str:
    return run(lab, "blocklist", verb, "drones", *entries, code=code)


def tested(lab: Lab, address: str, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(lab, "blocklist", "test", address, "--json", code=code))
    return found


def test_apply_brings_lists_into_force_and_follows_their_files(net: Lab):
    assert "in force" in apply(net, config(net))
    assert reached(net) == [False, True]
    listed(net, f"{SECOND}\n203.0.113.0/24\n")
    assert "Nothing to change" in apply(net, config(net))
    assert reached(net) == [True, False]
    apply(net, config(net, f'allow = "{SECOND}"'))
    assert reached(net) == [True, True]
    run(net, "rollback")
    assert reached(net) == [True, False]
    before = net.nft("-j", "list", "counters")
    apply(net, config(net))
    assert net.nft("-j", "list", "counters") == before, "what is in force is not loaded again"


def test_a_list_that_cannot_be_had_fails_alone(net: Lab):
    path = directory(net.name) / "none.txt"
    text = config(net) + f'[blocklist.none]\nfile = "{path}"\n[blocklist.far]\nurl = "http://127.0.0.1:1/list"\n'
    told = apply(net, text, code=1)
    assert "blocklist none is not in force: No such file" in told
    assert "blocklist far is not in force: " in told
    assert reached(net) == [False, True]
    assert "fetching" not in apply(net, text, code=1), "it was asked for just now"


def test_additions_and_removals_by_hand_stay(net: Lab):
    apply(net, config(net))
    assert "in force" in hand(net, "add", f"{SECOND}/32", "2001:db8::/48", "10.0.0.1-10.0.0.9")
    assert reached(net) == [False, False]
    hand(net, "remove", FIRST)
    assert reached(net) == [True, False]
    assert [(one["entry"], one["by_hand"], one["refused"]) for one in tested(net, "10.0.0.4")] == [
        ("10.0.0.1-10.0.0.9", True, True)
    ]
    assert tested(net, FIRST, code=1) == []
    listed(net, f"{FIRST}\n192.0.2.0/28\n")
    apply(net, config(net))
    assert reached(net) == [True, False]
    net.nft("delete", "table", "inet", "markway")  # as after a reboot
    apply(net, config(net))
    assert reached(net) == [True, False]
    found = shown(net)
    assert (found["added"], found["removed"]) == (["10.0.0.1-10.0.0.9", SECOND, "2001:db8::/48"], [FIRST])
    with running(net, config(net)):
        assert reached(net) == [True, False]
    hand(net, "add", FIRST)
    hand(net, "remove", SECOND)
    assert reached(net) == [False, True]


def test_the_daemon_takes_and_keeps_what_is_added_by_hand(net: Lab):
    with running(net, config(net)) as daemon:
        daemon.wait("list")
        hand(net, "add", SECOND)
        assert reached(net) == [False, False]
        net.nft("add", "chain", "inet", "other", "touched") if False else None
        listed(net, f"{FIRST}\n192.0.2.0/28\n")
        daemon.wait("list", count=3)
        assert reached(net) == [False, False]
        hand(net, "remove", FIRST, SECOND)
        assert reached(net) == [True, True]
        assert "does not have" in hand(net, "remove", SECOND, code=1)
        assert 'did you mean "drones"' in run(net, "blocklist", "add", "drone", SECOND, code=1)
        assert daemon.seen("mended") == []
        hand(net, "add", SECOND)
        daemon.end(signal.SIGKILL)
    assert reached(net) == [True, False]
    apply(net, config(net))
    assert reached(net) == [True, False]


def test_who_is_allowed_is_not_refused_by_hand_either(net: Lab):
    apply(net, config(net, f'allow = "{SECOND}"'))
    assert "allowed" in hand(net, "add", SECOND, code=1)
    assert SECOND in hand(net, "add", "198.51.100.0/24")
    assert reached(net) == [False, True]
    assert tested(net, SECOND, code=1)[0]["allowed"]


def test_a_bad_entry_changes_nothing(net: Lab):
    apply(net, config(net))
    for wrong in ("198.51.100.12/24", "nonsense", "::/0"):
        assert wrong in hand(net, "add", SECOND, wrong, code=1)
    assert "did you mean" in run(net, "blocklist", "add", "drone", SECOND, code=1)
    assert (reached(net), shown(net)["added"]) == ([False, True], [])


def test_what_a_kill_left_between_disk_and_kernel_comes_into_force(net: Lab):
    """What is written down is loaded, though samples of the list would not show that it is not there."""
    many = "".join(f"10.0.{high}.{low}\n" for high in range(4) for low in range(0, 256, 2))
    listed(net, many)
    apply(net, config(net))
    Store(directory(net.name) / "state").keep_overlays({"drones": Overlay(entries_of([SECOND]), entries_of(["10.0.1.2"]))})
    apply(net, config(net))
    assert reached(net) == [True, False]
    assert tested(net, "10.0.1.2", code=1) == []
    assert tested(net, "10.0.1.4")[0]["refused"]


def test_over_ssh_a_list_with_ones_own_address_is_refused(net: Lab):
    device = f"{SECOND} 50000 198.51.100.1 22"
    path = write(net, config(net))
    listed(net, "198.51.100.8/29\n")
    done = net.markway("apply", path, env={"SSH_CONNECTION": device})
    assert done.returncode == 1
    eventually(lambda: True)
