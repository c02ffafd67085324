"""HTTP over the daemon: nouns, verbs, events, metrics, and who may ask.

client1 --[198.51.100.0/24]-- director (markway run) --[192.168.1.0/24]-- a, b, c
"""

from __future__ import annotations

import json
import signal
import socket
import stat
import threading
from contextlib import contextmanager
from typing import Any

import pytest
from tests.kernel.api import Api, figures
from tests.kernel.daemon import EVEN, VIP, WEB, all_up, answers, given, running
from tests.kernel.support import apply, eventually, run, seen, status, write

from markway.lab.build import directory

TWO = WEB.replace('backend.c = { address = "192.168.1.13:8080" }', "")
TOML = {"Content-Type": "application/toml"}


@pytest.fixture
def served(lab):
    """A lab with a daemon and all backends up, the API, and the daemon."""
    net = lab(WEB)
    with all_up(net) as daemon:
        api = Api(net)
        eventually(api.path.exists)
        yield net, api, daemon


def test_nouns_say_what_the_command_line_says(served):
    net, api, _ = served
    told, shown = api.get("/v1/status"), status(net)
    for record in (told, shown):
        for backend in record["services"][0]["backends"]:
            for moving in ("seconds", "checked", "packets", "bytes"):
                del backend[moving]
    assert told == shown
    assert [s["name"] for s in api.get("/v1/services")] == ["web"]
    assert api.get("/v1/services/web")["schedule"] == "round-robin"
    backend = api.get("/v1/services/web/backends/b")
    assert backend["connections"] == seen(net, "web")["backends"]["b"]["connections"]
    assert (backend["state"], backend["checked"]["well"]) == ("up", True)
    assert api.get("/v1/drains") == {}
    assert "service" in api.get("/v1/schema")["properties"]


def test_the_document_of_the_api_names_every_verb_and_noun(served):
    _, api, _ = served
    paths = api.get("/v1/openapi.json")["paths"]
    assert {path.removeprefix("/v1/").removeprefix("services/{service}/backends/{backend}/") for path in paths} >= {
        *("status", "services", "drains", "events", "metrics", "schema", "check", "plan", "apply", "confirm"),
        *("rollback", "adopt", "hold", "drain", "enable", "disable", "weight"),
    }
    assert all(operation["summary"] for path in paths.values() for operation in path.values())


def test_errors_are_told_in_words_with_the_right_status(served):
    net, api, _ = served
    wrong = [
        ("GET", "/v1/services/wep", None, 404, 'there is no service "wep", did you mean "web"?'),
        ("GET", "/v1/services/web/backends/x", None, 404, 'there is no backend of web "x"'),
        ("POST", "/v1/hold", {"backends": ["web/a", "web/z"], "hold": "drain"}, 404, 'there is no backend "web/z"'),
        ("GET", "/v1/nothing", None, 404, "there is nothing at /v1/nothing"),
        ("DELETE", "/v1/status", None, 405, "DELETE is not for /v1/status"),
        ("PUT", "/v1/services/web/backends/a/weight", {"weight": -1}, 422, "weight: "),
        ("PUT", "/v1/services/web/backends/a/weight", {"wieght": 1}, 422, "wieght: there is no such field"),
        ("POST", "/v1/services/web/backends/a/drain", {"deadline": "5 parsecs"}, 422, "parsecs"),
        ("POST", "/v1/confirm", None, 409, "nothing awaits confirmation"),
    ]
    for method, path, body, code, words in wrong:
        said = api.ask(method, path, body, code=code)
        assert words in said["error"]
    said = api.post("/v1/apply", WEB.replace("tcp = true", "tcp = false"), headers=TOML, code=422)
    assert said["problems"][0]["line"] == 4
    assert answers(net) == EVEN


def test_verbs_do_what_the_command_line_does(served):
    net, api, daemon = served
    place = "/v1/services/web/backends"
    with net.clients[0].hold(VIP, 30):
        said = api.post(f"{place}/a/drain", {"deadline": "1h"})
        assert (said["state"], said["in_force"], said["effective"]) == ("drain", True, 0)
        assert answers(net) == {"b": 15, "c": 15}
        eventually(lambda: api.get("/v1/drains")["web/a"]["left"] == 10)
    daemon.wait("drained", "web/a")
    assert api.post(f"{place}/a/enable")["state"] == "up"
    assert api.post(f"{place}/b/disable", {"cut": True})["state"] == "disabled"
    assert answers(net) == {"a": 15, "c": 15}
    assert api.ask("PUT", f"{place}/a/weight", {"weight": 5})["effective"] == 5
    assert answers(net) == {"a": 25, "c": 5}
    api.ask("PUT", f"{place}/a/weight", {"weight": None})
    api.post("/v1/hold", {"backends": ["web/b"], "hold": "none"})
    assert answers(net) == EVEN


