"""A source keeps its backend: for how long, with which network, and across changes of the file.

client1 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b, c
"""

from __future__ import annotations

import pytest
from tests.kernel.support import apply, eventually, in_force, shares_fit

BACKENDS = {name: f'["192.168.1.1{number}:8080", "[fd00:1::1{number}]:8080"]' for number, name in enumerate("abc")}


def config(persist: str, weights: str = "abc", lines: str = "", schedule: str = "round-robin") -> str:
    """`weights` are letters for backends of weight 1; a capital one has 0."""
    text = '[service.web]\nlisten = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]\n'
    text += f'schedule = "{schedule}"\npersist = {{ key = "source", {persist} }}\n{lines}\n'
    for name in weights:
        weight = int(name.islower())
        text += f"backend.{name.lower()} = {{ address = {BACKENDS[name.lower()]}, weight = {weight} }}\n"
    return text


def sticky(lab, version: int = 4) -> str:
    return str(lab.nft("list", "map", "inet", "markway", f"sticky{version}"))


@pytest.mark.parametrize("schedule", ["round-robin", "random", "flow-hash"])
def test_a_source_keeps_its_backend_over_protocols_and_sources_spread(schedule):
    with in_force(config('timeout = "10m"', schedule=schedule)) as lab:
        first: dict[str, int] = dict.fromkeys("abc", 0)
        for number in range(65, 125):
            source = f"198.51.100.{number}"
            tally = lab.fetch("192.0.2.10:80", 6, source=source)
            tally.answers += lab.fetch("192.0.2.10:80", 3, source=source, udp=True).answers
            [(name, count)] = tally.answers.items()
            assert count == 9
            first[name] += 1
        assert shares_fit(first, {"a": 1, "b": 1, "c": 1})
        for number in range(1, 20):
            [(_, count)] = lab.fetch("[2001:db8::10]:80", 4, source=f"2001:db8:c1:0:1::{number:x}").answers.items()
            assert count == 4


def test_a_network_shares_a_backend():
    with in_force(config('timeout = "10m", prefix = 28, prefix6 = 120')) as lab:
        for network in ("198.51.100.64/28", "198.51.100.80/28", "198.51.100.96/28"):
            assert len(lab.fetch("192.0.2.10:80", 14, source=network).answers) == 1
        # The three networks met the round robin in turn.
        assert set(lab.fetch("192.0.2.10:80", 62, source="198.51.100.64/26").answers) == {"a", "b", "c"}
        for network in ("2001:db8:c1:0:1::100/120", "2001:db8:c1:0:1::200/120"):
            assert len(lab.fetch("[2001:db8::10]:80", 100, source=network).answers) == 1
        assert "198.51.100.64 " in sticky(lab)


def test_an_entry_survives_an_apply_and_so_does_its_connection_s_share():
    with in_force(config('timeout = "10m"')) as lab:
        sources = [f"198.51.100.{number}" for number in range(65, 95)]
        before = {source: set(lab.fetch("192.0.2.10:80", 1, source=source).answers) for source in sources}
        heavier = config('timeout = "10m"').replace("weight = 1 }", "weight = 50 }", 1)
        assert "In force" in apply(lab, heavier)
        after = {source: set(lab.fetch("192.0.2.10:80", 2, source=source).answers) for source in sources}
        assert before == after
        # Another timeout rewrites the rules, and a second service the structure.
        apply(lab, config('timeout = "5m"') + '[service.other]\nlisten = "192.0.2.11:80"\nbackend.z.address="10.9.8.7"')
        assert before == {source: set(lab.fetch("192.0.2.10:80", 2, source=source).answers) for source in sources}


def test_an_entry_is_forgotten_after_its_timeout():
    with in_force(config('timeout = "1s"')) as lab:
        [first] = lab.fetch("192.0.2.10:80", 1).answers
        assert "198.51.100.11 " in sticky(lab)
        eventually(lambda: "198.51.100.11 " not in sticky(lab))
        [second] = lab.fetch("192.0.2.10:80", 1).answers
        assert first != second  # the round robin went on


def test_each_new_connection_renews_the_entry():
    with in_force(config('timeout = "30s"')) as lab:
        lab.fetch("192.0.2.10:80", 1)
        eventually(lambda: "expires 30s" not in sticky(lab) and "expires 29s9" not in sticky(lab))
        aged = remaining(sticky(lab))
        lab.fetch("192.0.2.10:80", 1)
        assert remaining(sticky(lab)) > aged


def remaining(listing: str) -> float:
    """Seconds until the one entry of a sticky map expires, from `expires 29s912ms`."""
    text = listing.partition("expires ")[2].split()[0]
    seconds, _, rest = text.partition("s")
    return int(seconds) + int(rest.removesuffix("ms") or 0) / 1000


@pytest.mark.parametrize("without", ["bc", "Abc"], ids=["removed", "weight 0"])
def test_a_source_whose_backend_leaves_is_given_another_and_keeps_that(without):
    with in_force(config('timeout = "10m"')) as lab:
        sources = [f"198.51.100.{number}" for number in range(65, 77)]
        before = {source: set(lab.fetch("192.0.2.10:80", 1, source=source).answers) for source in sources}
        apply(lab, config('timeout = "10m"', without))
        after = {source: set(lab.fetch("192.0.2.10:80", 3, source=source).answers) for source in sources}
        for source in sources:
            assert len(after[source]) == 1
            assert after[source] == before[source] or before[source] == {"a"}
        assert set.union(*after.values()) == {"b", "c"}


def test_services_do_not_share_what_they_remember():
    two = config('timeout = "10m"') + config('timeout = "10m"').replace("service.web", "service.two").replace(
        ":80/", ":81/"
    )
    with in_force(two) as lab:
        got = set()
        for number in range(65, 85):
            source = f"198.51.100.{number}"
            [one] = lab.fetch("192.0.2.10:80", 2, source=source).answers
            lab.fetch("192.0.2.10:81", 1)  # shifts the other's turn
            [two_] = lab.fetch("192.0.2.10:81", 2, source=source).answers
            got.add((one, two_))
        assert any(one != two_ for one, two_ in got)


def test_a_full_backend_s_source_goes_elsewhere_and_stays_there():
    lines = ""
    capped = config('timeout = "10m"', lines=lines).replace("weight = 1 }", "weight = 1, max-connections = 3 }")
    with in_force(capped) as lab, lab.clients[0].hold("192.0.2.10:80", 5, "--source", "198.51.100.70") as holding:
        assert holding.opened.open == 5
        assert sorted(holding.opened.answers.values()) == [2, 3]
