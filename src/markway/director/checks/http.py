"""HTTP and HTTPS: one GET by HTTP/1.1 (RFC 9112)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from markway.config.model import CheckKind
from markway.director.checks import tls
from markway.director.checks.link import LONGEST, WELL, Link, Unwell, connect, port_of

if TYPE_CHECKING:
    from markway.config.model import Address, Check
    from markway.director.model import Outcome, Target

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding:.*\bchunked[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_PORT = re.compile(r":\d+$")
_SAFE = "/?&=%;:@!$'()*+,~#[]"
_CONTINUES = 200  # below are informational answers, another follows
_EMPTY = {204, 304}
_IPV6 = 6
_USUAL = {CheckKind.HTTP: 80, CheckKind.HTTPS: 443}


async def ask(check: Check, target: Target) -> Outcome:
    """Get the path: the status must be in `check.status`, and `check.body` in the body's first 64 KiB.

    Without `check.body` the body is not read: the connection is closed after the head.
    """
    port = port_of(check, target)
    host = check.host or authority(target.address, None if port == _USUAL[check.kind] else port)
    with await connect(target, port) as plain:
        link, warning = plain, ""
        if check.kind is CheckKind.HTTPS:
            name = check.sni or (_PORT.sub("", check.host).strip("[]") if check.host else str(target.address))
            link = secured = await tls.secured(plain, name, verify=check.verify, ca=check.ca)
            warning = tls.warning(secured.ends(), check.expiry_warning)
        await link.send(request(check.target, host))
        answer = await head(link)
        why = ""
        if not any(first <= answer.status <= last for first, last in check.status):
            why = f"HTTP {answer.status}"
        elif check.body and not re.search(check.body, (await body(link, answer)).decode("utf-8", "replace")):
            why = "the body does not match"
    return replace(WELL, well=not why, reason=why, warning=warning)


def authority(address: Address, port: int | None) -> str:
    """An address and a port as a URL writes them."""
    text = f"[{address}]" if address.version == _IPV6 else str(address)
    return text if port is None else f"{text}:{port}"


def request(path: str, host: str) -> bytes:
    """A GET after whose answer the connection ends."""
    lines = (f"GET {quote(path, safe=_SAFE)} HTTP/1.1", f"Host: {host}", "User-Agent: markway", "Accept: */*")
    return ("\r\n".join((*lines, "Connection: close")) + "\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's status, and its header as it came."""

    status: int
    text: bytes


async def head(link: Link) -> Head:
    """Read an answer's head, past informational ones (RFC 9110, 15.2); Unwell if it is not HTTP/1."""
    while True:
        line = await link.until(b"\n")
        found = _STATUS_LINE.match(line)
        if found is None:
            raise Unwell("not an HTTP answer")
        text = b""
        while not text.endswith((b"\n\r\n", b"\n\n")) and text not in {b"\r\n", b"\n"}:
            text += await link.until(b"\n")
            if len(text) > LONGEST:
                raise Unwell("an answer without end")
        if (status := int(found[1])) >= _CONTINUES:
            return Head(status, text)


async def body(link: Link, answer: Head) -> bytes:
    """Read the body or its first 64 KiB, however its length is told (RFC 9112, section 6.3)."""
    if answer.status in _EMPTY:
        return b""
    if _CHUNKED.search(answer.text):
        return await _chunks(link)
    if length := _LENGTH.search(answer.text):
        return await link.exactly(min(int(length[1]), LONGEST))
    return await link.rest()


async def _chunks(link: Link) -> bytes:
    read = b""
    while len(read) < LONGEST:
        line = await link.until(b"\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Unwell("a broken HTTP body") from None
        if size == 0:
            break
        left = LONGEST - len(read)
        read += await link.exactly(min(size, left))
        if size >= left:
            break
        await link.until(b"\n")
    return read
