"""What logs say, line by line; and what clients would have them say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from markway.config.guarding import LogFormat, LogSource
from markway.guard.logs import LONGEST_LINE, Attempt, Reader

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
AT = datetime(2026, 2, 28, 10, 11, 12, tzinfo=UTC).timestamp()
SSHD = "Feb 28 10:11:12 host sshd[77]: "
POSTFIX = "Feb 28 10:11:12 host postfix/smtpd[77]: warning: "
DOVECOT = "Feb 28 10:11:12 host dovecot: "
NGINX = "2026/02/28 10:11:12 [error] 5#6: *7 "
APACHE = "[Sat Feb 28 10:11:12.000000 2026] [auth_basic:error] [pid 5:tid 6] [client 192.0.2.7:55] "
VSFTPD = "Sat Feb 28 10:11:12 2026 [pid 5] "


def reader(name, **options):
    return Reader(LogSource(LogFormat(name)), UTC, NOW, **options)


def read(name, *lines):
    """The failures that lines of a new log tell of."""
    log = reader(name)
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return [found for line in encoded if (found := log.line(line + b"\n"))]


def shown(found):
    return [(str(ip_address(each.address)), each.what, each.times) for each in found]


GOOD = [
    ("sshd", SSHD + "Failed password for root from 192.0.2.7 port 4 ssh2", "password"),
    ("sshd", SSHD + "Failed password for invalid user a b from 192.0.2.7 port 4 ssh2", "password"),
    ("sshd", SSHD + "Failed keyboard-interactive/pam for root from 192.0.2.7 port 4 ssh2", "password"),
    ("sshd", SSHD + "Invalid user admin from 192.0.2.7 port 4", "unknown user"),
    ("sshd", SSHD + "Invalid user  from 192.0.2.7 port 4", "unknown user"),
    ("sshd", SSHD + "Connection closed by authenticating user root 192.0.2.7 port 4 [preauth]", "gave up"),
    ("sshd", SSHD + "Connection reset by invalid user x y 192.0.2.7 port 4 [preauth]", "gave up"),
    ("sshd", SSHD + "Disconnected from invalid user  192.0.2.7 port 4 [preauth]", "gave up"),
    (
        "sshd",
        SSHD + "Disconnecting authenticating user root 192.0.2.7 port 4: Too many authentication failures [preauth]",
        "too many failures",
    ),
    (
        "sshd",
        SSHD + "error: maximum authentication attempts exceeded for root from 192.0.2.7 port 4 ssh2 [preauth]",
        "too many failures",
    ),
    ("sshd", SSHD + "ROOT LOGIN REFUSED FROM 192.0.2.7 port 4 [preauth]", "root refused"),
    (
        "sshd",
        "2026-02-28T11:11:12.000+01:00 host sshd-session[7]: Failed password for root from 192.0.2.7 port 4 ssh2",
        "password",
    ),
    (
        "sshd",
        "<38>1 2026-02-28T10:11:12Z host sshd 77 - - Failed password for root from 192.0.2.7 port 4 ssh2",
        "password",
    ),
    (
        "sshd",
        '<38>1 2026-02-28T10:11:12Z host sshd 77 ID1 [a@1 b="\\"]"][c] Invalid user q from 192.0.2.7 port 4',
        "unknown user",
    ),
    (
        "nginx",
        NGINX + 'user "u": password mismatch, client: 192.0.2.7, server: s, request: "GET / HTTP/1.1"',
        "password",
    ),
    (
        "nginx",
        NGINX + 'user "u" was not found in "/etc/x", client: 192.0.2.7, server: , request: "GET / HTTP/1.1", host: "h"',
        "unknown user",
    ),
    ("nginx-access", '192.0.2.7 - u [28/Feb/2026:11:11:12 +0100] "GET / HTTP/1.1" 401 179 "-" "-"', "401"),
    ("apache-access", '192.0.2.7 - - [28/Feb/2026:10:11:12 +0000] "GET /a\\"b HTTP/1.1" 403 -', "403"),
    ("apache", APACHE + 'AH01617: user u: authentication failure for "/": Password Mismatch', "password"),
    ("apache", APACHE + "AH01618: user u not found: /, referer: http://h/", "unknown user"),
    (
        "apache",
        APACHE.replace("[client", "(13)Permission denied: [client") + "AH01792: user `u': password mismatch: /",
        "password",
    ),
    ("postfix", POSTFIX + "unknown[192.0.2.7]: SASL LOGIN authentication failed: UGFzc3dvcmQ6", "password"),
    (
        "postfix",
        POSTFIX.replace("postfix/", "postfix-out/submission/")
        + "h.example[192.0.2.7]: SASL PLAIN authentication failed: generic failure, sasl_username=x",
        "password",
    ),
    (
        "vsftpd",
        VSFTPD + '[root] FAIL LOGIN: Client "::ffff:192.0.2.7"',
        "password",
    ),
    ("vsftpd", 'Feb 28 10:11:12 host vsftpd[5]: [root] FAIL LOGIN: Client "192.0.2.7"', "password"),
    (
        "proftpd",
        "Feb 28 10:11:12 host proftpd[5]: h (name[192.0.2.7]) - USER a (Login failed): Incorrect password",
        "password",
    ),
    (
        "proftpd",
        "2026-02-28 10:11:12,000 h proftpd[5]: h (n[192.0.2.7]) - USER a: no such user found from n [192.0.2.7]",
        "unknown user",
    ),
]


@pytest.mark.parametrize(("name", "line", "what"), GOOD)
def test_a_failure_is_found_with_its_time_and_address(name, line, what):
    assert read(name, line) == [Attempt(AT, ip_address("192.0.2.7").packed, what)]


@pytest.mark.parametrize(
    ("line", "times"),
    [
        (
            (
                "imap-login: Disconnected (auth failed, 3 attempts in 12 secs): user=<u>, method=PLAIN, rip=192.0.2.7, "
                "lip=192.0.2.1, TLS, session=<a/b+c>"
            ),
            3,
        ),
        (
            (
                "pop3-login: Disconnected: Connection closed: read(size=5) failed (auth failed, 1 attempts in 2 secs): "
                "user=<>, method=PLAIN, rip=192.0.2.7, lip=192.0.2.1, TLS: Connection closed, session=<a>"
            ),
            1,
        ),
        (
            (
                "imap-login: Login aborted: Connection closed (auth failed, 2 attempts in 4 secs) (auth_failed): "
                "user=<x>, method=LOGIN, rip=192.0.2.7, lip=192.0.2.1, session=<a>"
            ),
            2,
        ),
        ("managesieve-login: Aborted login (auth failed, 1 attempts): user=<x>, rip=192.0.2.7, lip=192.0.2.1", 1),
    ],
)
def test_a_line_of_dovecot_stands_for_its_attempts(line, times):
    assert shown(read("dovecot", DOVECOT + line)) == [("192.0.2.7", "password", times)]


NOTHING = [
    ("sshd", SSHD + "Accepted password for root from 192.0.2.7 port 4 ssh2"),
    ("sshd", SSHD + "Failed publickey for root from 192.0.2.7 port 4 ssh2: RSA SHA256:abc"),
    ("sshd", SSHD + "Failed none for invalid user x from 192.0.2.7 port 4 ssh2"),
    ("sshd", SSHD + "Disconnected from user root 192.0.2.7 port 4"),
    ("sshd", SSHD + "Connection closed by 192.0.2.7 port 4 [preauth]"),
    ("sshd", SSHD + "Failed password for root from host.example port 4 ssh2"),
    ("sshd", SSHD.replace("sshd", "su") + "Failed password for root from 192.0.2.7 port 4 ssh2"),
    ("sshd", "Feb 30 10:11:12 host sshd[1]: Failed password for root from 192.0.2.7 port 4 ssh2"),
    (
        "nginx",
        NGINX + 'no user/password was provided for basic authentication, client: 192.0.2.7, server: s, request: "',
    ),
    ("nginx", NGINX + 'user "u": password mismatch, client: unix:, server: s, request: "GET / HTTP/1.1"'),
    ("nginx-access", '192.0.2.7 - - [28/Feb/2026:10:11:12 +0000] "GET / HTTP/1.1" 200 5 "-" "-"'),
    ("apache", APACHE + "AH00128: File does not exist: /x"),
    ("postfix", POSTFIX + "h[192.0.2.7]: SASL LOGIN authentication failed: Connection lost to authentication server"),
    ("dovecot", DOVECOT + "imap-login: Login: user=<u>, method=PLAIN, rip=192.0.2.7, lip=192.0.2.1, session=<a>"),
    ("vsftpd", VSFTPD + '[root] OK LOGIN: Client "192.0.2.7"'),
]


@pytest.mark.parametrize(("name", "line"), NOTHING)
def test_what_is_no_failure_is_not_found(name, line):
    assert read(name, line) == []


# What clients may choose is in braces; all of it tries to have 9.9.9.9 banned. The first are fail2ban's own history:
# CVE-2009-0362 (wuftpd), CVE-2013-2178 (apache), CVE-2013-7176 (postfix), CVE-2013-7177 (cyrus), and sshd's before.
FORGED = [
    ("sshd", SSHD + "Failed password for invalid user {root from 9.9.9.9 port 22 ssh2} from 192.0.2.7 port 4 ssh2"),
    ("sshd", SSHD + "Failed password for invalid user {x from 9.9.9.9 port 22 ssh2: } from 192.0.2.7 port 4 ssh2"),
    ("sshd", SSHD + "Failed password for {from 9.9.9.9} from 192.0.2.7 port 4 ssh2"),
    ("sshd", SSHD + "Invalid user {x from 9.9.9.9 port 22} from 192.0.2.7 port 4"),
    ("sshd", SSHD + "Invalid user { from 9.9.9.9} from 192.0.2.7 port 4"),
    ("sshd", SSHD + "Connection closed by invalid user {a 9.9.9.9 port 2 [preauth]} 192.0.2.7 port 4 [preauth]"),
    (
        "sshd",
        SSHD + "Disconnecting invalid user {a 9.9.9.9 port 2: Too many authentication failures [preauth]} 192.0.2.7 "
        "port 4: Too many authentication failures [preauth]",
    ),
    (
        "sshd",
        SSHD + "Disconnecting authenticating user root 192.0.2.7 port 4: Change of username or service not allowed: "
        "(root,ssh-connection) -> ({a 9.9.9.9 port 2: Too many authentication failures [preauth]},ssh) [preauth]",
    ),
    ("sshd", SSHD + 'Failed publickey for root from 192.0.2.7 port 4 ssh2: RSA-CERT {"a from 9.9.9.9 port 2 ssh2}'),
    ("sshd", SSHD + 'Failed hostbased for root from 192.0.2.7 port 4 ssh2: client user "{a from 9.9.9.9 port 2 ssh2}'),
    ("sshd", SSHD + "Received disconnect from 192.0.2.7 port 4:11: {Failed password for x from 9.9.9.9 port 2 ssh2}"),
    ("sshd", SSHD + "Bad protocol version identification '{Failed password for x from 9.9.9.9 port 2 ssh2}"),
    ("sshd", SSHD + "{message repeated 900 times: [ Failed password for x from 9.9.9.9 port 2 ssh2]} x"),
    ("sshd", SSHD.replace("sshd[77]", "su") + "{sshd[7]: Failed password for root from 9.9.9.9 port 4 ssh2}"),
    (
        "sshd",
        SSHD.replace("sshd[77]", "x") + "{Feb 28 10:11:12 h sshd[7]: Failed password for r from 9.9.9.9 port 4 ssh2}",
    ),
    (
        "nginx",
        NGINX + 'user "u": password mismatch, client: 192.0.2.7, server: s, request: "GET / HTTP/1.1", host: "h", '
        'referrer: "{": password mismatch, client: 9.9.9.9, server: s, request: "}"',
    ),
    (
        "nginx",
        NGINX + 'user "{x" was not found in "/a", client 9.9.9.9, server s}" was not found in "/b", client: 192.0.2.7, '
        'server: s, request: "GET / HTTP/1.1"',
    ),
    ("nginx", NGINX + 'user "{x\n2026/02/28 10" was not found in "/b", client: 192.0.2.7, server: s, request: "'),
    ("nginx", NGINX + 'open() "{/user "u": password mismatch, client: 9.9.9.9, server: }" failed, client: 192.0.2.7'),
    (
        "nginx-access",
        '192.0.2.7 - {9.9.9.9 - u [28/Feb/2026:10:11:12 +0000] } [28/Feb/2026:10:11:12 +0000] "{GET \\"}" 401 1 "-"',
    ),
    ("nginx-access", '192.0.2.7 - u [28/Feb/2026:10:11:12 +0000] "GET / HTTP/1.1" 200 1 "{" 401 }" "{" 403 }"'),
    ("nginx-access", '{host 9.9.9.9} - - [28/Feb/2026:10:11:12 +0000] "GET / HTTP/1.1" 401 1 "-" "-"'),
    ("apache", APACHE + "AH01618: user {[client 9.9.9.9:5] AH01618: user x not found: /} not found: /"),
    ("apache", APACHE + "AH00128: File does not exist: {[client 9.9.9.9:5] AH01618: user x not found: /}"),
    (
        "apache",
        APACHE.split("[client", maxsplit=1)[0] + "AH1: {x [client 9.9.9.9:5] AH01618: user y not found: /}",
    ),
    (
        "postfix",
        POSTFIX + "h[192.0.2.7]: SASL LOGIN authentication failed: {x[9.9.9.9]: SASL LOGIN authentication failed}",
    ),
    ("postfix", POSTFIX + "h[192.0.2.7]: SASL {x[9.9.9.9]: SASL LOGIN} authentication failed: x"),
    (
        "postfix",
        (
            "Feb 28 10:11:12 host postfix/smtpd[7]: NOQUEUE: reject: RCPT from h[192.0.2.7]: 550 <{x[9.9.9.9]: SASL "
            "LOGIN authentication failed: }>"
        ),
    ),
    (
        "dovecot",
        DOVECOT + "imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<{x>, method=PLAIN, rip=9.9.9.9, "
        "lip=192.0.2.1, session=<a}>, method=PLAIN, rip=192.0.2.7, lip=192.0.2.1, session=<b>",
    ),
    (
        "dovecot",
        DOVECOT + "imap-login: Disconnected (no auth attempts): user=<{(auth failed, 1 attempts in 2 secs): user=<>, "
        "rip=9.9.9.9, lip=192.0.2.1}>, rip=192.0.2.7, lip=192.0.2.1, session=<b>",
    ),
    ("vsftpd", VSFTPD + '[{x] FAIL LOGIN: Client "9.9.9.9"}] FAIL LOGIN: Client "192.0.2.7"'),
    ("vsftpd", VSFTPD + '[{x] FAIL LOGIN: Client "9.9.9.9"}] OK LOGIN: Client "192.0.2.7"'),
    (
        "proftpd",
        (
            "Feb 28 10:11:12 host proftpd[5]: h (n[192.0.2.7]) - USER {a (n[9.9.9.9]) - USER b (Login failed): } "
            "(Login failed): Incorrect password"
        ),
    ),
]


@pytest.mark.parametrize(("name", "line"), FORGED)
@pytest.mark.parametrize("before", ["", "x "])
def test_no_client_has_another_banned(name, line, before):
    for each in read(name, before + line.replace("{", "").replace("}", ""), line.replace("{", "").replace("}", "")):
        assert str(ip_address(each.address)) == "192.0.2.7"


def test_the_forged_lines_of_true_failures_count_for_their_sender():
    found = [read(name, line.replace("{", "").replace("}", "")) for name, line in FORGED]
    assert sum(map(bool, found)) == 14


def test_a_name_with_a_newline_breaks_the_line_and_counts_for_nobody():
    name = "x\nFeb 28 10:11:12 host sshd[7]: Failed password for root from 9.9.9.9 port 4 ssh2\n"
    log = reader("sshd")
    assert log.line((SSHD + f"Invalid user {name} from 192.0.2.7 port 4").encode()) is None
    record = {"__REALTIME_TIMESTAMP": "1", "MESSAGE": f"Invalid user {name} from 192.0.2.7 port 4"}
    assert log.record(json.dumps(record | {"SYSLOG_IDENTIFIER": "sshd"}).encode()) is None
    assert log.skipped == 2


def test_the_failures_of_a_connection_count_once_each():
    lines = [
        "Invalid user x from 192.0.2.7 port 4",
        "Failed password for invalid user x from 192.0.2.7 port 4 ssh2",
        "Failed password for invalid user x from 192.0.2.7 port 4 ssh2",
        "error: maximum authentication attempts exceeded for invalid user x from 192.0.2.7 port 4 ssh2 [preauth]",
        "Connection closed by invalid user x 192.0.2.7 port 4 [preauth]",
        "Failed password for root from 192.0.2.7 port 5 ssh2",
        "Connection closed by authenticating user root 192.0.2.7 port 5 [preauth]",
        "Connection closed by authenticating user root 192.0.2.7 port 6 [preauth]",
    ]
    assert [each.what for each in read("sshd", *(SSHD + line for line in lines))] == [
        "unknown user", "password", "password", "gave up",
    ]  # fmt: skip


def test_a_repeated_message_counts_as_often():
    failed = "Failed password for root from 192.0.2.7 port 4 ssh2"
    found = read("sshd", SSHD + failed, SSHD + f"message repeated 4 times: [ {failed}]")
    assert [each.times for each in found] == [1, 4]


@pytest.mark.parametrize("size", [LONGEST_LINE + 1, 3_000_000])
def test_a_line_that_is_too_long_is_skipped(size):
    log = reader("sshd")
    start, end = SSHD.encode() + b"Invalid user ", b" from 192.0.2.7 port 4"
    assert log.line(start + b"x" * (size - len(start + end)) + end) is None
    assert log.skipped == 1
    assert log.line(start + b"x" * (LONGEST_LINE - len(start + end)) + end + b"\n") is not None


def test_records_of_the_journal_have_their_own_time():
    record = {"__REALTIME_TIMESTAMP": "1700000000250000", "SYSLOG_IDENTIFIER": "sshd-session", "_PID": "5"}
    message = "Failed password for root from 2001:db8::1 port 4 ssh2"
    log = reader("sshd")
    for value in (message, list(message.encode())):
        found = log.record(json.dumps(record | {"MESSAGE": value}).encode())
        assert found == Attempt(1700000000.25, ip_address("2001:db8::1").packed, "password")
    assert log.record(json.dumps(record | {"MESSAGE": message, "SYSLOG_IDENTIFIER": "su"}).encode()) is None
    assert log.skipped == 0


@pytest.mark.parametrize(
    "record",
    [
        b"", b"{", b"[]", b"5", b"null", b"{}", b"[" * 60000, b"\xff\xfe", b"{" + b" " * 70000 + b"}",
        b'{"__REALTIME_TIMESTAMP":"x","MESSAGE":"y"}', b'{"__REALTIME_TIMESTAMP":"1","MESSAGE":null}',
        b'{"__REALTIME_TIMESTAMP":"1","MESSAGE":[300]}', b'{"__REALTIME_TIMESTAMP":1e400,"MESSAGE":"y"}',
        b'{"__REALTIME_TIMESTAMP":"' + b"9" * 400 + b'","MESSAGE":"y"}',
    ],
)  # fmt: skip
def test_a_broken_record_is_skipped(record):
    log = reader("sshd")
    assert log.record(record) is None
    assert log.skipped == 1


def test_an_own_pattern_fits_whole_lines():
    log = Reader(LogSource(pattern=r"(?P<date>\S+ \S+) login of .* from (?P<address>\S+) failed"), UTC, NOW)
    assert log.line(b"2026-02-28 10:11:12 login of x from 192.0.2.7 failed\n") == Attempt(
        AT, ip_address("192.0.2.7").packed, "pattern"
    )
    assert log.line(b"2026-02-28 10:11:12 login of x from 9.9.9.9 failed from 192.0.2.7 failed") is not None
    assert log.line(b"2026-02-28 10:11:12 login of x from 9.9.9.9 failed and more") is None
    assert log.line(b"2026-02-28 10:11:12 login of x from nowhere failed") is None
    assert log.skipped == 0


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("", b"2026-02-28T10:11:12Z"),
        ("", b"[Sat Feb 28 10:11:12 2026]"),
        ("%s", b"1772273472"),
        ("%d.%m.%Y %H-%M-%S", b"28.02.2026 10-11-12"),
        ("%d.%m. %H-%M-%S", b"28.02. 10-11-12"),
    ],
)
def test_an_own_pattern_takes_the_date_at_the_head(form, line):
    log = Reader(LogSource(pattern=r".* (?P<address>\S+)", date=form), UTC, NOW)
    found = log.line(line + b" 192.0.2.7")
    assert found is not None
    assert found.time == AT


@pytest.mark.parametrize("form", ["", "%Y", "%s", "%d/%m"])
def test_a_line_without_a_date_counts_now_or_not_at_all(form):
    source = LogSource(pattern=r"x (?P<address>\S+)", date=form)
    log = Reader(source, UTC, NOW)
    assert log.line(b"x 192.0.2.7") is None
    assert log.skipped == 1
    found = Reader(source, UTC, NOW, undated=True).line(b"x 192.0.2.7")
    assert found is not None
    assert found.time == NOW
