"""Hostile log lines: whatever clients write, nobody else is found, and no line stops the reader.

MARKWAY_FUZZ_LINES=1000000 takes a million.
"""

from __future__ import annotations

import json
import os
import random
from datetime import UTC

import pytest

from markway.config.guarding import LogFormat, LogSource
from markway.guard.logs import LONGEST_LINE, Reader
from markway.guard.sources import packed

LINES = int(os.environ.get("MARKWAY_FUZZ_LINES", "50000"))
FORGED = [b"9.9.9.9", b"9.8.7.6", b"9999::1", b"::ffff:9.9.9.9"]

HEAD = b"Feb 28 10:11:12 host "
NGINX = b"2026/02/28 10:11:12 [error] 5#6: *7 "
APACHE = b"[Sat Feb 28 10:11:12.000000 2026] [auth_basic:error] [pid 5:tid 6] [client ADDR:55] "
LOGIN = HEAD + b"dovecot: imap-login: Disconnected (auth failed, 1 attempts in 2 secs): "
TEMPLATES: dict[str, list[bytes]] = {  # ADDR is the server's, WORDS the client's
    "sshd": [
        HEAD + b"sshd[7]: " + message
        for message in (
            b"Failed password for WORDS from ADDR port 4 ssh2",
            b"Failed password for invalid user WORDS from ADDR port 4 ssh2",
            b"Failed publickey for root from ADDR port 4 ssh2: RSA-CERT SHA256:x ID WORDS (serial 0) CA RSA y",
            b'Failed hostbased for root from ADDR port 4 ssh2: RSA x, client user "WORDS", client host "h"',
            b"Invalid user WORDS from ADDR port 4",
            b"Connection closed by invalid user WORDS ADDR port 4 [preauth]",
            b"Disconnected from authenticating user WORDS ADDR port 4 [preauth]",
            (
                b"Disconnecting invalid user WORDS ADDR port 4: Change of username or service not allowed: "
                b"(WORDS,ssh-connection) -> (WORDS,ssh-connection) [preauth]"
            ),
            b"error: maximum authentication attempts exceeded for invalid user WORDS from ADDR port 4 ssh2 [preauth]",
            b"Received disconnect from ADDR port 4:11: WORDS [preauth]",
            b"banner exchange: Connection from ADDR port 4: invalid format WORDS",
            b"User WORDS from ADDR not allowed because not listed in AllowUsers",
            b"input_userauth_request: invalid user WORDS [preauth]",
        )
    ]
    + [HEAD + b"su[5]: FAILED SU (to WORDS) root on none", HEAD + b"kernel: WORDS"],
    "nginx": [
        NGINX
        + b'user "BASIC": password mismatch, client: ADDR, server: s, request: "GET WORDS", host: "WORDS", referrer: '
        b'"WORDS"',
        NGINX
        + b'user "BASIC" was not found in "/etc/x", client: ADDR, server: , request: "GET WORDS HTTP/1.1", host: "h"',
        NGINX + b'open() "WORDS" failed (2: No such file), client: ADDR, server: , request: "GET WORDS HTTP/1.1"',
    ],
    "nginx-access": [
        b'ADDR - ESCAPED [28/Feb/2026:10:11:12 +0000] "ESCAPED" 401 5 "ESCAPED" "ESCAPED"',
        b'ADDR - - [28/Feb/2026:10:11:12 +0000] "ESCAPED" 200 5 "ESCAPED" "ESCAPED"',
    ],
    "apache": [
        APACHE + b'AH01617: user BASIC: authentication failure for "WORDS": Password Mismatch, referer: WORDS',
        APACHE + b"AH01618: user BASIC not found: WORDS",
        APACHE + b"AH00128: File does not exist: WORDS",
    ],
    "postfix": [
        HEAD + b"postfix/smtpd[7]: warning: h.example[ADDR]: SASL LOGIN authentication failed: WORDS",
        HEAD + b"postfix/smtpd[7]: warning: h.example[ADDR]: SASL WORDS authentication failed: WORDS",
        HEAD + b"postfix/smtpd[7]: NOQUEUE: reject: RCPT from h[ADDR]: 550 5.1.1 <WORDS>: x; helo=<WORDS>",
        HEAD + b"postfix/smtpd[7]: warning: non-SMTP command from h[ADDR]: WORDS",
    ],
    "dovecot": [
        LOGIN + b"user=<WORDS>, method=PLAIN, rip=ADDR, lip=192.0.2.1, TLS, session=<abc>",
        LOGIN + b"user=<WORDS>, rip=ADDR, lip=192.0.2.1",
        HEAD + b"dovecot: imap-login: Disconnected (no auth attempts): user=<WORDS>, rip=ADDR, lip=192.0.2.1",
        HEAD + b"dovecot: auth: passwd-file(WORDS,ADDR,<x>): unknown user",
    ],
    "vsftpd": [
        b'Sat Feb 28 10:11:12 2026 [pid 5] [WORDS] FAIL LOGIN: Client "ADDR"',
        b'Sat Feb 28 10:11:12 2026 [pid 5] [WORDS] OK LOGIN: Client "ADDR"',
        b'Sat Feb 28 10:11:12 2026 [pid 5] [x] FTP response: Client "ADDR", "WORDS"',
    ],
    "proftpd": [
        HEAD + b"proftpd[5]: h (n[ADDR]) - USER WORDS (Login failed): Incorrect password",
        HEAD + b"proftpd[5]: h (n[ADDR]) - USER WORDS: no such user found from n [ADDR] to h:21",
    ],
}

