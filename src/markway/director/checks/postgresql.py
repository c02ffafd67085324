"""PostgreSQL: a session is begun, and ended again.

The protocol is that of the manual, chapter "Frontend/Backend Protocol", version 3.0; its error codes are in appendix A.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from markway.director.checks.link import LONGEST, WELL, Link, Unwell, connect, port_of, said
from markway.director.checks.scram import MECHANISM, Scram
from markway.director.checks.secret import password

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target

_VERSION = 3 << 16
_NOBODY = "markway"
_KNOWN_BY_NAME = ("28", "3D")
"""Classes of errors that a server in good health gives a stranger: no such user, no such database."""

_GRANTED, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


async def ask(check: Check, target: Target) -> Outcome:
    """With `check.user`, the server must let it in and be ready for a query.

    Without, that it asks who we are is enough, or that it does not know us; not that it is starting up (57P03), has
    too many clients (53300) or any other error.
    """
    secret = password(check.password_file)
    with await connect(target, port_of(check, target)) as link:
        wire = Wire(link)
        await wire.start(check.user or _NOBODY, check.database or check.user or _NOBODY)
        try:
            asked = await wire.question()
            if check.user:
                await _log_in(wire, check.user, secret, asked)
        except ServerError as error:
            if check.user or not error.code.startswith(_KNOWN_BY_NAME):
                raise
        else:
            await wire.send(b"X", b"")
    return WELL


class ServerError(Unwell):
    """An ErrorResponse."""

    def __init__(self, payload: bytes) -> None:
        fields = {part[:1]: part[1:] for part in payload.split(b"\0")}
        self.code = fields.get(b"C", b"").decode("ascii", "replace")
        """The SQLSTATE."""
        super().__init__(f"PostgreSQL: {said(fields.get(b'M', b''))}")


class Wire:
    """Messages on a connection: a letter, four bytes of length, and what it is about."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def start(self, user: str, database: str) -> None:
        """Send the StartupMessage, which has no letter."""
        given = {"user": user, "database": database, "application_name": "markway"}
        words = b"".join(word.encode() + b"\0" for pair in given.items() for word in pair) + b"\0"
        await self._link.send(struct.pack("!II", 8 + len(words), _VERSION) + words)

    async def send(self, letter: bytes, payload: bytes) -> None:
        """Send a message."""
        await self._link.send(letter + struct.pack("!I", 4 + len(payload)) + payload)

    async def receive(self) -> tuple[bytes, bytes]:
        """A message's letter and payload; ServerError if it is one, Unwell if the peer speaks something else."""
        start = await self._link.exactly(5)
        letter, length = start[:1], int.from_bytes(start[1:], "big") - 4
        if not letter.isalpha() or not 0 <= length <= LONGEST:
            raise Unwell(f"not PostgreSQL: {said(start + self._link.buffer)}")
        payload = await self._link.exactly(length)
        if letter == b"E":
            raise ServerError(payload)
        return letter, payload

    async def question(self) -> bytes:
        """The payload of an Authentication message, the first that any server sends; errors as `receive`."""
        letter, payload = await self.receive()
        if letter != b"R":
            raise Unwell(f"not PostgreSQL: {said(letter + payload)}")
        return payload


async def _log_in(wire: Wire, user: str, secret: str, asked: bytes) -> None:
    """Answer whatever the server asks, and wait until it is ready for a query."""
    scram = Scram("", secret)  # the server has the name already
    while (kind := int.from_bytes(asked[:4], "big")) != _GRANTED:
        rest = asked[4:]
        if kind == _CLEARTEXT:
            await wire.send(b"p", secret.encode() + b"\0")
        elif kind == _MD5:
            await wire.send(b"p", md5(user, secret, rest) + b"\0")
        elif kind == _SASL and MECHANISM in rest.split(b"\0"):
            first = scram.first()
            await wire.send(b"p", MECHANISM + b"\0" + struct.pack("!I", len(first)) + first)
        elif kind == _SASL_CONTINUE:
            await wire.send(b"p", scram.final(rest))
        elif kind == _SASL_FINAL:
            scram.check(rest)
        else:
            raise Unwell(f"PostgreSQL asks for a login of kind {kind}, which is not known here")
        asked = await wire.question()
    while (await wire.receive())[0] != b"Z":
        pass  # what the session is like


def md5(user: str, secret: str, salt: bytes) -> bytes:
    """The answer to AuthenticationMD5Password."""
    inner = hashlib.md5((secret + user).encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()
