"""Guards, bans, lists and policies: what the kernel does is told alike by the command line, the API and the metrics.

client1 (198.51.100.11), client2 (198.51.100.12) --- director (markway run) --- a
"""

from __future__ import annotations

import json
import signal

import pytest
from tests.kernel.api import Api, figures
from tests.kernel.daemon import running
from tests.kernel.support import apply, eventually, run, status

from markway.lab.build import directory

SERVICE = """
[service.web]
listen = "192.0.2.10:80/tcp"
backend.a = { address = "192.168.1.11:8080" }
"""
VIP = "192.0.2.10:80"
LISTED, BANNED, TRIER = "198.51.100.12", "203.0.113.7", "198.51.100.11"
KINDS = ("policies", "guards", "blocklists")


def config(lab):
    """All of them; the list names client2."""
    file = directory(lab.name) / "own.txt"
    file.write_text(f"{LISTED}\n203.0.113.0/28\n", encoding="ascii")
    return f"""{SERVICE}
[zone.clients]
networks = "198.51.100.0/24"
[policy.dns]
from = "clients"
to = "self"
match = {{ protocol = "udp", destination-port = 53 }}
verdict = "accept"
[guard.web]
listen = "service:web"
windows = "2 in 600s"
[guard.ssh]
listen = "22/tcp"
[blocklist.own]
file = "{file}"
"""


@pytest.fixture
def seen_lab(lab):
    """A daemon that counts and has loaded its list; client2 is refused by it, client1 by its guard."""
    net = lab(SERVICE)
    with running(net, config(net)) as daemon:
        daemon.wait("guard")
        daemon.wait("list")
        run(net, "ban", BANNED, "--guard", "ssh", "--for", "1h")
        assert [net.fetch(VIP, 1, client=0, timeout=0.3).failed for _ in range(4)] == [0, 0, 1, 1]
        assert net.fetch(VIP, 1, client=1, timeout=0.3).failed
        yield net, Api(net), daemon


def named(record, kind):
    return {one["name"]: one for one in record[kind]}


def test_command_line_api_and_metrics_tell_the_same(seen_lab):
    net, api, daemon = seen_lab
    eventually(lambda: named(status(net), "guards")["web"]["attempts"] == 3)
    told, shown = api.get("/v1/status"), status(net)
    for record in (told, shown):
        record["blocklists"][0]["asked"] = 0  # a file is looked at every second
    assert [told[kind] for kind in KINDS] == [shown[kind] for kind in KINDS]

    web, ssh = (named(shown, "guards")[name] for name in ("web", "ssh"))
    assert (web["listen"], web["windows"], web["banned"]) == (["service:web"], ["2 in 600s"], {"ipv4": 1, "ipv6": 0})
    assert (web["counting"], web["bans"], ssh["bans"]) == (True, 1, 0)
    assert web["packets"] >= 1
    own = shown["blocklists"][0]
    assert (own["entries"], own["in_force"], own["packets"] >= 1) == (2, True, True)
    assert own == {**json.loads(run(net, "blocklist", "status", "--json"))["blocklists"][0], "asked": 0}
    assert api.get("/v1/guards/ssh") == ssh
    assert api.get("/v1/blocklists/own")["entries"] == 2
    assert [one["name"] for one in api.get("/v1/guards")] == [one["name"] for one in shown["guards"]]

    found = figures(api)
    assert found["markway_guard_banned", "ipv4", "web"] == 1
    assert found["markway_guard_counting", "web"] == 1
    assert found["markway_guard_refused_packets_total", "web"] == web["packets"]
    assert found["markway_guard_attempts_total", "web"] == 3
    assert found["markway_guard_bans_total", "web"] == 1
    assert found["markway_blocklist_entries", "own"] == 2
    assert found["markway_blocklist_in_force", "own"] == 1
    assert found["markway_blocklist_refused_packets_total", "own"] == own["packets"]
    assert found["markway_policy_packets_total", "dns"] == 0

    text = run(net, "status")
    assert "1 service, 1 policy, 2 guards, 1 blocklist, since" in text.splitlines()[0]
    daemon.end(signal.SIGKILL)
    alone = status(net)
    assert named(alone, "guards")["web"] == {**web, "counting": False, "attempts": None, "bans": None}
    assert alone["blocklists"][0]["packets"] == own["packets"]
    assert "bans hold, nothing is counted" in run(net, "status")


