"""Who is let in and how many: caps, rates, networks, and what the refused and the late get.

client1, client2 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c, sorry
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from tests.kernel.support import apply, eventually, flows, in_force, seen, status

ADDRESSES = {4: "192.0.2.10:80", 6: "[2001:db8::10]:80"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def config(lines: str = "", backend: str = "", names: str = "abc", weight: int = 1) -> str:
    text = f'[service.web]\nlisten = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]\n{lines}\n'
    for name in names:
        number = "abc".index(name)
        address = f'["192.168.1.1{number}:8080", "[fd00:1::1{number}]:8080"]'
        text += f"backend.{name} = {{ address = {address}, weight = {weight}{backend} }}\n"
    return text


@VERSIONS
def test_a_backend_s_cap_is_exact_and_the_rest_spills(version):
    it = config().replace("weight = 1 }", "weight = 8, max-connections = 10 }", 1)
    with in_force(it) as lab, lab.clients[0].hold(ADDRESSES[version], 60) as holding:
        assert holding.opened.answers["a"] == 10
        assert holding.opened.open == 60


@VERSIONS
@pytest.mark.parametrize("schedule", ["round-robin", "random", "source-hash", "flow-hash"])
def test_none_fails_while_there_is_room_and_all_do_when_there_is_none(version, schedule):
    it = config(f'schedule = "{schedule}"', ", max-connections = 20")
    with in_force(it) as lab, ExitStack() as holders:
        first = holders.enter_context(lab.clients[0].hold(ADDRESSES[version], 60))
        assert first.opened.answers == {"a": 20, "b": 20, "c": 20}
        assert not first.opened.failures
        refused = lab.fetch(ADDRESSES[version], 30)
        assert {kind: f.count for kind, f in refused.failures.items()} == {"refused": 30}
        service = seen(lab, "web")
        assert (service["offered"], service["refused"]) == (90, 30)
        assert {name: b["active"] for name, b in service["backends"].items()} == {"a": 20, "b": 20, "c": 20}


def test_room_that_a_closed_connection_leaves_is_used():
    with in_force(config(backend=", max-connections = 4")) as lab:
        with lab.clients[0].hold(ADDRESSES[4], 12) as holding:
            assert holding.opened.open == 12
            assert lab.fetch(ADDRESSES[4], 3).failed == 3
        eventually(lambda: not lab.fetch(ADDRESSES[4], 1).failed)
        with lab.clients[0].hold(ADDRESSES[4], 11) as holding:
            assert holding.opened.open == 11


@pytest.mark.real_time  # the kernel forgets the closed connections of a limit once a jiffy at most (nf_conncount.c)
def test_thousands_of_short_connections_leave_no_trace_in_a_cap():
    with in_force(config(backend=", max-connections = 50")) as lab:
        tally = lab.fetch(ADDRESSES[4], 6000, concurrency=40)
        assert not tally.failed
        assert all(abs(count - 2000) < 400 for count in tally.answers.values())


def test_a_cap_is_kept_through_a_quiet_time():
    """The kernel tidies its sets once a second; a limit without a connection must outlive that."""
    with in_force(config(backend=", max-connections = 4")) as lab:
        lab.nft("add table inet clock")
        lab.nft("add set inet clock ticking { type mark; timeout 3s; }")
        lab.nft("add element inet clock ticking { 1 }")
        eventually(lambda: "elements" not in lab.nft("list", "set", "inet", "clock", "ticking"), 10)
        assert status(lab)["damage"] is None
        with lab.clients[0].hold(ADDRESSES[4], 12) as holding:
            assert holding.opened.answers == {"a": 4, "b": 4, "c": 4}
            assert lab.fetch(ADDRESSES[4], 5).failed == 5


def test_a_cap_holds_over_both_families_and_protocols_together():
    with in_force(config(backend=", max-connections = 10", names="a")) as lab, ExitStack() as holders:
        holders.enter_context(lab.clients[0].hold(ADDRESSES[4], 4))
        holders.enter_context(lab.clients[0].hold(ADDRESSES[6], 3))
        holders.enter_context(lab.clients[0].hold(ADDRESSES[4], 3, "--udp"))
        assert {kind: f.count for kind, f in lab.fetch(ADDRESSES[4], 5).failures.items()} == {"refused": 5}
        assert lab.fetch(ADDRESSES[6], 5, udp=True).failed == 5


@VERSIONS
def test_a_service_s_cap_is_exact(version):
    with in_force(config("max-connections = 25")) as lab, lab.clients[0].hold(ADDRESSES[version], 25) as holding:
        assert holding.opened.open == 25
        assert {kind: f.count for kind, f in lab.fetch(ADDRESSES[version], 10).failures.items()} == {"refused": 10}


def test_a_weight_changed_while_connections_are_held_keeps_what_a_cap_has_counted():
    capped = config(backend=", max-connections = 10").replace("weight = 1", "weight = 3", 1)
    with in_force(capped) as lab, lab.clients[0].hold(ADDRESSES[4], 30) as holding:
        assert holding.opened.answers == {"a": 10, "b": 10, "c": 10}
        apply(lab, config(backend=", max-connections = 10"))
        assert lab.fetch(ADDRESSES[4], 9).failed == 9
        apply(lab, config(backend=", max-connections = 10", names="bc"))
        assert lab.fetch(ADDRESSES[4], 9).failed == 9
        assert holding.report().open == 30


@VERSIONS
def test_a_source_s_rate_lets_the_burst_in_and_no_more(version):
    network = {4: "198.51.100.", 6: "2001:db8:c1:0:1::"}[version]
    other = {4: "198.51.100.80", 6: "2001:db8:c1::12"}[version]  # IPv6 sources of one /64 count as one
    with in_force(config('source-rate = "1/hour burst 20"')) as lab:
        tally = lab.fetch(ADDRESSES[version], 50, source=f"{network}70")
        assert tally.answers.total() == 20
        assert tally.failures["refused"].count == 30
        if version == 4:
            assert lab.fetch(ADDRESSES[4], 10, source=other).answers.total() == 10
        else:
            assert lab.fetch(ADDRESSES[6], 10, source=f"{network}71").failed == 10
        service = seen(lab, "web")
        assert service["offered"] - service["refused"] == 20 + 10 * (version == 4)


def test_a_source_s_rate_refills():
    with in_force(config('source-rate = "20/second burst 1"')) as lab:
        assert lab.fetch(ADDRESSES[4], 10).failed
        eventually(lambda: not lab.fetch(ADDRESSES[4], 1).failed)


def test_what_a_source_has_used_survives_an_apply():
    it = config('source-rate = "1/hour burst 5"')
    with in_force(it) as lab:
        assert lab.fetch(ADDRESSES[4], 5).answers.total() == 5
        apply(
            lab,
            it.replace("weight = 1", "weight = 7", 1)
            + '[service.x]\nlisten="192.0.2.11:80"\nbackend.z.address="10.9.8.7"',
        )
        assert lab.fetch(ADDRESSES[4], 5).failed == 5


@pytest.mark.parametrize(
    ("lines", "inside", "outside"),
    [
        ('deny = ["198.51.100.64/28", "2001:db8:c1:0:1::/112"]', ("80", "1:1"), ("70", "9")),
        ('allow = ["198.51.100.64/28", "2001:db8:c1:0:1::/112"]', ("70", "9"), ("80", "1:1")),
        (
            'allow = ["198.51.100.64/26", "2001:db8:c1:0:1::/80"]\ndeny = ["198.51.100.70", "2001:db8:c1:0:1::9"]',
            ("80", "1:1"),
            ("70", "9"),
        ),
    ],
)
@pytest.mark.parametrize("udp", [False, True])
def test_networks_are_denied_and_allowed(lines, inside, outside, udp):
    with in_force(config(lines)) as lab:
        for version, prefix in ((4, "198.51.100."), (6, "2001:db8:c1:0:1::")):
            good, bad = prefix + inside[version == 6], prefix + outside[version == 6]
            assert lab.fetch(ADDRESSES[version], 6, source=good, udp=udp).answers.total() == 6
            refused = lab.fetch(ADDRESSES[version], 6, source=bad, udp=udp)
            assert {kind: f.count for kind, f in refused.failures.items()} == {"refused": 6}


def test_allowing_only_one_family_refuses_the_other():
    with in_force(config('allow = "198.51.100.0/24"')) as lab:
        assert not lab.fetch(ADDRESSES[4], 5).failed
        assert lab.fetch(ADDRESSES[6], 5).failed == 5


@VERSIONS
@pytest.mark.parametrize("udp", [False, True])
def test_the_refused_can_be_left_without_an_answer(version, udp):
    with in_force(config('deny = ["198.51.100.0/24", "2001:db8:c1::/64"]\nrefuse = "drop"')) as lab:
        assert list(lab.fetch(ADDRESSES[version], 3, udp=udp, timeout=0.3).failures) == ["timeout"]


@VERSIONS
@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize(("fallback", "kind"), [("reset", "refused"), ("drop", "timeout")])
def test_what_comes_when_no_backend_is_left(version, udp, fallback, kind):
    with in_force(config(f'fallback = "{fallback}"', weight=0)) as lab:
        tally = lab.fetch(ADDRESSES[version], 3, udp=udp, timeout=0.3)
        assert list(tally.failures) == [kind]


SORRY = 'fallback = { address = ["192.168.1.99:8099", "[fd00:1::99]:8099"] }'


@VERSIONS
@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize(
    "extra", ["", 'persist = { timeout = "10m" }\n', 'mode = "snat"\n', 'schedule = "source-hash"\n']
)
def test_a_sorry_server_answers_when_no_backend_is_left_and_leaves_when_one_is(version, udp, extra):
    with in_force(config(extra + SORRY)) as lab:
        assert set(lab.fetch(ADDRESSES[version], 6, udp=udp, source=None).answers) <= set("abc")
        apply(lab, config(extra + SORRY, weight=0))
        assert lab.fetch(ADDRESSES[version], 6, udp=udp).answers == {"web-sorry": 6}
        apply(lab, config(extra + SORRY, names="b"))
        assert lab.fetch(ADDRESSES[version], 6, udp=udp).answers == {"b": 6}


def priorities(*weights: int) -> str:
    text = '[service.web]\nlisten = ["192.0.2.10:80", "[2001:db8::10]:80"]\n'
    for number, (name, weight, priority) in enumerate(zip("abcd", weights, (1, 1, 2, 3), strict=True)):
        address = f'["192.168.1.1{number}:8080", "[fd00:1::1{number}]:8080"]'
        text += f"backend.{name} = {{ address = {address}, weight = {weight}, priority = {priority} }}\n"
    return text


@VERSIONS
def test_the_next_priority_is_used_when_the_better_ones_have_no_weight_or_left(version):
    with in_force(priorities(1, 2, 1, 1)) as lab:
        assert lab.fetch(ADDRESSES[version], 18).answers == {"a": 6, "b": 12}
        apply(lab, priorities(0, 2, 1, 1))
        assert lab.fetch(ADDRESSES[version], 18).answers == {"b": 18}
        apply(lab, priorities(0, 0, 1, 1))
        assert lab.fetch(ADDRESSES[version], 18).answers == {"c": 18}
        gone = "\n".join(line for line in priorities(0, 0, 1, 1).split("\n") if not line.startswith("backend.c"))
        apply(lab, gone)
        assert lab.fetch(ADDRESSES[version], 18).answers == {"d": 18}
        apply(lab, priorities(1, 2, 1, 1))
        assert lab.fetch(ADDRESSES[version], 18).answers == {"a": 6, "b": 12}


def test_a_backend_with_one_family_only_serves_that_family():
    it = config(names="a") + 'backend.b = { address = "192.168.1.11:8080" }\n'
    with in_force(it) as lab:
        assert lab.fetch(ADDRESSES[4], 10).answers == {"a": 5, "b": 5}
        assert lab.fetch(ADDRESSES[6], 10).answers == {"a": 10}


def test_a_refused_connection_is_not_remembered():
    with in_force(config('deny = ["198.51.100.0/24"]')) as lab:
        assert lab.fetch(ADDRESSES[4], 5).failed == 5
        assert not flows(lab, 80)