def test_a_configuration_is_checked_planned_applied_confirmed_and_rolled_back(served):
    net, api, _ = served
    assert api.post("/v1/check", TWO, headers=TOML)["services"] == 1
    for planned in (api.post("/v1/plan", TWO, headers=TOML), api.post("/v1/apply?dry_run=true", TWO, headers=TOML)):
        assert planned["changes"]
        assert planned["services"][0]["why"] == ["backend c leaves"]
        assert any("delete element" in line for line in planned["nft"])
    assert answers(net) == EVEN
    files = [{"name": "web.toml", "text": TWO}]
    done = api.post("/v1/apply?confirm=1h", files)
    assert (done["changed"], done["confirm"]) == (True, "1h")
    assert answers(net) == {"a": 15, "b": 15}
    assert "awaits confirmation" in api.post("/v1/apply", WEB, headers=TOML, code=409)["error"]
    assert "awaits confirmation" in apply(net, WEB, code=1)
    assert api.post("/v1/confirm")["confirmed"] == done["program"]
    assert not api.post("/v1/apply", files)["changed"]
    api.post("/v1/rollback")
    eventually(lambda: given(net) == EVEN)


def test_what_is_not_confirmed_in_time_is_undone(served):
    net, api, _ = served
    api.post("/v1/apply?confirm=1s", TWO, headers=TOML)
    eventually(lambda: given(net) == EVEN)
    assert status(net)["applied"]["why"] in {"not confirmed in time", "weights"}
    assert status(net)["confirm_within"] is None


def test_a_rollback_to_nothing_is_not_undone_by_what_happens_later(served):
    net, api, daemon = served
    api.post("/v1/rollback")
    assert status(net)["services"] == []
    net.stop("a")
    net.start("a")
    daemon.wait("apply")
    assert api.get("/v1/services") == []
    assert "there is no service" in api.get("/v1/services/web", code=404)["error"]
    assert net.fetch(VIP, 1).failed == 1


def test_events_come_as_they_happen_and_go_on_where_a_reader_stopped(served):
    net, api, daemon = served
    kept = api.get("/v1/events?follow=false")
    assert kept[0]["kind"] == "start"
    assert [e["id"] for e in api.get("/v1/events?follow=false&last=2")] == [e["id"] for e in kept[-2:]]
    with following(api, kept[0]["id"]) as heard:
        eventually(lambda: len(heard) >= len(kept) - 1)
        assert heard[: len(kept) - 1] == kept[1:]
        net.stop("b")
        eventually(lambda: heard[-1]["kind"] == "down")
        assert (heard[-1]["service"], heard[-1]["backend"]) == ("web", "b")
        last = heard[-1]["id"]
    run(net, "disable", "web/c")
    with following(api, last) as heard:
        eventually(lambda: heard)
        assert heard[0]["kind"] == "disable"
        # A daemon that ends lets its readers go, and does not wait for them.
        assert daemon.end() == 0
    assert not api.path.exists()


@contextmanager
def following(api, last):
    """Events after the one with this id, as they come."""
    heard: list[dict[str, Any]] = []
    made = api.connection()
    made.request("GET", "/v1/events", headers={"Last-Event-ID": last})
    answer = made.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")

    def read():
        heard.extend(json.loads(line[6:]) for line in answer if line.startswith(b"data: "))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield heard
    finally:
        made.sock.shutdown(socket.SHUT_RDWR)
        reader.join(20)
        made.close()


def test_metrics_count_what_happened_and_forget_what_left(served):
    net, api, daemon = served
    before = figures(api)
    answers(net)
    found = figures(api)
    for name in "abc":
        key = ("markway_backend_connections_total", name, "web")
        assert found[key] - before[key] == 10
        assert found["markway_backend_state", name, "up", "web"] == 1
        assert found["markway_backend_check_seconds_count", name, "web"] >= 1
        assert found["markway_backend_checks_total", name, "web", "well"] >= 1
        assert found["markway_backend_weight", name, "web"] == 1
        assert found["markway_backend_share_asked", name, "web"] == pytest.approx(1 / 3)
    assert found["markway_service_offered_total", "web"] - before["markway_service_offered_total", "web"] == 30
    assert found["markway_events_total", "up"] == 3
    assert found["markway_in_force",] == 1
    assert found["markway_weights_update_seconds",] > 0
    net.stop("b")
    daemon.wait("down", "web/b")
    eventually(lambda: figures(api)["markway_backend_weight", "b", "web"] == 0)
    found = figures(api)
    assert found["markway_backend_state", "b", "down", "web"] == 1
    assert found["markway_backend_state", "b", "up", "web"] == 0
    assert found["markway_backend_checks_total", "b", "ill", "web"] >= 2
    assert found["markway_backend_weight_configured", "b", "web"] == 1
    apply(net, TWO)
    eventually(lambda: not any("c" in key for key in figures(api)))


def test_the_socket_is_roots_and_survives_a_kill(served):
    net, api, daemon = served
    mode = api.path.stat()
    assert stat.S_ISSOCK(mode.st_mode)
    assert (stat.S_IMODE(mode.st_mode), mode.st_uid) == (0o600, 0)
    daemon.end(signal.SIGKILL)
    assert api.path.exists()
    assert not status(net)["daemon"]
    with running(net, WEB) as again:
        eventually(lambda: status(net)["daemon"])
        assert api.get("/v1/status")["pid"] == again.process.pid


