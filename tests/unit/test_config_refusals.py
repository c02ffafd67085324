"""Every refusal, word for word: this table is what an operator reads."""

from __future__ import annotations

import pytest

from markway.config.load import load_text
from markway.config.problems import ConfigError

GOOD_LISTEN = 'listen = "192.0.2.10:80"'
GOOD_BACKEND = 'address = "192.168.1.10:80"'


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "m")
    return [str(problem) for problem in caught.value.problems]


def service(lines: str = "", listen: str = GOOD_LISTEN, backend: str = GOOD_BACKEND) -> str:
    """A service whose own lines start at 2 and whose backend's are at the end."""
    head = "\n".join(part for part in ("[service.web]", lines, listen) if part)
    return f"{head}\n[service.web.backend.a]\n{backend}\n"


def cases(table: str) -> list[tuple[str, str]]:
    """The pairs of a table: what is written, and below it, indented, what is said of it."""
    pairs: list[tuple[str, str]] = []
    for line in table.strip("\n").split("\n"):
        written, said = pairs.pop() if pairs and (line.startswith("    ") or not pairs[-1][1]) else ("", "")
        if line.startswith("    "):
            pairs.append((written, f"{said} {line.strip()}".strip()))
        else:
            pairs.append((f"{written}\n{line}".strip(), said))
    return [(written.removeprefix("(nothing)"), said) for written, said in pairs]


