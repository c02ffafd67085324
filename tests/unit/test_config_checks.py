"""What a check, a load, a policy and the API mean, and what is said of those that are probably not meant."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from tests.unit.test_config_refusals import cases, service

from markway.balance import policies
from markway.config.load import load_text
from markway.config.model import POLICIES, Api, Check, CheckKind, Load, LoadKind, Schedule, Service


def only(lines: str) -> Service:
    [found] = load_text(service(lines)).config.services
    return found


def check(keys: str) -> Check:
    found = only(f"check = {{ {keys} }}").check
    assert found is not None
    return found


def load(keys: str) -> Load:
    found = only(f"load = {{ {keys} }}").load
    assert found is not None
    return found


def warned(lines: str) -> list[str]:
    return [str(problem) for problem in load_text(service(lines), "m").warnings]


@pytest.mark.parametrize("kind", CheckKind)
def test_the_defaults_of_a_check(kind):
    values = {
        CheckKind.UDP: "udp = true, send = 'x'",
        CheckKind.HTTP: "http = '/'",
        CheckKind.HTTPS: "https = '/'",
        CheckKind.DNS: "dns = '.'",
        CheckKind.COMMAND: "command = ['true']",
        CheckKind.AGENT: "agent = 8888",
    }
    found = check(values.get(kind, f"{kind} = true"))
    assert (found.kind, found.every, found.fast, found.timeout, found.jitter) == (kind, 2.0, 0.5, 1.0, 0.1)
    assert (found.rise, found.fall, found.passive, found.verify) == (2, 3, True, True)
    assert (found.status, found.expiry_warning) == (((200, 399),), 14 * 86400.0)
    assert found.port == (8888 if kind is CheckKind.AGENT else None)


def test_the_times_of_a_check_follow_from_the_first():
    slow = check('tcp = true, every = "10s"')
    assert (slow.every, slow.fast, slow.timeout) == (10.0, 2.5, 2.0)
    quick = check('tcp = true, every = "100ms", jitter = 0')
    assert (quick.every, quick.fast, quick.timeout, quick.jitter) == (0.1, 0.025, 0.05, 0.0)
    assert check('tcp = true, every = "1s", fast = "1s"').fast == 1.0


def test_every_key_of_an_https_check():
    found = check(
        'https = "/health", status = "200-299,401", body = "ok", host = "www.example.org:8443", '
        'sni = "shop.example.org", ca = "/etc/markway/ca.pem", expiry-warning = "30d", port = 8443, verify = true'
    )
    assert (found.target, found.status, found.port) == ("/health", ((200, 299), (401, 401)), 8443)
    assert (found.body, found.host, found.sni) == ("ok", "www.example.org:8443", "shop.example.org")
    assert (found.ca, found.expiry_warning) == ("/etc/markway/ca.pem", 30 * 86400.0)


@pytest.mark.parametrize("host", ["www.example.org", "[fd00::1]:80", "192.168.1.1", "a_b:1"])
def test_hosts(host):
    assert check(f'http = "/", host = "{host}"').host == host


def test_a_status_may_be_a_number():
    assert check("http = '/', status = 204").status == ((204, 204),)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        (r"'PING\r\n'", b"PING\r\n"), (r'"PING\r\n"', b"PING\r\n"), (r'"PING\\r\\n"', b"PING\r\n"),
        (r"'\x17\x00\xFF'", b"\x17\x00\xff"), (r'"\\x17\\x00\\xff"', b"\x17\x00\xff"), (r'"\u0000"', b"\0"),
        (r"'\0\t\\n'", b"\0\t\\n"), ("'☃'", "☃".encode()), ("'''\na\nb'''", b"a\nb"),
    ],
)  # fmt: skip
def test_bytes(written, sent):
    assert check(f"tcp = true, send = {written}").send == sent
    assert check(f"tcp = true, expect = {written}").expect == sent


def test_who_logs_in():
    found = check('postgresql = true, user = "markway", password-file = "/etc/markway/db"')
    assert (found.user, found.database, found.password_file) == ("markway", "markway", "/etc/markway/db")
    assert check('postgresql = true, user = "markway", database = "shop"').database == "shop"
    assert check('redis = true, password-file = "/etc/markway/db"').password_file == found.password_file


@pytest.mark.parametrize("name", [".", "example.org", "example.org.", "_sip._udp.example.org", "bücher.example"])
def test_names_to_ask_for(name):
    assert check(f'dns = "{name}", record = "SOA"').target == name


def test_programs():
    assert check('command = ["check-shop", "a b", "", "--x\\n"]').command == ("check-shop", "a b", "", "--x\n")


@pytest.mark.parametrize("kind", LoadKind)
def test_the_defaults_of_a_load(kind):
    values = {
        LoadKind.SNMP: 'snmp = "laLoadInt.1"',
        LoadKind.HTTP: 'http = "/load", field = "system.load.0"',
        LoadKind.COMMAND: "command = ['load-of']",
        LoadKind.PING: "ping = true",
        LoadKind.AGENT: "agent = 8888",
    }
    found = load(values[kind])
    assert (found.kind, found.every, found.timeout, found.stale) == (kind, 5.0, 2.0, 15.0)
    assert (found.full, found.floor, found.version) == (100.0, 0.1, "2c")
    assert found.field == (("system", "load", "0") if kind is LoadKind.HTTP else ())


def test_the_times_of_a_load_follow_from_the_first():
    found = load('ping = true, every = "1s"')
    assert (found.every, found.timeout, found.stale) == (1.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("laLoad.3", 1.0), ("laLoadInt.1", 100.0), ("hrProcessorLoad", 100.0), ("hrProcessorLoad.196608", 100.0),
        ("ifInOctets.2", 12.5e6), ("ifOutOctets.2", 12.5e6), ("1.3.6.1.4.1.2021.10.1.5.1", 100.0),
    ],
)  # fmt: skip
def test_objects(name, full):
    found = load(f'snmp = "{name}"')
    assert (found.target, found.full) == (name, full)
    assert load(f'snmp = "{name}", full = 2.5').full == 2.5


def test_an_oid_may_begin_with_a_dot():
    assert load('snmp = ".1.3.6.1.4.1.2021.10.1.5.1"').target == "1.3.6.1.4.1.2021.10.1.5.1"


def test_snmp_3():
    found = load(
        'snmp = "laLoad.1", version = "3", user = "m", auth = "sha", auth-file = "/a", privacy = "aes", '
        'privacy-file = "/p"'
    )
    assert (found.version, found.user) == ("3", "m")
    assert (found.auth, found.auth_file, found.privacy, found.privacy_file) == ("sha", "/a", "aes", "/p")
    assert load('snmp = "laLoad.1", version = "3", user = "m"').auth == ""


def test_policies_are_those_there_are():
    assert set(POLICIES) == policies.POLICIES.keys()


@pytest.mark.parametrize(
    ("lines", "policy"),
    [
        ("", ""),
        ('schedule = "random"', ""),
        ('schedule = "least-connections"', "least-connections"),
        ('schedule = "least-load"', "least-load"),
        ('schedule = "queue"', "two-choices"),
        *((f'schedule = "queue"\npolicy = "{name}"', name) for name in (*POLICIES, "shop.balance:by_customer", "a:b")),
    ],
)
def test_who_chooses(lines, policy):
    assert only(lines).policy == policy


def test_a_queue_remembers_sources_too():
    found = only('schedule = "queue"\npersist.timeout = "1m"')
    assert (found.schedule, found.policy) == (Schedule.QUEUE, "two-choices")
    assert found.persist


def test_how_backends_come_back_and_go():
    found = only('check.tcp = true\nslow-start = "90s"\norphans = "cut"')
    assert (found.slow_start, found.cut_orphans, found.watched) == (90.0, True, True)
    assert (only("").slow_start, only("").cut_orphans, only("").watched) == (0.0, False, False)


def test_the_api():
    api = '[api]\nlisten = "{}"\ntoken-file = "/t"\n{}'
    found = load_text(api.format("127.0.0.1:8480", service()))
    assert (found.config.api, found.warnings) == (Api(ip_address("127.0.0.1"), 8480, "/t"), ())
    found = load_text(api.format("[fd00::1]:443", 'certificate = "/c"\nkey = "/k"\n' + service()))
    assert (found.config.api, found.warnings) == (Api(ip_address("fd00::1"), 443, "/t", "/c", "/k"), ())
    assert load_text(service()).config.api is None


def test_a_port_where_a_backend_has_none():
    one = service("check = { dns = '.', port = 53 }", backend='address = "192.168.1.10"')
    assert load_text(one).config.services[0].check


WARNINGS = """
check = { tcp = true, every = "1s", timeout = "2s" }
    2:37: service.web.check.timeout: longer than every: while there is no answer, a check comes every
        2 s only
load = { ping = true, every = "1s", timeout = "2s" }
    2:37: service.web.load.timeout: longer than every: one slow backend delays the readings of all
check = { agent = 8888 }
load = { ping = true }
    3:1: service.web.load: a percentage from the check's agent changes the same weights (let the agent
        give none)
schedule = "least-load"
    2:1: service.web.schedule: nothing tells the load: shares are by weight (for example load = { snmp =
        "laLoadInt.1" })
schedule = "queue"
policy = "least-load"
load = { agent = 8888 }
    3:1: service.web.policy: an agent tells weights, not loads: shares are by weight (read the load by
        snmp)
"""


@pytest.mark.parametrize(("lines", "expected"), cases(WARNINGS))
def test_warnings(lines, expected):
    assert warned(lines) == [f"m:{expected}"]


def test_an_api_that_others_can_overhear():
    text = f'[api]\nlisten = "0.0.0.0:8480"\ntoken-file = "/t"\n{service()}'
    [problem] = load_text(text, "m").warnings
    assert str(problem) == (
        "m:2:1: api.listen: 0.0.0.0 is not this machine's alone, and the token crosses the network in the clear "
        "(give a certificate and its key)"
    )
