"""Guards, lists, policies and backends in `status` and the metrics, and what there is in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from markway.api.guard_metrics import blocklist_metrics, guard_metrics, policy_metrics
from markway.cli.backends import BACKENDS, backend_rows
from markway.cli.guards import BLOCKLISTS, GUARDS, blocklist_rows, guard_notes, guard_rows
from markway.cli.policies import POLICIES, policy_rows
from markway.compiler import compile_config
from markway.compiler.held import held_by
from markway.config.load import Source, load
from markway.marks import Registry
from markway.program.words import held

BAN = {"seconds": 600.0, "until_quiet": True, "factor": 1.0, "longest": 604800.0, "memory": 604800.0}
SSH = {
    "name": "ssh", "listen": ["22/tcp"], "logs": [], "windows": ["2 in 20s", "14 in 200s"], "ban": BAN,
    "banned": {"ipv4": 1200, "ipv6": 3}, "slowed": {"ipv4": 2, "ipv6": 0}, "packets": 17204,
    "bytes": 1032240, "asking": "nft queue", "counting": True,
    "problem": None, "attempts": 5000, "bans": 1203,
}  # fmt: skip
ALONE = {**SSH, "counting": False, "attempts": None, "bans": None}
DRONES = {"name": "drones", "entries": 812345, "in_force": True, "packets": 17204, "octets": 99, "changed": 1.5e9}
UNREAD = {"name": "own", "entries": 0, "in_force": False, "packets": 0, "octets": 0, "changed": 0.0}
POLICY = {"name": "web", "from": ["internet", "lan"], "to": ["self"], "verdict": "accept", "packets": 7, "bytes": 420}
BACKEND = {
    "name": "a", "state": "up", "mark": 7, "endpoints": ["192.168.1.11:8080", "[fd00:1::11]:8080"], "effective": 1.0,
    "weight": 1, "reading": None, "factor": 1.0, "asked": 1 / 3, "got": None, "connections": 1234567, "active": 12345,
    "packets": 12345678, "bytes": 12345678901,
    "checked": {"well": True, "took": 0.0012, "reason": "", "warning": ""},
}  # fmt: skip


def shown(columns, rows, width=78):
    fitted = columns.fit(rows, width)
    return [line.plain for line in (fitted.header(), *map(fitted.line, rows))]


def test_tables_fit_80_columns_and_keep_what_matters():
    tables = (
        (GUARDS, guard_rows([SSH, {**SSH, "name": "mail-and-imap", "listen": ["25/tcp", "143/tcp"]}])),
        (BLOCKLISTS, blocklist_rows([DRONES, UNREAD], lambda _: "2026-11-22 13:46:28")),
        (POLICIES, policy_rows([{**POLICY, "over": 3}])),
        (BACKENDS, backend_rows({"load": None, "backends": [BACKEND]})),
    )
    for columns, rows in tables:
        lines = shown(columns, rows)
        assert all(len(line) <= 78 for line in lines)
        assert "…" not in "".join(lines)
        assert lines[0].split()[0] == columns.names[0]
    guards, lists, _, backends = (shown(*table) for table in tables)
    assert guards[1].split() == ["ssh", "22/tcp", "1,200", "+", "3", "2", "17,204", "5,000", "yes"]
    assert "812,345" in lists[1]
    assert lists[2].split() == ["own", "0", "NO", "0", "-"]
    assert {"STATE", "WEIGHT", "CHECK", "GOT", "CONNECTIONS", "ACTIVE"} <= {*backends[0].split()}


@given(width=st.integers(75, 200))
def test_a_wider_screen_shows_no_less(width):
    rows = backend_rows({"load": None, "backends": [BACKEND]})
    assert len(BACKENDS.fit(rows, width).widths) <= len(BACKENDS.fit(rows, 200).widths)


@pytest.mark.parametrize(
    ("more", "daemon", "word", "note"),
    [
        ({}, True, "yes", "asked by nft queue"),
        ({"asking": None, "logs": ["/var/log/auth.log"]}, True, "yes", ""),
        ({"asking": "not at all", "counting": False}, True, "no", "not counted by this kernel"),
        ({"asking": "not at all", "logs": ["/var/log/auth.log"]}, True, "logs", "not counted by this kernel"),
        ({"counting": False}, True, "no", "not ready"),
        ({"counting": False}, False, "no", "nothing is counted. Begin with: markway run"),
        ({"problem": "its set of banned sources is full"}, True, "yes", "ssh: its set of banned sources is full"),
    ],
)
def test_whether_attempts_are_counted_is_said(more, daemon, word, note):
    guards = [{**SSH, **more}]
    assert guard_rows(guards)[0].cells["COUNTED"].plain == word
    notes = "\n".join(guard_notes(guards, daemon=daemon))
    assert note in notes
    assert ("not ready" in notes) == ("not ready" in note)


def figures(*metrics):
    class Found(Collector):
        def collect(self):
            yield from metrics

    registry = CollectorRegistry()
    registry.register(Found())
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_of_policies_guards_and_lists():
    limited = {**POLICY, "over": 2}
    found = figures(
        *policy_metrics([limited, {**POLICY, "name": "dns", "over": None}]),
        *guard_metrics([SSH, {**ALONE, "name": "web"}]),
        *blocklist_metrics([DRONES, UNREAD]),
    )
    assert found == {
        ("markway_policy_packets_total", "web"): 7, ("markway_policy_packets_total", "dns"): 7,
        ("markway_policy_bytes_total", "web"): 420, ("markway_policy_bytes_total", "dns"): 420,
        ("markway_policy_over_packets_total", "web"): 2,
        ("markway_guard_banned", "ipv4", "ssh"): 1200, ("markway_guard_banned", "ipv6", "ssh"): 3,
        ("markway_guard_banned", "ipv4", "web"): 1200, ("markway_guard_banned", "ipv6", "web"): 3,
        ("markway_guard_slowed", "ipv4", "ssh"): 2, ("markway_guard_slowed", "ipv6", "ssh"): 0,
        ("markway_guard_slowed", "ipv4", "web"): 2, ("markway_guard_slowed", "ipv6", "web"): 0,
        ("markway_guard_counting", "ssh"): 1, ("markway_guard_counting", "web"): 0,
        ("markway_guard_refused_packets_total", "ssh"): 17204, ("markway_guard_refused_packets_total", "web"): 17204,
        ("markway_guard_refused_bytes_total", "ssh"): 1032240, ("markway_guard_refused_bytes_total", "web"): 1032240,
        ("markway_guard_attempts_total", "ssh"): 5000, ("markway_guard_bans_total", "ssh"): 1203,
        ("markway_blocklist_entries", "drones"): 812345, ("markway_blocklist_entries", "own"): 0,
        ("markway_blocklist_in_force", "drones"): 1, ("markway_blocklist_in_force", "own"): 0,
        ("markway_blocklist_read_timestamp_seconds", "drones"): 1.5e9,
        ("markway_blocklist_refused_packets_total", "drones"): 17204,
        ("markway_blocklist_refused_packets_total", "own"): 0,
        ("markway_blocklist_refused_bytes_total", "drones"): 99, ("markway_blocklist_refused_bytes_total", "own"): 0,
    }  # fmt: skip
    assert not figures(*policy_metrics([]), *guard_metrics([]), *blocklist_metrics([]))


ZONE = '[zone.lan]\ndevices = "eth1"\n'
RULE = '[policy.all]\nfrom = "lan"\nto = "self"\nverdict = "accept"\n'
TWO = '[guard.ssh]\nlisten = "22/tcp"\n[guard.web]\nlisten = "80/tcp"\n'
OWN = '[blocklist.own]\nfile = "/etc/own.txt"\n'
WEB = '[service.web]\nlisten = "192.0.2.1:80/tcp"\nbackend.a = { address = "192.0.2.2:80" }\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ZONE, "a firewall"),
        (ZONE + RULE, "1 policy"),
        (TWO, "2 guards"),
        (OWN + TWO, "2 guards, 1 blocklist"),
        (WEB + OWN, "1 service, 1 blocklist"),
    ],
)
def test_what_there_is_is_named(text, said):
    config = load([Source("x.toml", text.encode())]).config
    assert held(held_by(compile_config(config, Registry()).program)) == said


def test_of_nothing_it_is_said_that_there_are_no_services():
    assert held({}) == held({"service": [], "guard": []}) == "0 services"