def test_bans_are_made_and_ended_over_the_api(seen_lab):
    net, api, daemon = seen_lab
    assert {(one["guard"], one["source"]) for one in api.get("/v1/bans")} == {("ssh", BANNED), ("web", TRIER)}
    made = api.post("/v1/guards/ssh/bans", {"address": "2001:db8:1::/64", "for": "2h"})
    assert (made["guard"], made["source"], made["left"]) == ("ssh", "2001:db8:1::/64", 7200)
    assert 7000 < next(one for one in api.get("/v1/bans?guard=ssh") if one["source"] == made["source"])["left"] <= 7200
    assert {one["source"] for one in json.loads(run(net, "bans", "--json"))} == {BANNED, TRIER, made["source"]}
    assert api.post("/v1/guards/web/bans", {"address": "198.51.100.99"})["left"] == 600
    assert api.ask("DELETE", "/v1/guards/ssh/bans/2001:db8:1::/64") == {"guard": "ssh", "source": made["source"]}
    assert [one["source"] for one in api.get("/v1/guards/ssh/bans")] == [BANNED]
    assert api.ask("DELETE", f"/v1/guards/web/bans/{TRIER}")["source"] == TRIER
    daemon.wait("unban", "guard/web")
    assert not net.fetch(VIP, 1, client=0).failed
    wrong = [
        ("POST", "/v1/guards/sssh/bans", {"address": TRIER}, 404, 'there is no guard "sssh", did you mean "ssh"?'),
        ("GET", "/v1/bans?guard=sssh", None, 404, "there is no guard"),
        ("GET", "/v1/blocklists/owm", None, 404, 'there is no blocklist "owm", did you mean "own"?'),
        ("DELETE", "/v1/guards/ssh/bans/192.0.2.99", None, 404, "192.0.2.99 is not banned"),
        ("POST", "/v1/guards/ssh/bans", {"address": "nobody"}, 422, '"nobody" is no address or network'),
        ("POST", "/v1/guards/ssh/bans", {"address": "192.0.2.0/24"}, 422, "a blocklist takes it"),
        ("POST", "/v1/guards/ssh/bans", {"address": TRIER, "for": "soon"}, 422, "soon"),
        ("POST", "/v1/guards/ssh/bans", {"source": TRIER}, 422, "source: there is no such field"),
    ]
    for method, path, body, code, words in wrong:
        assert words in api.ask(method, path, body, code=code)["error"]
    assert "/v1/guards/{guard}/bans/{address}" in api.get("/v1/openapi.json")["paths"]


def test_apply_and_plan_name_what_there_is_without_services(lab):
    net = lab(SERVICE)
    guard = '[guard.ssh]\nlisten = "22/tcp"\n'
    assert apply(net, guard).startswith("In force: 1 guard, program")
    more = config(net).replace(SERVICE, "").replace("service:web", "80/tcp")
    planned = run(net, "plan", str(directory(net.name) / "markway.toml"))
    assert "holds this program, 1 guard." in planned
    (directory(net.name) / "more.toml").write_text(more, encoding="utf-8")
    planned = run(net, "plan", str(directory(net.name) / "more.toml"))
    for line in ("1 policy new: dns", "1 guard new: web", "1 blocklist new: own", "# blocklists: added"):
        assert line in planned
    assert "1 policy, 2 guards, 1 blocklist" in apply(net, more)
    assert "1 guard in force" in run(net, "rollback")
