"""What a file means, how several are one, and what is said of files that are not TOML at all."""

from __future__ import annotations

import gc
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from markway.config.load import LARGEST_FILE, Loaded, Source, load, load_text
from markway.config.model import (
    ALL_PORTS,
    Backend,
    CheckKind,
    Config,
    Endpoint,
    Listener,
    LoadKind,
    Mode,
    Persist,
    PortRange,
    Protocol,
    Refusal,
    Schedule,
    Service,
    SourceRate,
)
from markway.config.problems import ConfigError, Problem

WEB = b"""[service.web]
listen = "192.0.2.10:80"
[service.web.backend.a]
address = "192.168.1.10:80"
"""


def refused(*files: bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load([Source(f"{number}.toml", data) for number, data in enumerate(files)])
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def warned(text: str) -> list[str]:
    return [str(problem) for problem in load_text(text, "m").warnings]


def only(text: str) -> Service:
    [service] = load_text(text).config.services
    return service


def test_the_smallest_file_and_its_defaults():
    backend = Backend("a", (Endpoint(ip_address("192.168.1.10"), 80),))
    listener = Listener(ip_address("192.0.2.10"), Protocol.TCP, (PortRange(80, 80),))
    assert load([Source("m", WEB)]) == Loaded(Config((Service("web", (listener,), (backend,)),)), ())


def test_everything():
    config = load([Source("everything.toml", Path("examples/everything.toml").read_bytes())]).config
    assert config.mask == 0xFFFF
    named = {service.name: service for service in config.services}
    boot, dns, files, lab, media, shop = map(named.__getitem__, ("boot", "dns", "files", "lab", "media", "shop"))
    assert (boot.helper, files.helper) == ("tftp", "ftp")
    assert [one.protocol for one in dns.listeners] == [Protocol.TCP, Protocol.UDP]
    assert dns.backends[0].endpoints == (Endpoint(ip_address("192.168.1.21"), None),)
    assert (dns.fallback, dns.schedule) == (Refusal.DROP, Schedule.RANDOM)
    assert dns.allow == (ip_network("10.0.0.0/8"), ip_network("192.168.0.0/16"))
    assert files.source_rate == SourceRate(30, "minute", 5)
    assert files.backends[1].weight == 0
    assert lab.listeners[0].ports == (ALL_PORTS,)
    assert lab.listeners[1].ports == (PortRange(1, 68), PortRange(70, 65535))
    assert (media.mode, media.source) == (Mode.SNAT, (ip_address("192.0.2.9"),))
    assert media.listeners[0].ports == (PortRange(8000, 8010), PortRange(9000, 9000))
    assert shop.persist == Persist(600, 24, 64)
    assert shop.source_rate == SourceRate(10, "second", 20)
    assert (shop.max_connections, shop.refuse, shop.fallback) == (20000, Refusal.DROP, Refusal.RESET)
    assert [str(endpoint.address) for endpoint in shop.sorry] == ["192.168.1.99", "fd00:1::99"]
    assert [backend.name for backend in shop.backends] == ["a", "b", "spare"]
    assert (shop.backends[0].max_connections, shop.backends[2].priority) == (10000, 2)
    checks = [service.check for service in config.services if service.check]
    assert {check.kind for check in checks} == {*CheckKind}
    assert {service.load.kind for service in config.services if service.load} == {*LoadKind}
    assert {service.schedule for service in config.services} == {*Schedule}
    assert boot.check
    assert (boot.check.send, boot.check.expect) == (b"\0\1check\0octet\0", b"\0\3")
    assert config.api
    assert (named["jobs"].policy, named["orders"].cut_orphans, named["reports"].slow_start) == (
        "shop.balance:by_customer", True, 60.0,
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_load_without_a_warning(path):
    assert load([Source(path.name, path.read_bytes())]).warnings == ()


def test_the_order_of_the_file_means_nothing():
    one = (
        '[service.{}]\nlisten = ["{}:81", "{}:80/udp", "{}:79"]\nbackend.{}.address = "{}"\nbackend.{}.address = "{}"\n'
    )
    a = one.format("a", *["192.0.2.1"] * 3, "x", "10.0.0.1", "y", "10.0.0.2")
    b = one.format("b", *["192.0.2.2"] * 3, "x", "10.0.0.1", "y", "10.0.0.2")
    swapped = one.format("a", *["192.0.2.1"] * 3, "y", "10.0.0.2", "x", "10.0.0.1")
    assert load_text(a + b) == load_text(b + swapped)
    assert load_text(a).config.services[0].listeners == (
        Listener(ip_address("192.0.2.1"), Protocol.TCP, (PortRange(79, 79), PortRange(81, 81))),
        Listener(ip_address("192.0.2.1"), Protocol.UDP, (PortRange(80, 80),)),
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("10m", 600), ("10 min", 600), ("1h 30min", 5400), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800),
        ("1w", 604800), ("1 day 1 hour 1 minute 1 second", 90061), ("1000ms", 1), ("30d", 2592000), (" 5s ", 5),
        ("2hr", 7200), ("1500ms 500 ms", 2),
    ],
)  # fmt: skip
def test_durations_are_systemds(text, seconds):
    service = only(WEB.decode().replace("listen", f'persist.timeout = "{text}"\nlisten'))
    assert service.persist == Persist(seconds)


