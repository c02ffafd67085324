"""The parts of checks that need no network: encodings, proofs and what an agent says."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import pytest

from markway.config.model import Check, CheckKind
from markway.director.checks import http, mysql, ping, tls
from markway.director.checks.agent import understood
from markway.director.checks.dns import question_of, wrong
from markway.director.checks.link import Link, Unwell, plain, said
from markway.director.checks.scram import Scram
from markway.director.model import AgentSaid, Outcome, Word

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.mark.parametrize(
    ("line", "word", "percent", "reason"),
    [
        ("up", Word.UP, None, ""),
        ("UP\n", Word.UP, None, ""),
        ("up 30%\r\nignored", Word.UP, 30, ""),
        ("ready", Word.READY, None, ""),
        ("ready up", Word.READY, None, ""),
        ("maint drain", Word.MAINT, None, ""),
        ("drain,50%", Word.DRAIN, 50, ""),
        ("0%", None, 0, ""),
        ("maxconn:10", None, None, ""),
        ("down", Word.DOWN, None, "the agent says down"),
        ("up down", Word.DOWN, None, "the agent says down"),
        ("failed # disk", Word.DOWN, None, "disk"),
        ("drain stopped 5% #  later ", Word.DRAIN, 5, "later"),
    ],
)
def test_agent(line: str, word: Word | None, percent: int | None, reason: str) -> None:
    assert understood(line.encode()) == Outcome(not reason, 0.0, reason, agent=AgentSaid(word, percent))


@pytest.mark.parametrize("line", ["", "\n", "# up", "hello", "50", "%", "-5%", "\xff"])
def test_agent_says_nothing(line: str) -> None:
    with pytest.raises(Unwell, match="the agent says nothing"):
        understood(line.encode())


def test_dns_question() -> None:
    assert question_of("www.Shop.example.", "MX") == b"\3www\4Shop\7example\0\0\x0f\0\1"
    assert question_of(".", "NS") == b"\0\0\2\0\1"
    assert question_of("bücher.example", "A").startswith(b"\x0dxn--bcher-kva\7example\0")
    for name in ("x" * 64, "x." * 200):
        with pytest.raises(Unwell, match="too long"):
            question_of(name, "A")


@pytest.mark.parametrize(
    ("flags", "answers", "why"),
    [
        (0x8180, 1, ""),
        (0x8580, 3, ""),
        (0x8380, 0, ""),  # cut short
        (0x8180, 0, "DNS has no such record"),
        (0x8182, 0, "DNS SERVFAIL"),
        (0x8189, 0, "DNS error 9"),
        (0x0180, 1, "not a DNS answer"),
    ],
)
def test_dns_answer(flags: int, answers: int, why: str) -> None:
    question = question_of("shop.example", "A")
    assert wrong(struct.pack("!HHHHHH", 1, flags, 1, answers, 0, 0) + question.upper(), question) == why


def test_scram_of_rfc_7677() -> None:
    scram = Scram("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    final = scram.final(f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode())
    assert final == f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(Unwell, match="does not know"):
        scram.check(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


@pytest.mark.parametrize("challenge", [b"r=other,s=AAAA,i=1", b"r=mine", b"e=other-error"])
def test_scram_takes_no_other_challenge(challenge: bytes) -> None:
    with pytest.raises(Unwell, match="SCRAM"):
        Scram("", "secret", "mine").final(challenge)


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def test_mysql_proof() -> None:
    """What the server does with it: it keeps H(H(password)) and finds H(password) again."""
    challenge = bytes(range(1, 21))
    shown = mysql.proof("mysql_native_password", "secret", challenge)
    kept = sha1(sha1(b"secret"))
    found = bytes(a ^ b for a, b in zip(shown, sha1(challenge + kept), strict=True))
    assert sha1(found) == kept
    shown = mysql.proof("caching_sha2_password", "secret", challenge)
    kept = hashlib.sha256(hashlib.sha256(b"secret").digest()).digest()
    found = bytes(a ^ b for a, b in zip(shown, hashlib.sha256(kept + challenge).digest(), strict=True))
    assert hashlib.sha256(found).digest() == kept
    assert mysql.proof("caching_sha2_password", "", challenge) == b""
    with pytest.raises(Unwell, match="client_ed25519"):
        mysql.proof("client_ed25519", "secret", challenge)


def test_mysql_handshake() -> None:
    """MySQL 8's, as the manual lays it out; MariaDB's is in the kernel tests."""
    payload = (
        b"\x0a8.0.35\0\x0b\0\0\0" + b"12345678" + b"\0\xff\xff\xff\x02\0\xff\xdf\x15" + bytes(10)
        + b"abcdefghijkl\0" + b"caching_sha2_password\0"
    )  # fmt: skip
    assert mysql.handshake(payload) == mysql.Handshake("caching_sha2_password", b"12345678abcdefghijkl")


def test_internet_checksum() -> None:
    """RFC 1071, section 3, and that a packet with its checksum sums to nothing."""
    assert ping.checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert ping.checksum(ping.request(8, b"0123456789abcdef")) == 0


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (13.6, "certificate expires in 14 days"),
        (1.5, "certificate expires in 36 h"),
        (15, ""),
        (-1, "certificate has expired"),
    ],
)
def test_expiry_warning(monkeypatch: pytest.MonkeyPatch, left: float, text: str) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert tls.warning(1e9 + left * 86400, 14 * 86400) == text


def test_end_of_every_certificate_of_the_system() -> None:
    context = ssl.create_default_context()
    told = context.get_ca_certs()
    if not told:
        pytest.skip("this system trusts nobody")
    ends = [tls.not_after(found) for found in context.get_ca_certs(binary_form=True)]
    assert ends == [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in told]


def of_answer(data: bytes, act: Callable[[Link], Awaitable[object]]) -> object:
    """What is made of an answer that ends."""

    async def heard() -> object:
        ours, theirs = socket.socketpair()
        with theirs, Link(ours) as link:
            ours.setblocking(False)
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            return await act(link)

    return asyncio.run(heard())


async def _page(link: Link) -> bytes:
    return await http.body(link, await http.head(link))


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore", b"ok"),
        (b"HTTP/1.0 200\r\n\r\nall", b"all"),
        (b"HTTP/1.1 200 OK\nA: b\n\nall", b"all"),
        (b"HTTP/1.1 204 No\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nyes", b"yes"),
        (b"HTTP/1.1 200 OK\r\ntransfer-ENCODING: x, Chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\n01\r\n0\r\n\r\n", b"abc01"),
    ],
)  # fmt: skip
def test_http_body(answer: bytes, body: bytes) -> None:
    assert of_answer(answer, _page) == body


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed without an answer"),
        (b"220 mail ESMTP\r\n", "not an HTTP answer"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", "closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "closed early"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "a broken HTTP body"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "without end"),
        (b"H" * 100_000, "without end"),
    ],
)
def test_http_is_not_understood(answer: bytes, why: str) -> None:
    with pytest.raises(Unwell, match=why):
        of_answer(answer, _page)


def test_words() -> None:
    assert plain(ConnectionRefusedError(111, "Connection refused")) == "connection refused"
    assert plain(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: no such file or directory"
    assert plain(OSError("RPC failed")) == "RPC failed"
    assert said(b"\x1b[31mred\r\nmore") == "?[31mred"
    assert http.request("/a b", "x").startswith(b"GET /a%20b HTTP/1.1\r\nHost: x\r\n")
    assert Check(CheckKind.TCP).jitter == 0.1