IN_SERVICE = """
mode = "dsr"
    2:1: service.web.mode: "dsr" is not in this version of Markway: there are "dnat" and "snat"
mode = "DNAT"
    2:1: service.web.mode: expected "dnat" or "snat", got "DNAT" (did you mean "dnat"?)
mode = 1
    2:1: service.web.mode: expected "dnat" or "snat", got the integer 1 (for example mode = "snat")
schedule = "rr"
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got "rr"
schedule = "roundrobin"
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got "roundrobin" (did you mean "round-robin"?)
schedule = 1
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got the integer 1 (for example schedule =
        "source-hash")
max_connections = 5
    2:1: service.web: unknown key "max_connections" (did you mean "max-connections"?)
example = { org = 1 }
    2:1: service.web: unknown key "example" (a name with dots is quoted: [service."web.example"])
max-connections = 0
    2:1: service.web.max-connections: expected an integer from 1 to 4294967295, got the integer 0 (for
        example max-connections = 1000)
max-connections = "9"
    2:1: service.web.max-connections: expected an integer from 1 to 4294967295, got the string "9" (did
        you mean 9, without quotes?)
max-connections = 1.5
    2:1: service.web.max-connections: expected an integer from 1 to 4294967295, got the number 1.5 (for
        example max-connections = 1000)
max-connections = true
    2:1: service.web.max-connections: expected an integer from 1 to 4294967295, got true (for example
        max-connections = 1000)
source = "192.0.2.9"
    2:1: service.web.source: mode "dnat" has no source: backends see the client (write mode = "snat")
mode = "snat"
source = "2001:db8::1"
    3:1: service.web.source: the service does not listen on an IPv6 address (2001:db8::1 would never be
        used)
mode = "snat"
source = ["192.0.2.9", "192.0.2.8"]
    3:24: service.web.source[1]: a second IPv4 address: the source has at most one of each family
mode = "snat"
source = "224.0.0.1"
    3:1: service.web.source: 224.0.0.1 is a multicast address, which is many hosts (an address of an
        interface is needed)
persist = true
    2:1: service.web.persist: expected a table, got true (for example persist = { key = "source",
        timeout = "10m", prefix = 24, prefix6 = 64 })
persist = {}
    2:1: service.web.persist: persist has no timeout (for example timeout = "10m")
persist = { key = "flow", timeout = "1m" }
    2:13: service.web.persist.key: expected "source", got "flow"
persist = { timeout = 600 }
    2:13: service.web.persist.timeout: expected a duration with its unit, got the integer 600 (did you
        mean "600s"?)
persist = { timeout = "600" }
    2:13: service.web.persist.timeout: "600" has no unit (did you mean "600s"?)
persist = { timeout = "500ms" }
    2:13: service.web.persist.timeout: "500ms" is not a whole number of seconds (the shortest timeout is
        "1s")
persist = { timeout = "0s" }
    2:13: service.web.persist.timeout: "0s" is shorter than one second: nothing would be remembered (1s
        to 30d)
persist = { timeout = "31d" }
    2:13: service.web.persist.timeout: "31d" is longer than 30 days: the kernel would remember every
        client of that time (1s to 30d)
persist = { timeout = "5M" }
    2:13: service.web.persist.timeout: "5M" has the unknown unit "M" (minutes are "m" or "min")
persist = { timeout = "5 Min" }
    2:13: service.web.persist.timeout: "5 Min" has the unknown unit "Min" (did you mean "min"?)
persist = { timeout = "5 parsec" }
    2:13: service.web.persist.timeout: "5 parsec" has the unknown unit "parsec" (the units are s, m, h,
        d and w)
persist = { timeout = "soon" }
    2:13: service.web.persist.timeout: "soon" is not a duration (for example "90s", "10m" or "1h 30min")
persist = { timeout = "1m", prefix = 33 }
    2:29: service.web.persist.prefix: expected an integer from 1 to 32, got the integer 33 (for example
        prefix = 24)
source-rate = "10"
    2:1: service.web.source-rate: "10" is not a rate (did you mean "10/second"?)
source-rate = 10
    2:1: service.web.source-rate: expected a rate, got the integer 10 (did you mean "10/second"?)
source-rate = "fast"
    2:1: service.web.source-rate: "fast" is not a rate (for example "10/second" or "100/minute burst
        20")
source-rate = "10/min"
    2:1: service.web.source-rate: "min" is not a unit of a rate (did you mean "minute"?)
source-rate = "10/fortnight"
    2:1: service.web.source-rate: "fortnight" is not a unit of a rate (second, minute or hour)
source-rate = "0/second"
    2:1: service.web.source-rate: "0/second": a rate of 0 is impossible (1 to 1000000)
source-rate = "1/second burst 0"
    2:1: service.web.source-rate: "1/second burst 0": a burst of 0 is impossible (1 to 1000000)
allow = "10.0.0.1/8"
    2:1: service.web.allow: "10.0.0.1/8" has bits set beyond its prefix (did you mean the network
        "10.0.0.0/8" or the address "10.0.0.1"?)
allow = "10.0.0.0/255.0.0.0"
    2:1: service.web.allow: "10.0.0.0/255.0.0.0" has a netmask (did you mean "10.0.0.0/8"?)
allow = "10.0.0.0/33"
    2:1: service.web.allow: "10.0.0.0/33" has no valid prefix length (0 to 32 follows the slash)
allow = []
    2:1: service.web.allow: an empty list would allow nobody (leave allow out to allow everyone)
deny = ["::ffff:0:0/96"]
    2:9: service.web.deny[0]: "::ffff:0:0/96" is an IPv4 network inside an IPv6 one, which is never on
        the wire (did you mean "0.0.0.0/0"?)
deny = [1]
    2:9: service.web.deny[0]: expected a string, got the integer 1 (for example "192.0.2.128/25")
refuse = "reject"
    2:1: service.web.refuse: expected "reset" or "drop", got "reject" (did you mean "reset"?)
fallback = "sorry"
    2:1: service.web.fallback: expected "reset", "drop" or a table, got "sorry"
fallback = 5
    2:1: service.web.fallback: expected "reset", "drop" or a table, got the integer 5 (for example
        fallback = "drop")
fallback = { adress = "192.168.1.9" }
    2:14: service.web.fallback: unknown key "adress" (did you mean "address"?)
fallback = {}
    2:1: service.web.fallback: the fallback has no address (for example address = "192.168.1.10:80")
fallback = { address = "192.0.2.10" }
    2:14: service.web.fallback.address: 192.0.2.10 is where the service itself listens: connections
        would loop, at m:3:1
fallback = { address = "fd00::1" }
    2:14: service.web.fallback.address: the fallback has an IPv6 address, and the service listens on
        none (add an IPv6 address to listen)
helper = "sip"
    2:1: service.web.helper: expected "ftp" or "tftp", got "sip"
helper = "tftp"
    2:1: service.web.helper: the helper "tftp" is for udp only, and the service listens on tcp, at m:3:1
"""


@pytest.mark.parametrize(("line", "expected"), cases(IN_SERVICE))
def test_in_a_service(line, expected):
    assert problems(service(line)) == [f"m:{expected}"]