def test_networks_are_joined_and_sorted():
    written = ["10.1.0.0/16", "10.0.0.0/8", "fd00::1", "192.0.2.1", "192.0.2.0"]
    service = only(WEB.decode().replace("listen", f"deny = {written}\nlisten"))
    assert service.deny == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.0/31", "fd00::1/128")))


@pytest.mark.parametrize(
    ("mask", "value"), [('"0xff00"', 0xFF00), ("0xff00", 0xFF00), ("255", 255), ('"0xFFFF_FFFF"', 0xFFFFFFFF)]
)
def test_masks(mask, value):
    assert load_text(f"[marks]\nmask = {mask}\n{WEB.decode()}").config.mask == value


def test_crlf_and_byte_order_mark_are_no_matter():
    assert load([Source("m", b"\xef\xbb\xbf" + WEB.replace(b"\n", b"\r\n"))]) == load([Source("m", WEB)])
    assert refused(b"\xef\xbb\xbf[service.web]\r\nmodus = 1\r\n" + WEB.partition(b"\n")[2])[0] == (
        '0.toml:2:1: service.web: unknown key "modus" (did you mean "mode"?)'
    )


NOT_TEXT = [
    (b"", "1:1: the file is empty (write a table such as [service.web] or [shape.wan])"),
    (b" \r\n", "1:1: the file is empty (write a table such as [service.web] or [shape.wan])"),
    (b"a = 1\nb = \0", "2:5: a NUL byte: this is not a text file (byte 10)"),
    (b"\xef\xbb\xbf\0", "1:1: a NUL byte: this is not a text file (byte 3)"),
    ("a = 1\n# é\xff".encode("latin-1"), "2:3: the byte 0xe9 is not UTF-8 (byte 8) (save the file as UTF-8)"),
    ("# é".encode() + b"\xff", "1:4: the byte 0xff is not UTF-8 (byte 4) (save the file as UTF-8)"),
    (WEB.decode().encode("utf-16"), "1:1: the file is UTF-16 (save it as UTF-8)"),
    (b"a = " + b"[" * 5000, "1:1: the file is not TOML: it nests too deeply"),
]


@pytest.mark.parametrize(("data", "expected"), NOT_TEXT)
def test_what_is_not_toml_at_all(data, expected):
    assert refused(data) == [f"0.toml:{expected}"]


def test_a_gigantic_file():
    assert refused(b"#" * (LARGEST_FILE + 1)) == [
        "0.toml:1:1: the file has 67108865 bytes, and at most 67108864 (64 MiB) are read"
    ]


def test_no_file():
    assert refused() == ["markway:1:1: there is no configuration file"]


def test_a_directory_is_one_configuration():
    other = WEB.replace(b"web", b"mail").replace(b":80", b":25")
    loaded = load([Source("a.toml", WEB), Source("b.toml", other), Source("c.toml", b"[marks]\nmask = 0xff")])
    assert [service.name for service in loaded.config.services] == ["mail", "web"]
    assert loaded.config.mask == 0xFF


def test_what_two_files_define():
    assert refused(b"[marks]\n" + WEB, b"\n[marks]\n" + WEB) == [
        "1.toml:2:2: marks: [marks] is already defined, at 0.toml:1:2",
        '1.toml:3:10: service.web: service "web" is already defined, at 0.toml:2:10',
    ]


def test_the_problems_of_all_files_at_once():
    broken = b"[service.web\n"
    wrong = WEB.replace(b"listen", b"lisen") + b"weight = 'x'\n[service.x]\nlisten = '192.0.2.10:80'\n"
    assert refused(broken, wrong, b"\xff") == [
        "0.toml:1:13: not TOML: Expected ']' at the end of a table declaration",
        '1.toml:2:1: service.web: unknown key "lisen" (did you mean "listen"?)',
        ('1.toml:5:1: service.web.backend.a.weight: expected an integer from 0 to 65535, got the string "x" '
        "(for example weight = 2)"),
        "1.toml:6:10: service.x: the service has no backend (write [service.x.backend.NAME] with its address)",
        "2.toml:1:1: the byte 0xff is not UTF-8 (byte 0) (save the file as UTF-8)",
    ]  # fmt: skip


OVERLAPS = [  # what the first and the second service listen on
    ("192.0.2.1:80", "192.0.2.1:80", "192.0.2.1:80/tcp"),
    ("192.0.2.1:80-90", "192.0.2.1:1-80", "192.0.2.1:80/tcp"),
    ("192.0.2.1:80-90", "192.0.2.1:85,443", "192.0.2.1:85/tcp"),
    ("192.0.2.1:*", "192.0.2.1:85-86", "192.0.2.1:85-86/tcp"),
    ("192.0.2.1:1,100-200", "192.0.2.1:50-150", "192.0.2.1:100-150/tcp"),
    ("[2001:db8::1]:53/tcp+udp", "[2001:DB8:0::1]:53/udp", "[2001:db8::1]:53/udp"),
]


