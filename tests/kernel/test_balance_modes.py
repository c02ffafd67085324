"""How a packet is brought to its backend, what the backend sees, and what the marks say on the way.

client1 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kernel.support import apply, flows, in_force, marks, seen, shares_fit, tell_peers

CASES = Path(__file__).parent.parent / "cases"
ADDRESSES = {4: "192.0.2.10", 6: "2001:db8::10"}
CLIENT = {4: "198.51.100.11", 6: "2001:db8:c1::11"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])
PROTOCOLS = pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])


def target(version: int, port: int = 80) -> str:
    return f"[{ADDRESSES[6]}]:{port}" if version == 6 else f"{ADDRESSES[4]}:{port}"


def config(lines: str = "", names: str = "ab") -> str:
    text = f'[service.web]\nlisten = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]\n{lines}\n'
    for name in names:
        number = "ab".index(name)
        text += f'backend.{name}.address = ["192.168.1.1{number}:8080", "[fd00:1::1{number}]:8080"]\n'
    return text


@VERSIONS
@PROTOCOLS
@pytest.mark.parametrize(
    ("lines", "peer"),
    [
        ('mode = "dnat"', CLIENT),
        ('mode = "snat"', ADDRESSES),
        ('mode = "snat"\nsource = ["192.0.2.9", "2001:db8::9"]', {4: "192.0.2.9", 6: "2001:db8::9"}),
        ('mode = "snat"\nsource = "192.0.2.9"', {4: "192.0.2.9", 6: ADDRESSES[6]}),
    ],
    ids=["dnat", "snat", "snat with sources", "snat with one source"],
)
def test_whom_a_backend_sees(version, udp, lines, peer):
    with in_force(config(lines)) as lab:
        for name in "ab":
            tell_peers(lab, name, 8080)
        assert lab.fetch(target(version), 20, udp=udp).answers == {peer[version]: 20}


def test_masked_backends_may_answer_from_anywhere():
    # Without a route back through the director, only masked connections come back.
    with in_force(config('mode = "snat"\nsource = "192.168.1.5"', names="a")) as lab:
        lab.host("a").run("ip", "route", "del", "default")
        assert lab.fetch("192.0.2.10:80", 10).answers == {"a": 10}
        apply(lab, config(names="a"))
        assert lab.fetch("192.0.2.10:80", 1, timeout=0.3).failed == 1


@VERSIONS
@PROTOCOLS
@pytest.mark.parametrize("mode", ["dnat", "snat"])
def test_a_backend_reaches_the_service_and_may_meet_itself(version, udp, mode):
    with in_force(config(f'mode = "{mode}"')) as lab:
        assert lab.host("a").fetch(target(version), 40, udp=udp).answers == {"a": 20, "b": 20}


@VERSIONS
@PROTOCOLS
@pytest.mark.parametrize("mode", ["dnat", "snat"])
def test_the_director_reaches_its_own_service(version, udp, mode):
    with in_force(config(f'mode = "{mode}"')) as lab:
        assert lab.director.fetch(target(version), 40, udp=udp).answers == {"a": 20, "b": 20}
        service = seen(lab, "web")
        assert {name: b["connections"] for name, b in service["backends"].items()} == {"a": 20, "b": 20}
        assert all(b["packets"] >= 40 for b in service["backends"].values())


def test_dnat_leaves_other_traffic_of_the_backends_alone():
    with in_force(config()) as lab:
        tell_peers(lab, "b", 9000)
        assert lab.host("a").fetch("192.168.1.11:9000", 3).answers == {"192.168.1.10": 3}
        assert lab.fetch("192.168.1.11:9000", 3).answers == {"198.51.100.11": 3}
        assert all(flow.mark == 0 for flow in flows(lab))


def spy_on_marks(lab) -> None:
    """Count the packets at the director's forward hook by mark, in each direction of their connection."""
    lab.nft("add table inet spy")
    for direction in ("original", "reply"):
        lab.nft(f"add set inet spy {direction} {{ type mark; counter; flags dynamic; }}")
    lab.nft("add chain inet spy f { type filter hook forward priority 0; }")
    for direction in ("original", "reply"):
        lab.nft(f"add rule inet spy f meta l4proto tcp ct direction {direction} add @{direction} {{ meta mark }}")


def spied(lab, direction: str) -> dict[int, int]:
    """Packets by mark."""
    listing = lab.nft("list", "set", "inet", "spy", direction)
    elements = listing.partition("elements = {")[2].partition("}")[0].split(",")
    return {int(words[0], 16): int(words[3]) for words in (element.split() for element in elements) if words}


@pytest.mark.parametrize(
    ("case", "peer"), [("01-two-servers-dnat", CLIENT[4]), ("02-two-servers-snat", "192.168.101.250")]
)
def test_the_two_servers(case, peer):
    """The case that inspired this: one HTTPS address over two servers, by marks.

    client1 (198.51.100.11) -- director (192.168.101.250) -- web1 (192.168.1.10), web2 (192.168.1.11)

    The choice is made for new packets by weight and saved in the connection's mark; the mark is
    back on each packet of either direction; destination and source are translated by it.
    """
    text = (CASES / case / "markway.toml").read_text()
    with in_force(text) as lab:
        known = marks(lab, "https")
        weights = {name: b["weight"] for name, b in seen(lab, "https")["backends"].items()}
        spy_on_marks(lab)
        tally = lab.fetch("192.168.101.250:443", 900)
        assert not tally.failed
        assert shares_fit(tally.answers, weights)
        # Every packet of either direction carried its connection's mark; the first ones too.
        backends = seen(lab, "https")["backends"]
        original, reply = spied(lab, "original"), spied(lab, "reply")
        assert set(original) == set(reply) == set(known.values())
        for name, mark in known.items():
            assert original[mark] + reply[mark] == backends[name]["packets"]
            assert original[mark] >= 4 * tally.answers[name]
            assert reply[mark] >= 3 * tally.answers[name]
        # Each connection is translated, and answered, by its mark.
        address = {"web1": "192.168.1.10", "web2": "192.168.1.11"}
        found = flows(lab, 443)
        assert len(found) == 900
        for flow in found:
            [name] = (name for name, mark in known.items() if mark == flow.mark)
            assert flow.service == "192.168.101.250:443"
            assert flow.backend == f"{address[name]}:443"
            assert flow.seen_as.rpartition(":")[0] == peer
        for name, host in (("web1", "web1"), ("web2", "web2")):
            assert sum(flow.mark == known[name] for flow in found) == tally.answers[host]
        # The choice is made once: it stays when the other server gets all the weight.
        with lab.clients[0].hold("192.168.101.250:443", 30) as holding:
            before = holding.opened.answers
            apply(lab, text.replace("weight = 2", "weight = 0"))
            after = holding.report()
            assert (after.open, after.moved, after.answers) == (30, 0, before)
            assert lab.fetch("192.168.101.250:443", 10).answers == {"web2": 10}