LISTENS = """
"192.0.2.10"
    "192.0.2.10" has no port (for example "192.0.2.10:80")
"192.0.2.10:"
    "192.0.2.10:" has no port (for example "192.0.2.10:80")
"[2001:db8::1]"
    "[2001:db8::1]" has no port (for example "[2001:db8::1]:80")
"2001:db8::10:443"
    "2001:db8::10:443": an IPv6 address needs brackets (did you mean "[2001:db8::10]:443"?)
"[192.0.2.1]:80"
    "[192.0.2.1]:80": brackets are for IPv6 (did you mean "192.0.2.1:80"?)
"443/tcp"
    "443/tcp" has no address (for example "192.0.2.10:443/tcp")
":443"
    ":443" has no address (for example "192.0.2.10:443")
"*:443"
    "*" is not an IP address (for example "192.0.2.10" or "2001:db8::10")
"www.example.org:80"
    "www.example.org" is not an IP address: names are not looked up (write the address itself)
"what is this"
    "what is this" is not an address and a port (for example "192.0.2.10:443/tcp" or
        "[2001:db8::10]:443")
"192.0.2.300:80"
    "192.0.2.300" is not an IP address (each of the four numbers is 0 to 255)
"192.0.02.1:80"
    "192.0.02.1" has a number that starts with 0, which some programs read as octal (did you mean
        "192.0.2.1"?)
" 192.0.2.1:80"
    " 192.0.2.1" is not an IP address (did you mean "192.0.2.1", without the blanks?)
"[fe80::1%eth0]:80"
    "fe80::1%eth0" names an interface: a zone cannot be balanced
"[::ffff:192.0.2.1]:80"
    "::ffff:192.0.2.1" is an IPv4 address inside an IPv6 one, which is never on the wire (did you mean
        "192.0.2.1"?)
"192.0.2.1:https"
    "https" is not a port number (did you mean 443?)
"192.0.2.1:0"
    there is no port 0 (a port is 1 to 65535)
"192.0.2.1:65536"
    there is no port 65536 (a port is 1 to 65535)
"192.0.2.1:90-80"
    the port range "90-80" runs backwards (did you mean "80-90"?)
"192.0.2.1:80,443,80-90"
    the ports 80 and 80-90 overlap (write each port once in "80,443,80-90")
"192.0.2.1:x"
    "x" is not a port (write 80, 8000-8010, 80,443 or * for all of them after the address)
"192.0.2.1:80/TCP"
    "TCP" is not a protocol that can be balanced (did you mean "tcp"?)
"192.0.2.1:80/udp+tcp"
    "udp+tcp" is not a protocol that can be balanced (did you mean "tcp+udp"?)
"192.0.2.1:80/sctp"
    "sctp" is not a protocol that can be balanced (tcp, udp or tcp+udp)
"0.0.0.0:80"
    0.0.0.0 is the unspecified address (an address of an interface is needed)
"0.1.2.3:80"
    0.1.2.3 is an address of 0.0.0.0/8, which the kernel does not route (an address of an interface is
        needed)
"127.0.0.1:80"
    127.0.0.1 is a loopback address, which the kernel does not route between interfaces (an address of
        an interface is needed)
"[::1]:80"
    ::1 is a loopback address, which the kernel does not route between interfaces (an address of an
        interface is needed)
"[::]:80"
    :: is the unspecified address (an address of an interface is needed)
"224.0.0.1:80"
    224.0.0.1 is a multicast address, which is many hosts (an address of an interface is needed)
"[ff02::1]:80"
    ff02::1 is a multicast address, which is many hosts (an address of an interface is needed)
"[fe80::1]:80"
    fe80::1 is a link-local address, which the kernel does not forward (an address of an interface is
        needed)
"255.255.255.255:80"
    255.255.255.255 is the broadcast address, which is many hosts (an address of an interface is needed)
80
    expected a string or a list of strings, got the integer 80 (for example listen = "192.0.2.10:443")
2020-01-01
    expected a string or a list of strings, got a date or time (for example listen = "192.0.2.10:443")
"""


@pytest.mark.parametrize(("value", "expected"), cases(LISTENS))
def test_a_listener(value, expected):
    assert problems(service(listen=f"listen = {value}")) == [f"m:2:1: service.web.listen: {expected}"]


