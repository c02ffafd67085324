"""TLS over a Link, and what its certificate says: whether it is to be trusted, and when it ends."""

from __future__ import annotations

import ssl
import time
from calendar import timegm
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from markway.director.checks.link import LONGEST, Link, Unwell
from markway.director.checks.secret import version

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_DAY, _HOUR = 86400.0, 3600.0
_VERSION, _UTC_TIME = 0xA0, 23  # DER tags: [0] and UTCTime
_LONG_FORM = 0x80


async def secured(link: Link, name: str, *, verify: bool, ca: str) -> TlsLink:
    """Speak TLS on a connection, to a server of this name or address; Unwell says what is wrong with it.

    `ca` is a file of certificates to trust, the system's if empty. OSError if it cannot be read.
    """
    try:
        tls = TlsLink(link, _context(ca, version(ca) if ca else (), verify), name)
        await tls.handshake()
    except ssl.SSLCertVerificationError as error:
        text = error.verify_message.rstrip(".")
        raise Unwell(text[:1].lower() + text[1:]) from error
    except ssl.SSLError as error:
        raise Unwell(f"TLS: {(error.reason or 'connection closed early').lower().replace('_', ' ')}") from error
    return tls


@lru_cache(maxsize=64)
def _context(ca: str, _version: tuple[int, ...], verify: bool) -> ssl.SSLContext:
    """Made once for each file: to read a system's certificates takes 10 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        context.load_verify_locations(ca)
    else:
        context.load_default_certs()
    return context


class TlsLink(Link):
    """A connection that carries TLS."""

    def __init__(self, link: Link, context: ssl.SSLContext, name: str) -> None:
        super().__init__(link.socket)
        self._plain = link
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_hostname=name)

    async def handshake(self) -> None:
        """Agree on keys; ssl.SSLError if that fails, after the server was told."""
        await self._until(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self._until(lambda: self._tls.write(data))

    async def receive(self) -> bytes:
        """What comes next; empty at the end, whether TLS was ended first or not."""
        try:
            return await self._until(lambda: self._tls.read(LONGEST))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def ends(self) -> float:
        """When the server's certificate ends, in seconds since 1970."""
        return not_after(self._tls.getpeercert(binary_form=True) or b"")

    async def _until(self, act: Callable[[], T]) -> T:
        """Do what may need more of the server's data first."""
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._plain.receive():
                    self._come.write(data)
                else:
                    self._come.write_eof()
            except ssl.SSLError:
                await self._flush()  # the alert
                raise
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if self._go.pending:
            await self._plain.send(self._go.read())


def warning(ends: float, before: float) -> str:
    """What is to be said of a certificate that ends at `ends` (since 1970), if it does within `before` seconds."""
    left = ends - time.time()
    if left > before:
        return ""
    if left < 0:
        return "certificate has expired"
    return f"certificate expires in {f'{left / _DAY:.0f} days' if left >= 2 * _DAY else f'{left / _HOUR:.0f} h'}"


def not_after(certificate: bytes) -> float:
    """When a certificate ends, in seconds since 1970 (RFC 5280, 4.1; DER is ITU-T X.690).

    Python tells it only of certificates that it verified.
    """
    at = _element(certificate, _element(certificate, 0)[1])[1]  # into Certificate, into tbsCertificate
    if certificate[at] == _VERSION:
        at = _element(certificate, at)[2]
    for _ in ("serialNumber", "signature", "issuer"):
        at = _element(certificate, at)[2]
    _, not_before, _ = _element(certificate, at)
    tag, start, end = _element(certificate, _element(certificate, not_before)[2])
    text = certificate[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year
        text = ("20" if text < "50" else "19") + text
    return float(timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """An element's tag, and where its content starts and ends."""
    length, start = data[at + 1], at + 2
    if length & _LONG_FORM:
        size = length & ~_LONG_FORM
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
    return data[at], start, start + length