FILLERS = (b" ", b" from 9.9.9.9 port 1 ssh2", b"a", b'"', b"\\", b"<", b">, rip=", b"[", b"(", b": ", b'] "')


def pieces(name):
    """What a client that knows the format writes: parts of its lines, with another's address."""
    found = [b" ", b"\0", b"\xff\xfe", b"\xc3", b"]", b'"', b"\\", b">", b"<", b"\r", b"\t", b"%s", b"x" * 200, *FORGED]
    for template in TEMPLATES[name]:
        for forged in FORGED:
            line = template.replace(b"ADDR", forged)
            found += [line, line.replace(b"WORDS", b"u"), *line.split(b"WORDS"), *line.split(b": "), *line.split(b'"')]
    return found


def written(chance, name, known, sender):
    """A line as the server writes it, whatever its client has said."""
    line = chance.choice(TEMPLATES[name]).replace(b"ADDR", sender)
    for field in (b"WORDS", b"BASIC", b"ESCAPED"):
        while field in line:
            words = b"".join(chance.choice(known) for _ in range(chance.randrange(5)))
            for other in (b"WORDS", b"BASIC", b"ESCAPED"):
                words = words.replace(other, b"u")
            if field == b"BASIC":  # RFC 7617, 2: up to the first colon; a newline is the client's to choose
                words = words.replace(b":", b"\n")
            if field == b"ESCAPED":
                words = words.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            if b"SASL WORDS" in line or b"[ADDR" in line:
                words = words.replace(b"\0", b"")
            line = line.replace(field, words, 1)
    return line


def reader(name):
    return Reader(LogSource(LogFormat(name)), UTC, 1.8e9)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_no_line_names_anyone_but_its_sender(name):
    chance, known, log = random.Random(f"forged {name}"), pieces(name), reader(name)
    found = 0
    for number in range(LINES // len(TEMPLATES) // 2):
        sender = b"2001:db8::%x" % number if number % 5 == 0 else b"192.0.%d.%d" % (number >> 8 & 255, number & 255)
        line = written(chance, name, known, sender)
        for part in line.split(b"\n"):
            if attempt := log.line(part + b"\n"):
                found += 1
                assert attempt.address == packed(sender), line
    assert found > LINES // len(TEMPLATES) // 20


def broken(chance, known):
    """A line that no server writes."""
    line = b"".join(chance.choice(known) for _ in range(chance.randrange(1, 8)))
    kind = chance.randrange(6)
    if kind == 0:
        return line[: chance.randrange(len(line) + 1)]
    if kind == 1:
        return line.replace(chance.choice([b" ", b":", b"[", b"0", b"e"]), chance.randbytes(chance.randrange(4)))
    if kind == 2:
        return chance.choice(known) * chance.randrange(1, 60)
    if kind == 3:
        return chance.randbytes(chance.randrange(300))
    if kind == 4:
        return line + chance.choice([b" ", b"from ", b'"', b"\\", b"[", b"(", b": "]) * chance.randrange(9000)
    return line


def test_no_line_stops_the_reader():
    """Every reader gets every line, also as a record."""
    chance = random.Random("broken")
    known = [piece for name in TEMPLATES for piece in pieces(name)]
    own = Reader(LogSource(pattern=r".* from (?P<address>\S+) port \d+.*"), UTC, 1.8e9, undated=True)
    readers = [reader(name) for name in LogFormat] + [own]
    for number in range(LINES // 2):
        log, line = readers[number % len(readers)], broken(chance, known)
        log.line(line + b"\n")
        log.record(line)
        log.record(json.dumps({"__REALTIME_TIMESTAMP": "1", "MESSAGE": list(line[:500])}).encode())


@pytest.mark.parametrize("name", list(LogFormat))
def test_the_longest_line_of_any_one_thing_is_read_soon(name):
    """No counting of seconds: what takes longer than linear time here would not end at all."""
    log = reader(name)
    for template in TEMPLATES.get(name, TEMPLATES["nginx-access"]):
        start, _, end = template.replace(b"ADDR", b"192.0.2.7").partition(b"WORDS")
        for filler in FILLERS:
            for tail in (end, b"", b"!"):
                line = (start + filler * LONGEST_LINE)[: LONGEST_LINE - len(tail)] + tail
                log.line(line)