BACKENDS = """
(nothing)
    service.web.backend.a: the backend has no address (for example address = "192.168.1.10:80")
address = []
    service.web.backend.a: the backend has no address (for example address = "192.168.1.10:80")
address = "192.168.1.10:80/tcp"
    service.web.backend.a.address: "80/tcp" names a protocol: a backend is asked by the one its client
        used (write the port alone: 80)
address = "192.168.1.10:80-90"
    service.web.backend.a.address: "80-90" is more than one port (write the address alone to keep the
        port that the client asked for)
address = "[192.168.1.1]"
    service.web.backend.a.address: "[192.168.1.1]": brackets are for IPv6 (did you mean "192.168.1.1"?)
address = "[fd00::1"
    service.web.backend.a.address: "[fd00::1" is not an address and a port (for example "[fd00::10]:80")
address = "192.168.1.0/24"
    service.web.backend.a.address: "192.168.1.0/24" is not an IP address: one address is needed, not a
        network
address = "127.0.0.1:80"
    service.web.backend.a.address: 127.0.0.1 is a loopback address, which the kernel does not route
        between interfaces (an address of an interface is needed)
address = "192.0.2.10:80"
    service.web.backend.a.address: 192.0.2.10 is where the service itself listens: connections would
        loop, at m:2:1
address = "fd00::1"
    service.web.backend.a.address: the backend has an IPv6 address, and the service listens on none (add
        an IPv6 address to listen)
"""


@pytest.mark.parametrize(("lines", "expected"), cases(BACKENDS))
def test_a_backend(lines, expected):
    [problem] = problems(service(backend=lines))
    assert problem.split(": ", 1)[1] == expected
    assert problem.startswith("m:4:1: " if "address = " in lines and "[]" not in lines else "m:3:22: ")


NUMBERS = """
weight = -1
    weight: expected an integer from 0 to 65535, got the integer -1 (for example weight = 2)
weight = 65536
    weight: expected an integer from 0 to 65535, got the integer 65536 (for example weight = 2)
priority = 0
    priority: expected an integer from 1 to 255, got the integer 0 (for example priority = 2)
priority = 256
    priority: expected an integer from 1 to 255, got the integer 256 (for example priority = 2)
weight = 1180591620717411303424
    weight: expected an integer from 0 to 65535, got an integer beyond 64 bits (for example weight = 2)
"""


@pytest.mark.parametrize(("line", "expected"), cases(NUMBERS))
def test_a_number_of_a_backend(line, expected):
    text = service(backend=f"{GOOD_BACKEND}\n{line}")
    assert problems(text) == [f"m:5:1: service.web.backend.a.{expected}"]


def test_the_example_of_the_design():
    text = service(backend=f"{GOOD_BACKEND}\nwieght = 2")
    assert problems(text) == ['m:5:1: service.web.backend.a: unknown key "wieght" (did you mean "weight"?)']


MASKS = [
    ("0", 'a mask of 0 leaves no bit for the backends\' numbers (for example "0x0000ffff")'),
    ("-1", "a mask cannot be negative, like -1 (1 to 0xffffffff)"),
    ("0x1ffffffff", "0x1ffffffff is wider than a mark, which has 32 bits (1 to 0xffffffff)"),
    ('"0x1ffffffff"', "0x1ffffffff is wider than a mark, which has 32 bits (1 to 0xffffffff)"),
    ('"ffff"', '"ffff" is not a hexadecimal number (did you mean "0xffff"?)'),
    ('"lower"', '"lower" is not a hexadecimal number (for example "0x0000ffff")'),
    ("1.5", 'expected a hexadecimal string or an integer, got the number 1.5 (for example mask = "0x0000ffff")'),
    ("true", 'expected a hexadecimal string or an integer, got true (for example mask = "0x0000ffff")'),
]


@pytest.mark.parametrize(("mask", "expected"), MASKS)
def test_a_mask(mask, expected):
    assert problems(f"[marks]\nmask = {mask}\n{service()}") == [f"m:2:1: marks.mask: {expected}"]


NAMES = [
    ("Web", 'did you mean "web"?'),
    ('"web farm"', 'did you mean "web-farm"?'),
    ('"-web"', 'did you mean "web"?'),
    ('""', 'for example "web-1"'),
    (f'"{"x" * 64}"', f'did you mean "{"x" * 59}…"?'),
    ('"héllo\\n"', 'did you mean "h-llo"?'),
]


@pytest.mark.parametrize(("name", "suggestion"), NAMES)
def test_a_name(name, suggestion):
    rule = "a name is 1 to 63 of a-z, 0-9, _, . and -, and starts with a letter or digit"
    for text in (
        service().replace("service.web", f"service.{name}"),
        service().replace("backend.a", f"backend.{name}"),
    ):
        [problem] = problems(text)
        assert f"cannot be used: {rule} ({suggestion})" in problem
        assert "\n" not in problem


