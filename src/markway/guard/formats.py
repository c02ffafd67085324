"""What failures look like in the logs of the usual servers.

A client chooses its user name, and often more of a line: it may write `root from 192.0.2.1 port 22 ssh2` there. So each
pattern is for the whole message, and says why the address that it finds is the one that the server put there: because
all before it is the server's, or all behind it, or because what is the client's cannot hold a character that the way to
the address has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.config.guarding import LogFormat
from markway.guard import dates

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADDRESS = rb"(?P<address>[^\s\[\]()<>\"',]{2,64})"
_PORT = rb"(?P<port>\d{1,5})"


@dataclass(frozen=True, slots=True)
class Failure:
    """One kind of message.

    `pattern` fits the whole message. It has the group `address`; perhaps `times`, how many failures the message stands
    for; and, where one connection has several messages, `port`. A `sign` says of a connection that it failed without
    saying how often: it counts if nothing else of the connection has counted yet.
    """

    what: str
    pattern: re.Pattern[bytes]
    sign: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """How the lines of a log look.

    `needles` are in every line that counts: of each tuple, one. The first of `lines` that fits takes a line apart into
    the groups `date`, `message` and perhaps `program`, which has to be one of `programs`. `failures` are the kinds of
    messages, by their first word; b"" stands for any.
    """

    needles: tuple[tuple[bytes, ...], ...]
    lines: tuple[re.Pattern[bytes], ...]
    failures: Mapping[bytes, tuple[Failure, ...]]
    programs: frozenset[bytes] = frozenset()


SYSLOG = re.compile(
    rb"(?:<\d{1,3}>)?(?P<date>" + dates.TRADITIONAL + rb"|" + dates.ISO + rb") [^\s\[\]]+ "
    rb"(?P<program>[^\s\[\]:]+)(?:\[\d+\])?: (?P<message>.*)",
    re.DOTALL,
)
"""`<34>`, the priority, is seldom there. All before the message is the log's own."""

SYSLOG_5424 = re.compile(
    rb"<\d{1,3}>1 (?P<date>" + dates.ISO + rb") \S+ (?P<program>\S+) \S+ \S+ "
    rb'(?:-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*+")*+\])++) (?:\xef\xbb\xbf)?(?P<message>.*)',
    re.DOTALL,
)
"""RFC 5424, 6."""

_SYSLOGS = (SYSLOG, SYSLOG_5424)


def _failure(what: str, pattern: bytes, *, sign: bool = False) -> Failure:
    pattern = pattern.replace(b"ADDRESS", _ADDRESS).replace(b"PORT", _PORT)
    return Failure(what, re.compile(pattern), sign)


def _sign(what: str, pattern: bytes) -> Failure:
    return _failure(what, pattern, sign=True)


# The user's name is before the address, and may be anything; behind the port comes only what sshd puts there, so the
# last address is the one. (`Failed publickey` and `Failed hostbased` go on with the client's words. A key that is not
# accepted is no failure either: the next one may be.)
_SSHD = Format(
    (
        (b"sshd",),
        (b" port ",),
        (b"Failed ", b"Invalid user ", b"ing user ", b"invalid user ", b"error: maximum ", b"ROOT LOGIN "),
    ),
    _SYSLOGS,
    {
        b"Failed": (
            _failure(
                "password",
                rb"Failed (?:password|keyboard-interactive|challenge-response)(?:/\S{1,32})? for .* "
                rb"from ADDRESS port PORT(?: ssh2)?",
            ),
        ),
        b"Invalid": (_sign("unknown user", rb"Invalid user .* from ADDRESS port PORT"),),
        b"Connection": (
            _sign(
                "gave up",
                rb"Connection (?:closed|reset) by (?:authenticating|invalid) user .* ADDRESS port PORT \[preauth\]",
            ),
        ),
        b"Disconnected": (
            _sign("gave up", rb"Disconnected from (?:authenticating|invalid) user .* ADDRESS port PORT \[preauth\]"),
        ),
        b"Disconnecting": (
            _sign(
                "too many failures",
                rb"Disconnecting (?:authenticating|invalid) user .* ADDRESS port PORT: "
                rb"Too many authentication failures \[preauth\]",
            ),
        ),
        b"error:": (
            _sign(
                "too many failures",
                rb"error: maximum authentication attempts exceeded for .* from ADDRESS port PORT ssh2 \[preauth\]",
            ),
        ),
        b"ROOT": (_sign("root refused", rb"ROOT LOGIN REFUSED FROM ADDRESS port PORT(?: \[preauth\])?"),),
    },
    frozenset({b"sshd", b"sshd-session", b"sshd-auth"}),
)

