"""What belongs to others survives every command byte for byte: tables, rules, and bits of both marks.

client1 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b
                                                   |
                        somebody's nftables table, iptables-legacy and iptables-nft rules
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import apply, eventually, flows, in_force, marks, run, shares_fit, status, write

if TYPE_CHECKING:
    from markway.lab.lab import Lab

OURS = 0xFF
PACKET, CONNECTION = 0xA500_0000, 0x005A_0000


def config(weight: int = 1, lines: str = "") -> str:
    return f"""
[service.web]
listen = ["192.0.2.10:80/tcp+udp", "[2001:db8::10]:80/tcp+udp"]
{lines}
[service.web.backend.a]
address = ["192.168.1.10:8080", "[fd00:1::10]:8080"]
weight = {weight}
[service.web.backend.b]
address = ["192.168.1.11:8080", "[fd00:1::11]:8080"]
"""


FOREIGN = """
table inet filter {
    set friends { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.128/25 } }
    map ports { type inet_service : verdict; elements = { 22 : accept, 25 : drop } }
    counter seen { packets 5 bytes 500 }
    chain forward { type filter hook forward priority filter; policy accept; ip saddr @friends accept; }
    chain input { type filter hook input priority filter; policy accept; tcp dport vmap @ports; }
}
table ip nat {
    chain postrouting { type nat hook postrouting priority 90; policy accept; ip saddr 10.0.0.0/8 masquerade; }
}
table ip markway { chain mine { counter packets 7 bytes 70; }; }
table inet markway2 { chain service { ct mark set 0x1; }; }
"""

IPTABLES = [
    ["-t", "mangle", "-A", "FORWARD", "-p", "tcp", "--dport", "25", "-j", "MARK", "--set-xmark", "0x100000/0x100000"],
    ["-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE"],
    ["-A", "INPUT", "-p", "tcp", "--dport", "23", "-j", "DROP"],
]


def everything_foreign(lab: Lab) -> list[str]:
    """All that is not our table, as its owners' own tools list it; counters of base chains' policies aside."""
    tables = lab.nft("list", "tables").splitlines()
    found = [lab.nft("list", *table.split()) for table in tables if table != "table inet markway"]
    for tool in ("iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save"):
        text = lab.director.run(tool).stdout
        found.append(re.sub(r"^#.*$|\[\d+:\d+\]", "", text, flags=re.MULTILINE))
    found.append(lab.director.run("ip", "rule").stdout + lab.director.run("ip", "route", "show", "table", "all").stdout)
    return found


def test_foreign_tables_and_rules_survive_every_command():
    with in_force(config()) as lab:
        lab.nft("-f", "-", text=FOREIGN)
        for tool in ("iptables-legacy", "iptables-nft", "ip6tables-legacy"):
            for rule in IPTABLES:
                if tool != "ip6tables-legacy" or "10.0.0.0/8" not in rule:
                    lab.director.run(tool, *rule)
        before = everything_foreign(lab)
        assert len(before) >= 8
        changed = write(lab, config(5), "changed.toml")
        structure = write(lab, config(lines="max-connections = 99\npersist = { timeout = '1m' }"), "structure.toml")
        for command in (
            ["check", changed],
            ["plan", changed],
            ["apply", changed],
            ["apply", structure],
            ["status"],
            ["apply", "--confirm", "1h", changed],
            ["confirm"],
            ["rollback"],
            ["apply", "--confirm", "300ms", changed],
        ):
            run(lab, *command)
            assert everything_foreign(lab) == before, command
        eventually(lambda: status(lab)["confirm_within"] is None)
        assert everything_foreign(lab) == before
        lab.nft("flush chain inet markway service/web/ip")
        apply(lab, config(3))  # writes the whole table anew
        assert everything_foreign(lab) == before
        assert not lab.fetch("192.0.2.10:80", 20).failed


FOREIGN_MARKS = {
    "packet": f"meta mark set {PACKET:#x}",
    "connection": f"ct mark set {CONNECTION:#x}",
    "both": f"meta mark set {PACKET:#x} ct mark set {CONNECTION:#x}",
}


@pytest.mark.parametrize("whose", list(FOREIGN_MARKS))
@pytest.mark.parametrize("lines", ["", "persist = { timeout = '1m' }", "max-connections = 900", "mode = 'snat'"])
def test_foreign_mark_bits_survive_and_ours_join_them(whose, lines):
    """Somebody marks packets (each, and early) and connections (once) in bits that are not ours."""
    with in_force(config(2, lines)) as lab:
        lab.nft("add table inet their")
        lab.nft("add chain inet their early { type filter hook prerouting priority -180; }")
        for statement in FOREIGN_MARKS[whose].split(" ct "):
            once = "" if statement.startswith("meta") else "ct mark 0 ct "
            lab.nft(f"add rule inet their early {once}{statement.removeprefix('ct ')}")
        lab.nft("add set inet their seen { type ct_dir . mark . mark; counter; flags dynamic; size 999; }")
        lab.nft("add chain inet their late { type filter hook forward priority 100; }")
        lab.nft("add rule inet their late add @seen { ct direction . meta mark . ct mark }")
        theirs = lab.nft("list", "chain", "inet", "their", "early")
        for target in ("192.0.2.10:80", "[2001:db8::10]:80"):
            for udp in (False, True):
                tally = lab.fetch(target, 60, udp=udp)
                assert not tally.failed
                if "persist" not in lines:
                    assert tally.answers == {"a": 40, "b": 20}
        packet = PACKET if whose != "connection" else 0
        connection = CONNECTION if whose != "packet" else 0
        known = set(marks(lab, "web").values())
        got = {
            (int(p, 16), int(c, 16))
            for p, c in re.findall(r"\. (0x\w+) \. (0x\w+) ", lab.nft("list set inet their seen"))
        }
        used = {p & OURS for p, _ in got}
        assert used == known if "persist" not in lines else used <= known
        assert got == {(packet | mark, connection | mark) for mark in used}
        assert {flow.mark for flow in flows(lab, 80)} <= {connection | mark for mark in known}
        # Counters and active connections are seen under our bits alone.
        backends = {b["name"]: b for b in status(lab)["services"][0]["backends"]}
        assert sum(b["connections"] for b in backends.values()) == 240
        apply(lab, config(1, lines))
        assert lab.nft("list", "chain", "inet", "their", "early") == theirs


def test_connections_without_a_service_keep_their_marks():
    with in_force(config()) as lab:
        lab.nft("add table inet their")
        lab.nft("add chain inet their early { type filter hook prerouting priority -180; }")
        lab.nft(f"add rule inet their early ct mark 0 ct mark set {CONNECTION:#x}")
        assert lab.fetch("192.168.1.10:8080", 20).answers == {"a": 20}
        found = flows(lab, 8080)
        assert len(found) == 20
        assert {flow.mark for flow in found} == {CONNECTION}


def test_a_mask_of_scattered_bits_is_kept_to():
    mask = 0x0F0F_0F0F
    scheduled = config(2, "schedule = 'random'")
    with in_force(f"[marks]\nmask = {mask:#x}\n{scheduled}") as lab:
        lab.nft("add table inet their")
        lab.nft("add chain inet their early { type filter hook prerouting priority -180; }")
        lab.nft("add rule inet their early meta mark set 0xf0f0f0f0")
        lab.nft("add set inet their seen { type mark; flags dynamic; size 999; }")
        lab.nft("add chain inet their late { type filter hook forward priority 100; }")
        lab.nft("add rule inet their late add @seen { meta mark }")
        tally = lab.fetch("192.0.2.10:80", 600)
        assert shares_fit(tally.answers, {"a": 2, "b": 1})
        known = set(marks(lab, "web").values())
        assert all(mark & ~mask == 0 for mark in known)
        listing = lab.nft("list set inet their seen").partition("elements")[2]
        assert {int(mark, 16) for mark in re.findall(r"0x\w+", listing)} == {0xF0F0_F0F0 | mark for mark in known}
