"""Lists and changes by hand, without the daemon and beside it: who is on a list gets nothing.

client1 (198.51.100.11), client2 (198.51.100.12) --- director --- a
"""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.daemon import running
from tests.kernel.support import apply, eventually, run, tell_peers, write
from tests.kernel.test_blocklists_daemon import FIRST, SECOND, SERVICE, config, listed, reached, sets, shown

from markway.apply.store import Store
from markway.guard.overlays import Overlay, entries_of
from markway.lab.build import STATE_DIRECTORY, directory

if TYPE_CHECKING:
    import subprocess

    from markway.lab.lab import Lab

DIRECTOR = "198.51.100.1"


@pytest.fixture
def net(lab):
    made = lab(SERVICE)
    listed(made, f"{FIRST}\n203.0.113.0/24\n")
    return made


def hand(lab: Lab, verb: str, *entries: str, code: int = 0) -> str:
    return run(lab, "blocklist", verb, "drones", *entries, code=code)


def found(lab: Lab, address: str, code: int = 0) -> list[dict[str, Any]]:
    """Which lists have an address, as `markway blocklist test` tells."""
    told: list[dict[str, Any]] = json.loads(run(lab, "blocklist", "test", address, "--json", code=code))
    return told


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
    apply(net, config(net, f'allow = "{SECOND}"'), "--confirm", "1s")
    eventually(lambda: reached(net) == [True, False])
    before = net.nft("-j", "list", "counters")
    apply(net, config(net))
    assert net.nft("-j", "list", "counters") == before, "what is in force is not loaded again"


def test_apply_fetches_what_was_never_had(net: Lab):
    tell_peers(net, "a", 8080)
    text = f'{SERVICE}\n[blocklist.far]\nurl = "http://192.168.1.11:8080/list"\n'
    assert "fetching http://" in apply(net, text)
    told = shown(net)
    assert (told["entries"], told["in_force"]) == (1, True)
    assert "fetching" not in apply(net, text)


def test_a_list_that_cannot_be_had_fails_alone(net: Lab):
    path = directory(net.name) / "none.txt"
    text = config(net) + f'[blocklist.none]\nfile = "{path}"\n[blocklist.far]\nurl = "http://127.0.0.1:1/list"\n'
    told = apply(net, text, code=1)
    assert "blocklist none is not wholly in force: No such file" in told
    assert "blocklist far is not wholly in force: " in told
    assert reached(net) == [False, True]
    assert "not asked again" in apply(net, text, code=1)


def test_additions_and_removals_by_hand_stay(net: Lab):
    apply(net, config(net))
    assert "3 entries added.\n" in hand(net, "add", f"{SECOND}/32", "2001:db8::/48", "10.0.0.1-10.0.0.9")
    assert reached(net) == [False, False]
    hand(net, "remove", FIRST)
    assert reached(net) == [True, False]
    assert [(one["entry"], one["by_hand"], one["refused"]) for one in found(net, "10.0.0.4")] == [
        ("10.0.0.1-10.0.0.9", True, True)
    ]
    assert found(net, FIRST, code=1) == []
    listed(net, f"{FIRST}\n192.0.2.0/28\n")
    apply(net, config(net))
    assert reached(net) == [True, False]
    net.nft("delete", "table", "inet", "markway")  # as after a reboot
    apply(net, config(net))
    assert reached(net) == [True, False]
    told = shown(net)
    assert (told["added"], told["removed"]) == (["10.0.0.1-10.0.0.9", SECOND, "2001:db8::/48"], [FIRST])
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


def test_what_cannot_be_added_by_hand(net: Lab):
    apply(net, config(net, f'allow = "{SECOND}"'))
    for wrong in ("198.51.100.12/24", "nonsense", "::/0"):
        assert wrong in hand(net, "add", "192.0.2.1", wrong, code=1)
    assert "did you mean" in run(net, "blocklist", "add", "drone", SECOND, code=1)
    assert "lets these pass" in hand(net, "add", SECOND, code=1)
    assert shown(net)["added"] == []
    assert SECOND in hand(net, "add", "198.51.100.0/24")
    assert reached(net) == [False, True]
    assert found(net, SECOND, code=1)[0]["allowed"]


def test_what_a_kill_left_between_disk_and_kernel_comes_into_force(net: Lab):
    """What is written down is loaded, though samples of the list would not show that it is not there."""
    many = "".join(f"10.0.{high}.{low}\n" for high in range(4) for low in range(0, 256, 2))
    listed(net, many)
    apply(net, config(net))
    store = Store(STATE_DIRECTORY / net.director.namespace)
    store.keep_overlays({"drones": Overlay(entries_of([SECOND]), entries_of(["10.0.1.2"]))})
    apply(net, config(net))
    assert reached(net) == [True, False]
    assert found(net, "10.0.1.2", code=1) == []
    assert found(net, "10.0.1.4")[0]["refused"]


def test_over_ssh_nobody_lists_himself(net: Lab):
    def over_ssh(*args: str) -> subprocess.CompletedProcess[str]:
        connection = f"SSH_CONNECTION={SECOND} 50000 {DIRECTOR} 22"
        return net.director.run("env", connection, sys.executable, "-m", "markway", *args, check=False)

    apply(net, SERVICE)
    listed(net, "198.51.100.8/29\n")
    refused = over_ssh("apply", write(net, config(net)))
    assert "blocklist.drones: it would lock you out" in refused.stderr
    assert "198.51.100.8/29" in refused.stderr
    assert (refused.returncode, sets(net)) == (1, set())
    assert over_ssh("apply", write(net, config(net)), "--confirm", "60s").returncode == 0
    assert reached(net) == [False, False]
    run(net, "rollback")
    assert reached(net) == [True, True]
    assert over_ssh("apply", write(net, config(net, f'allow = "{SECOND}"'))).returncode == 0
    assert over_ssh("blocklist", "add", "drones", "198.51.100.0/24").returncode == 0
    apply(net, config(net))
    hand(net, "remove", "198.51.100.0/24")
    assert over_ssh("blocklist", "add", "drones", "198.51.100.0/24").returncode == 1
    assert reached(net) == [True, True]