# A user's name of basic authentication ends at the first colon (RFC 7617, 2), so `, client: ` is none of its own; what
# comes behind the address is skipped. A name with a newline breaks the line in two, neither of which is one.
_NGINX = Format(
    ((b' user "',), (b", client: ",)),
    (re.compile(rb"(?P<date>" + dates.SLASHED + rb") \[error\] \d+#\d+: (?:\*\d+ )?(?P<message>.*)", re.DOTALL),),
    {
        b"user": (
            _failure("password", rb'user "[^:]*": password mismatch, client: ADDRESS, server: .*'),
            _failure("unknown user", rb'user "[^:]*" was not found in "[^:"]*", client: ADDRESS, server: .*'),
        ),
    },
)

# The address comes first. A quote within the user's name or the request is escaped by nginx and Apache alike, so the
# first plain one begins the request.
_ACCESS = Format(
    ((b'" 401 ', b'" 403 '),),
    (re.compile(rb'(?P<message>\S++ \S++ [^"]*\[(?P<date>[^\]"]++)\] ".*)', re.DOTALL),),
    {b"": (
        _failure("401", rb'ADDRESS \S++ [^"]*\[[^\]"]++\] "(?:[^"\\]|\\.)*+" 401 .*'),
        _failure("403", rb'ADDRESS \S++ [^"]*\[[^\]"]++\] "(?:[^"\\]|\\.)*+" 403 .*'),
    )},
)  # fmt: skip

# The address comes before all that is the client's. The numbers are of mod_auth_basic.c and mod_auth_digest.c.
_APACHE = Format(
    ((b" AH01",), (b"[client ",)),
    (
        re.compile(
            rb"\[(?P<date>" + dates.CTIME + rb")\] \[[\w-]+:\w+\] \[pid [^\]]*\] (?:\(\d+\)[^:\[]*: )?(?P<message>.*)",
            re.DOTALL,
        ),
    ),
    {
        b"[client": (
            _failure("password", rb"\[client ADDRESS:\d{1,5}\] AH(?:01617|01792): .*"),
            _failure("unknown user", rb"\[client ADDRESS:\d{1,5}\] AH(?:01618|01790|01791): .*"),
            _failure("wrong scheme", rb"\[client ADDRESS:\d{1,5}\] AH(?:01614|01793): .*"),
        ),
    },
)

# The client's name from the DNS has no brackets (RFC 1123, 2.1, which Postfix checks), and its words come behind.
_POSTFIX = Format(
    ((b"]: SASL ",),),
    _SYSLOGS,
    {
        b"warning:": (
            _failure(
                "password",
                rb"warning: [^\s\[\]]*\[ADDRESS\](?::\d{1,5})?: SASL \S{1,64} authentication failed"
                rb"(?!: Connection lost to authentication server|: Invalid authentication mechanism).*",
            ),
        ),
    },
    frozenset({b"postfix/smtpd"}),
)

# The last `>, ` with the server's words behind it, in which there are no more angles than the session's.
_DOVECOT = Format(
    ((b"(auth failed, ",), (b" rip=",)),
    _SYSLOGS,
    {
        b"": (
            _failure(
                "password",
                rb"(?:imap|pop3|submission|managesieve)-login: (?:Info: )?[^<]*?\(auth failed, (?P<times>\d{1,3}) "
                rb"attempts[^<]*: user=<.*>,(?: method=[\w-]*,)? rip=ADDRESS, lip=[^<>,]*"
                rb"(?:, [^<>]*)?(?:, session=<[^<>\s]*>)?",
            ),
        ),
    },
    frozenset({b"dovecot"}),
)

# The end of the line is the server's; where it logs all commands, there is a `Client "` before the client's words, too.
_VSFTPD = Format(
    ((b'] FAIL LOGIN: Client "',),),
    (re.compile(rb"(?P<date>" + dates.CTIME + rb") \[pid \d+\] (?P<message>.*)", re.DOTALL), *_SYSLOGS),
    {b"": (_failure("password", rb'\[(?:(?!Client ").)*\] FAIL LOGIN: Client "ADDRESS"'),)},
    frozenset({b"vsftpd"}),
)

# The session's address comes before the client's words.
_PROFTPD = Format(
    ((b"proftpd",), (b" USER ",)),
    _SYSLOGS,
    {b"": (
        _failure("unknown user", rb"[^\s\[\]()]+ \([^\s\[\]()]*\[ADDRESS\]\) - USER .*: no such user found .*"),
        _failure("password", rb"[^\s\[\]()]+ \([^\s\[\]()]*\[ADDRESS\]\) - USER .* \(Login failed\): .*"),
    )},
    frozenset({b"proftpd"}),
)  # fmt: skip

FORMATS: Mapping[LogFormat, Format] = {
    LogFormat.SSHD: _SSHD,
    LogFormat.NGINX: _NGINX,
    LogFormat.NGINX_ACCESS: _ACCESS,
    LogFormat.APACHE: _APACHE,
    LogFormat.APACHE_ACCESS: _ACCESS,
    LogFormat.POSTFIX: _POSTFIX,
    LogFormat.DOVECOT: _DOVECOT,
    LogFormat.VSFTPD: _VSFTPD,
    LogFormat.PROFTPD: _PROFTPD,
}
