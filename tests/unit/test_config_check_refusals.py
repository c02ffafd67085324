"""Every refusal of a check, word for word, as in test_config_refusals."""

from __future__ import annotations

import pytest
from tests.unit.test_config_refusals import cases, problems, service

CHECKS = r"""
every = "2s"
    2:1: service.web.check: nothing says how to ask (there are `tcp`, `udp`, `http`, `https`, `dns`,
        `ping`, `smtp`, `mysql`, `postgresql`, `redis`, `command` and `agent`)
tcp = true, ping = true
    2:1: service.web.check: "tcp" and "ping" at once: only one can ask (keep one)
tcp = false
    2:11: service.web.check.tcp: expected true, got false (for example tcp = true)
tcp = "yes"
    2:11: service.web.check.tcp: expected true, got the string "yes" (for example tcp = true)
htp = "/"
    2:11: service.web.check: unknown key "htp" (did you mean "http"?)
http = 5, status = 200
    2:11: service.web.check.http: expected a path, got the integer 5 (for example http = "/health")
http = ""
    2:11: service.web.check.http: "" is no path: it starts with a / (did you mean "/"?)
http = "health"
    2:11: service.web.check.http: "health" is no path: it starts with a / (did you mean "/health"?)
http = "http://192.168.1.10/health"
    2:11: service.web.check.http: the backend's address is known: the path is enough (did you mean
        "/health"?)
https = "/", sni = "www.example.org:443"
    2:24: service.web.check.sni: "www.example.org:443" is not a server's name (did you mean
        "www.example.org"?)
https = "/", sni = "what is this"
    2:24: service.web.check.sni: "what is this" is not a server's name (for example "www.example.org")
https = "/", verify = false, ca = "/etc/ssl/ca.pem"
    2:40: service.web.check.ca: a check that does not verify has no use for it (leave out verify =
        false)
https = "/", ca = "ca.pem"
    2:24: service.web.check.ca: "ca.pem" depends on where the daemon runs (for example
        "/etc/markway/ca.pem")
https = "/", ca = ""
    2:24: service.web.check.ca: an empty text means nothing (leave it out)
https = "/", expiry-warning = "30m"
    2:24: service.web.check.expiry-warning: "30m" is too short (1h to 365d)
https = "/", expiry-warning = "2y"
    2:24: service.web.check.expiry-warning: "2y" has the unknown unit "y" (the units are s, m, h, d and
        w)
https = "/", expiry-warning = "520w"
    2:24: service.web.check.expiry-warning: "520w" is too long (1h to 365d)
http = "/", sni = "www.example.org"
    2:23: service.web.check.sni: a check by http has no use for it (it is for https)
http = "/", verify = true
    2:23: service.web.check.verify: a check by http has no use for it (it is for https)
http = "/", host = "http://www.example.org/"
    2:23: service.web.check.host: "http://www.example.org/" is more than a host (did you mean
        "www.example.org"?)
http = "/", host = "www example org"
    2:23: service.web.check.host: "www example org" is not a host's name (for example "www.example.org")
http = "/", host = ""
    2:23: service.web.check.host: "" is not a host's name (for example "www.example.org")
http = "/", status = "2xx"
    2:23: service.web.check.status: "2xx" is no HTTP status (did you mean "200-299"?)
http = "/", status = "200, 301"
    2:23: service.web.check.status: "200, 301" is no HTTP status (did you mean "200,301"?)
http = "/", status = "fine"
    2:23: service.web.check.status: "fine" is no HTTP status (for example "200-299,401")
http = "/", status = 700
    2:23: service.web.check.status: "700" is no HTTP status (for example "200-299,401")
http = "/", status = "399-200"
    2:23: service.web.check.status: the range "399-200" runs backwards (did you mean "200-399"?)
http = "/", status = true
    2:23: service.web.check.status: expected a status or ranges of them, got true (for example status =
        "200-299,401")
http = "/", body = "(ok"
    2:23: service.web.check.body: "(ok" is no regular expression: missing ), unterminated subpattern at
        position 0
http = "/", body = "a{99999999999999}"
    2:23: service.web.check.body: "a{99999999999999}" is no regular expression: the repetition number is
        too large
http = "/", body = ""
    2:23: service.web.check.body: an empty pattern is in every body (leave it out)
http = "/", send = "GET /"
    2:23: service.web.check.send: a check by http has no use for it (it is for tcp and udp)
http = "/", record = "A"
    2:23: service.web.check.record: a check by http has no use for it (it is for dns)
tcp = true, status = 200
    2:23: service.web.check.status: a check by tcp has no use for it (it is for http and https)
tcp = true, send = ""
    2:23: service.web.check.send: an empty text is nothing (leave it out)
tcp = true, send = '\q'
    2:23: service.web.check.send: '\q' means nothing (there are \xHH, \r, \n, \t, \0 and \\)
tcp = true, send = '\x1'
    2:23: service.web.check.send: '\x' means nothing (there are \xHH, \r, \n, \t, \0 and \\)
tcp = true, send = 'PING\'
    2:23: service.web.check.send: '\' means nothing (there are \xHH, \r, \n, \t, \0 and \\)
tcp = true, send = "\u0000\u00ff"
    2:23: service.web.check.send: "ÿ" could be one byte or two (in single quotes: '\xff' or '\xc3\xbf')
tcp = true, expect = "é"
    2:23: service.web.check.expect: "é" could be one byte or two (in single quotes: '\xe9' or
        '\xc3\xa9')
udp = true
    2:1: service.web.check: a check by udp has to send something (for example send = 'ping\n')
udp = true, send = 5
    2:23: service.web.check.send: expected a string, got the integer 5 (for example send = 'PING\r\n')
udp = true, send = "\d"
    2:33: a \ in a string needs another one before it (or put the text in single quotes)
dns = "example..org"
    2:11: service.web.check.dns: "example..org" is not a name that can be asked for (for example
        "example.org")
dns = ""
    2:11: service.web.check.dns: "" is not a name that can be asked for (for example "example.org")
dns = "example.org", record = "a"
    2:32: service.web.check.record: expected "A", "AAAA", "MX", "NS", "SOA" or "TXT", got "a" (did you
        mean "A"?)
dns = "example.org", record = "PTR"
    2:32: service.web.check.record: expected "A", "AAAA", "MX", "NS", "SOA" or "TXT", got "PTR"
ping = true, port = 80
    2:24: service.web.check.port: a check by ping has no use for it (leave it out)
agent = 8888, port = 8889
    2:25: service.web.check.port: a check by agent has no use for it (leave it out)
agent = true
    2:11: service.web.check.agent: expected an integer from 1 to 65535, got true (for example agent =
        8888)
agent = 70000
    2:11: service.web.check.agent: expected an integer from 1 to 65535, got the integer 70000 (for
        example agent = 8888)
smtp = true, user = "me"
    2:24: service.web.check.user: a check by smtp has no use for it (it is for mysql and postgresql)
redis = true, user = "me"
    2:25: service.web.check.user: a check by redis has no use for it (it is for mysql and postgresql)
redis = true, password-file = "redis.password"
    2:25: service.web.check.password-file: "redis.password" depends on where the daemon runs (for
        example "/etc/markway/redis.password")
mysql = true, password-file = "/etc/markway/db.password"
    2:25: service.web.check.password-file: a check without a user has no use for it (name one: user =
        "markway")
mysql = true, user = ""
    2:25: service.web.check.user: an empty text means nothing (leave it out)
mysql = true, user = "a\nb"
    2:25: service.web.check.user: "a\u000ab" has a character that cannot be seen
mysql = true, user = "m", database = "shop"
    2:37: service.web.check.database: a check by mysql has no use for it (it is for postgresql)
postgresql = true, database = "shop"
    2:30: service.web.check.database: a check without a user has no use for it (name one: user =
        "markway")
command = "/bin/true"
    2:11: service.web.check.command: expected a list of strings, got the string "/bin/true" (for example
        command = ["/usr/local/lib/check-shop", "--quick"])
command = []
    2:11: service.web.check.command: there is no program (for example command = ["/bin/true"])
command = ["check shop"]
    2:22: service.web.check.command[0]: "check shop" is one word, the program's (did you mean ["check",
        "shop"]?)
command = ["./check", "--quick"]
    2:22: service.web.check.command[0]: "./check" depends on where the daemon runs (write the whole
        path, or the name alone)
command = ["/bin/echo", "\u0000"]
    2:35: service.web.check.command[1]: a NUL byte cannot be in an argument
command = ["/bin/echo", 5]
    2:35: service.web.check.command[1]: expected a string, got the integer 5 (for example
        "/usr/local/lib/check-shop")
command = ["/bin/true"], expect = "ok"
    2:36: service.web.check.expect: a check by command has no use for it (it is for tcp and udp)
tcp = true, every = "10ms"
    2:23: service.web.check.every: "10ms" is too short (50ms to 1d)
tcp = true, every = "2d"
    2:23: service.web.check.every: "2d" is too long (50ms to 1d)
tcp = true, every = 2
    2:23: service.web.check.every: expected a duration with its unit, got the integer 2 (did you mean
        "2s"?)
tcp = true, every = "1s", fast = "2s"
    2:37: service.web.check.fast: longer than every, which is 1 s (for example fast = "0.25s")
tcp = true, timeout = "0s"
    2:23: service.web.check.timeout: "0s" is too short (50ms to 1d)
tcp = true, rise = 0
    2:23: service.web.check.rise: expected an integer from 1 to 100, got the integer 0 (for example rise
        = 2)
tcp = true, fall = 101
    2:23: service.web.check.fall: expected an integer from 1 to 100, got the integer 101 (for example
        fall = 3)
tcp = true, jitter = 60
    2:23: service.web.check.jitter: expected an integer from 0 to 50, got the integer 60 (for example
        jitter = 0)
tcp = true, passive = "no"
    2:23: service.web.check.passive: expected true or false, got the string "no" (for example passive =
        false)
tcp = true, port = 0
    2:23: service.web.check.port: expected an integer from 1 to 65535, got the integer 0 (for example
        port = 8080)
tcp = true, fal = 3
    2:23: service.web.check: unknown key "fal" (did you mean "fall"?)
https = ""
    2:11: service.web.check.https: "" is no path: it starts with a / (did you mean "/"?)
postgresql = true, user = "m", database = ""
    2:42: service.web.check.database: an empty text means nothing (leave it out)
"""