@pytest.mark.parametrize(("first", "second", "common"), OVERLAPS)
def test_two_services_on_one_port(first, second, common):
    backend = "fd00::1" if "[" in first else "10.0.0.1"
    text = f'[service.a]\nlisten = "{first}"\nbackend.x.address = "{backend}"\n'
    text += f'[service.b]\nlisten = "{second}"\nbackend.x.address = "{backend}"\n'
    assert refused(text.encode()) == [
        f'0.toml:5:1: service.b.listen: {common} is already service "a"\'s, at 0.toml:2:1'
    ]


def test_one_service_twice_on_one_port():
    text = WEB.replace(b'"192.0.2.10:80"', b'["192.0.2.10:80",\n "192.0.2.10:70-80"]')
    assert refused(text) == [
        "0.toml:3:2: service.web.listen[1]: 192.0.2.10:80/tcp is already this service's, at 0.toml:2:11"
    ]


def test_what_does_not_overlap():
    text = WEB + b'[service.b]\nlisten = ["192.0.2.10:80/udp", "192.0.2.10:81-90", "192.0.2.11:80"]\n'
    assert len(load([Source("m", text + b'backend.x.address = "10.0.0.1"')]).config.services) == 2


def test_two_backends_at_one_endpoint():
    text = WEB + b'[service.web.backend.b]\naddress = "192.168.1.10"\n'  # keeps the port, which can only be 80
    assert refused(text) == [
        (
            '0.toml:6:1: service.web.backend.b.address: the same endpoint as backend "a", at 0.toml:4:1 (give one of '
            "them a larger weight instead)"
        )
    ]
    assert only(text.replace(b'"192.0.2.10:80"', b'"192.0.2.10:80,81"').decode())


def test_a_second_address_of_a_family():
    text = WEB.replace(b'"192.168.1.10:80"', b'["192.168.1.10:80", "192.168.1.11:80"]')
    assert refused(text) == [
        (
            "0.toml:4:31: service.web.backend.a.address[1]: a second IPv4 address: the backend has at most one of each "
            "family"
        )
    ]


def test_all_weights_zero_are_allowed():
    assert only(WEB.decode() + "weight = 0").backends[0].weight == 0


def farm(backends: int, *, extra: str = "") -> str:
    rows = "".join(f'backend.b{number}.address = "10.0.0.1:{number + 1}"\n' for number in range(backends))
    return f'[service.web]\nlisten = "192.0.2.10:80"\n{extra}{rows}'


@pytest.mark.parametrize(
    "extra", ["", 'persist.timeout = "1m"\n', 'fallback.address = "10.0.0.2"\n', 'schedule = "queue"\n']
)
def test_the_mask_has_a_number_for_everything(extra):
    fitting, over = (7, 8) if not extra else (6, 7)
    assert load_text("[marks]\nmask = 0x70\n" + farm(fitting, extra=extra))
    counts = (over, int("fallback" in extra), int("persist" in extra or "queue" in extra))
    parts = "{} backends, {} fallback servers, {} services with persist or a queue".format(*counts)
    assert refused(("[marks]\nmask = 0x70\n" + farm(over, extra=extra)).encode()) == [
        (
            f"0.toml:2:1: marks.mask: the mask 0x00000070 has 7 numbers, and 8 are needed ({parts}) "
            '(for example mask = "0x00000071")'
        )
    ]


def test_warnings():
    dual = WEB.decode().replace('"192.0.2.10:80"', '["192.0.2.10:80", "[2001:db8::1]:80"]')
    assert warned(dual) == [
        "m:2:28: service.web.listen[1]: no backend has an IPv6 address: these clients get the fallback"
    ]
    assert warned(dual.replace("listen", 'fallback.address = "fd00::9"\nlisten')) == []
    assert warned(WEB.decode().replace('"192.168.1.10:80"', '["192.168.1.10:80", "fd00::10"]')) == [
        "m:4:31: service.web.backend.a.address[1]: never used: the service does not listen on an IPv6 address"
    ]
    chain = '[service.x]\nlisten = "192.0.2.11:80"\nbackend.a.address = "192.0.2.10:80"\n'
    assert warned(WEB.decode() + chain) == [
        (
            'm:7:11: service.x.backend.a.address: 192.0.2.10 is where service "web" listens, and a connection is '
            "balanced only once: a server on this machine would have to answer"
        )
    ]


def test_a_problem_as_values():
    problem = Problem("m", 1, 2, "a.b", "wrong", "right")
    assert problem.as_dict() == {
        "file": "m", "line": 1, "column": 2, "path": "a.b", "message": "wrong", "suggestion": "right",
    }  # fmt: skip
    assert str(Problem("m", 1, 2, "", "wrong")) == "m:1:2: wrong"
    assert min([Problem("b", 1, 1, "", ""), Problem("a", 10, 1, "", ""), Problem("a", 9, 3, "", "")]).line == 9


def test_garbage_collection_is_as_it_was():
    load([Source("m", WEB)])
    assert gc.isenabled()
    gc.disable()
    load([Source("m", WEB)])
    assert not gc.isenabled()
    gc.enable()