BY_TABLE = [
    ("", "m:1:1: the file is empty (write a table such as [service.web] or [shape.wan])"),
    ("# nothing\n[service]\n", ("m:1:1: the file asks for nothing (write a table such as [service.web] or "
     "[shape.wan])")),
    ("service = 5", "m:1:1: service: expected a table, got the integer 5"),
    ("[service]\nweb = 5", "m:2:1: service.web: expected a table, got the integer 5"),
    ("[[service.web]]\na = 1", ("m:1:11: service.web: expected a table, got a list (write [service.web] in single "
     "brackets)")),
    ("[guard.ssh]\n" + service(), 'm:1:8: guard.ssh: nothing is guarded (for example listen = "22/tcp")'),
    (('[guard.x]\nlisten = "20-30/tcp"\n[policy.y]\nfrom = "any"\nto = "self"\nverdict = "accept"\nsynproxy = true\n'
      'match = { protocol = "tcp", destination-port = 22 }\n'), ('m:1:8: guard.x: connections that policy "y" answers '
     '(synproxy) cannot be counted (count failures in logs instead, or leave synproxy out)')),
    ("[blocklist.x]\n" + service(), ('m:1:12: blocklist.x: nothing says where the list is (for example file = '
     '"/etc/markway/drones.txt")')),
    ('[blocklist.x]\nfile = "/x"\ndevices = []\n', ("m:3:1: blocklist.x.devices: by no device nothing is refused "
     "(leave it out for all)")),
    ('[blocklist.x]\nfile = "/x"\ndevices = "eth*"\n' + service(), ('m:3:1: blocklist.x.devices: "eth*" is a pattern, '
     'and one device is needed (for example "eth0")')),
    ("[services.x]\n" + service(), 'm:1:2: unknown key "services" (did you mean "service"?)'),
    ("[xyz]\n" + service(), ('m:1:2: unknown key "xyz" (there are marks, api, service, shape, mark, uplink, '
     "realm, zone, firewall, policy, guard, blocklist and allowlist)")),
    ("[service.web]\n" + GOOD_LISTEN, ("m:1:10: service.web: the service has no backend (write "
     "[service.web.backend.NAME] with its address)")),
    (service(listen=""), 'm:1:10: service.web: the service listens nowhere (for example listen = "192.0.2.10:80")'),
    (service(listen="listen = []"), ("m:1:10: service.web: the service listens nowhere (for example listen = "
     '"192.0.2.10:80")')),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BY_TABLE)
def test_a_table(text, expected):
    found = problems(text)
    assert found[0] == expected
    assert len(found) == 1 or text.startswith("service = ") or "web = 5" in text or "[[" in text


SYNTAX = [
    ('a = "x\n', "m:1:7: the string does not end on its line (close it, or use three quotes for several lines)"),
    ("a = '''x\n", "m:2:1: the string is never closed"),
    ("a = [1,\n2", "m:2:2: the list is never closed (a ] is missing)"),
    ("a = { b = 1", "m:1:12: the table is not closed here (a , or } is missing)"),
    ("a\n", "m:1:2: a = is expected after the key"),
    ("= 1\n", 'm:1:1: this is neither a key nor a table (for example [service.web] or mode = "dnat")'),
    ("a = reset\n", 'm:1:5: "reset" is not a value (a text needs quotes: "reset")'),
    ("a = \n", "m:1:5: a value is missing"),
    ('a = "\\d"', "m:1:8: a \\ in a string needs another one before it (or put the text in single quotes)"),
    ("a = 1 b = 2", "m:1:7: not TOML: Expected newline or end of document after a statement"),
    ("[x]\na.b = 1\na.b = 2\n", 'm:3:3: x.a.b: "b" is already defined, at m:2:3 (keep one of them)'),
    ("[x]\n[y]\n[x]\n", 'm:3:2: x: "x" is already defined, at m:1:2 (keep one of them)'),
    ("a = {b = 1, b = 2}\n", 'm:1:13: a.b: "b" is already defined, at m:1:6 (keep one of them)'),
    ("a = 1\n[a.b]\n", 'm:2:4: a.b: "a.b" is already something else'),
    ("a = 1979-02-30\n", "m:1:5: not TOML: Invalid date or datetime"),
]


@pytest.mark.parametrize(("text", "expected"), SYNTAX)
def test_syntax(text, expected):
    assert problems(text) == [expected]