def test_status_does_not_wait_for_ever_for_a_daemon_that_hangs(served):
    net, _, daemon = served
    daemon.send(signal.SIGSTOP)
    assert not status(net)["daemon"]
    assert answers(net) == EVEN
    daemon.send(signal.SIGCONT)
    eventually(lambda: status(net)["daemon"])


def secured(folder, tls=False):
    """The [api] of a configuration whose token is in a file."""
    token = folder / "token"
    token.write_text("open sesame\n", encoding="ascii")
    lines = ["[api]", 'listen = "127.0.0.1:8480"', f'token-file = "{token}"']
    if tls:
        lines += [f'certificate = "{folder}/api.pem"', f'key = "{folder}/api.key"']
    return "\n".join([WEB, *lines, ""]), token


def curl(lab, *args):
    """The status and body of an answer over TCP, asked on the director itself; status 000 if there is none."""
    done = lab.director.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", *args, check=False)
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def bearing(token):
    return "-H", f"Authorization: Bearer {token}"


def test_over_tcp_only_who_bears_the_token_is_answered(lab):
    net = lab(WEB)
    text, token = secured(directory(net.name))
    with running(net, text) as daemon:
        daemon.wait("api")
        url = "http://127.0.0.1:8480/v1/services"
        eventually(lambda: curl(net, url)[0] == 401)
        for wrong in (bearing("open"), bearing(""), bearing("open sesame!"), ("-H", "Authorization: Basic b3Blbg==")):
            code, body = curl(net, *wrong, url)
            assert (code, "a token is needed" in json.loads(body)["error"]) == (401, True)
        assert "www-authenticate: Bearer" in curl(net, "-i", url)[1]
        assert curl(net, "-X", "POST", "http://127.0.0.1:8480/v1/rollback")[0] == 401
        assert curl(net, *bearing("open sesame"), url)[0] == 200
        token.write_text("new words\n", encoding="ascii")
        assert curl(net, *bearing("open sesame"), url)[0] == 401
        assert curl(net, *bearing("new words"), url)[0] == 200
        token.write_text("", encoding="ascii")
        assert curl(net, "-H", "Authorization: Bearer ", url)[0] == 401
        token.unlink()
        assert curl(net, *bearing("new words"), url)[0] == 401


def test_the_tcp_server_follows_the_configuration(lab):
    net = lab(WEB)
    text, _ = secured(directory(net.name))
    url = "http://127.0.0.1:{}/v1/services"
    with running(net, WEB) as daemon:
        daemon.wait("start")
        apply(net, text)
        eventually(lambda: curl(net, *bearing("open sesame"), url.format(8480))[0] == 200)
        apply(net, text.replace("8480", "8481"))
        eventually(lambda: curl(net, *bearing("open sesame"), url.format(8481))[0] == 200)
        assert curl(net, *bearing("open sesame"), url.format(8480))[0] == 0
        apply(net, text.replace("127.0.0.1:8480", "192.0.2.99:8480"))
        assert "the API cannot be served at 192.0.2.99:8480" in daemon.wait("error")["text"]
        apply(net, WEB)
        eventually(lambda: curl(net, *bearing("open sesame"), url.format(8481))[0] == 0)


def certify(lab, name):
    """A certificate of its own for the API, and its key."""
    folder = directory(lab.name)
    lab.director.run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", f"{folder}/api.key", "-out", f"{folder}/fresh.pem"),
    )
    (folder / "fresh.pem").replace(folder / "api.pem")
    return folder / "api.pem"


def test_over_tls_with_a_certificate_that_can_be_changed(lab):
    net = lab(WEB)
    first = certify(net, "first").read_text(encoding="ascii")
    text, _ = secured(directory(net.name), tls=True)
    pem = directory(net.name) / "api.pem"
    url = "https://127.0.0.1:8480/v1/services"
    trusted = (*bearing("open sesame"), "--cacert", str(pem), url)
    with running(net, text) as daemon:
        assert "HTTPS" in daemon.wait("api")["text"]
        eventually(lambda: curl(net, *trusted)[0] == 200)
        assert curl(net, "--cacert", str(pem), url)[0] == 401
        assert curl(net, *bearing("open sesame"), url.replace("https", "http"))[0] == 0
        certify(net, "second")
        assert pem.read_text(encoding="ascii") != first
        eventually(lambda: curl(net, *trusted)[0] == 200)
        pem.write_text("nonsense", encoding="ascii")
        assert "the API cannot be served" in daemon.wait("error")["text"]
        assert daemon.process.poll() is None
        assert answers(net)


def test_a_configuration_written_by_a_command_reaches_the_daemon_at_once(served):
    net, api, daemon = served
    apply(net, TWO)
    # The command has told it: no wait is needed for the daemon to know.
    assert [b["name"] for b in api.get("/v1/services/web")["backends"]] == ["a", "b"]
    assert daemon.seen("apply")
    run(net, "rollback")
    assert [b["name"] for b in api.get("/v1/services/web")["backends"]] == ["a", "b", "c"]
    write(net, TWO)