@pytest.mark.parametrize(("keys", "expected"), cases(CHECKS))
def test_in_a_check(keys, expected):
    [problem] = problems(service(f"check = {{ {keys} }}"))
    assert problem == f"m:{expected}"


PORTLESS = """
check = { redis = true }
    check: backend "a" has no port of its own, so nothing says where to ask (for example port = 6379)
check = { tcp = true }
    check: backend "a" has no port of its own, so nothing says where to ask (for example port = 80)
load = { http = "/load.json", field = "load" }
    load: backend "a" has no port of its own, so nothing says where to ask (for example port = 80)
"""


@pytest.mark.parametrize(("line", "expected"), cases(PORTLESS))
def test_a_backend_without_a_port(line, expected):
    assert problems(service(line, backend='address = "192.168.1.10"')) == [f"m:2:1: service.web.{expected}"]


def test_cut_orphans_of_udp():
    assert problems(service('orphans = "cut"', listen='listen = "192.0.2.10:53/udp"')) == [
        "m:2:1: service.web.orphans: the service has no TCP connections; UDP flows always move (leave it out)"
    ]


WHERE_ELSE = [
    ("http = 5, status = 200, port = 0", ["http", "port"]),
    ("tcp = true, body = '(', ca = 'ca.pem'", ["body", "ca"]),
    ("tcp = true, every = 'x', fast = 'y', timeout = 'z'", ["every", "fast", "timeout"]),
    ("https = '', sni = '', body = ''", ["https", "sni", "body"]),
]


@pytest.mark.parametrize(("keys", "wrong"), WHERE_ELSE)
def test_each_wrong_key_is_reported_once(keys, wrong):
    found = [problem.split(": ")[1] for problem in problems(service(f"check = {{ {keys} }}"))]
    assert found == [f"service.web.check.{key}" for key in wrong]


def test_bytes_are_not_endless():
    [problem] = problems(service(f"check = {{ tcp = true, send = '{'x' * 65508}' }}"))
    assert problem.endswith("service.web.check.send: 65508 bytes are too many (at most 65507 are looked at)")
