"""MySQL and MariaDB: a login, and COM_PING if there is a user to log in as.

The protocol is that of dev.mysql.com, "MySQL Internals: Client/Server Protocol", version 10 (MySQL 4.1 and later).

A client that only reads the server's greeting and leaves is counted as an error of its address, and after
`max_connect_errors` of these (100) the server refuses that address (error 1129): in mode `snat`, all clients. A login
that is denied is not counted. So without a user we try one who does not exist.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.director.checks.link import WELL, Link, Unwell, connect, port_of, said
from markway.director.checks.secret import password

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target

_OK, _MORE, _SWITCH, _ERROR = 0x00, 0x01, 0xFE, 0xFF
_FAST, _FULL = 3, 4  # caching_sha2_password's: the server knows the password's hash, or wants the password
_PROTOCOL = 10
_QUIT, _PING = b"\x01", b"\x0e"
_CAPABILITIES = 0x1 | 0x200 | 0x8000 | 0x80000  # LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH
_LONGEST_PACKET = 1 << 24
_UTF8MB4 = 45
_NOBODY = "markway"
_DENIALS = {1045, 1698, 3159}
"""Access denied, access denied without a password, TLS required: what a server in good health tells a stranger."""

_NATIVE, _CACHING = "mysql_native_password", "caching_sha2_password"


async def ask(check: Check, target: Target) -> Outcome:
    """With `check.user`, the server must let it in and answer a ping; without, it is enough that it denies access."""
    secret = password(check.password_file)
    with await connect(target, port_of(check, target)) as link:
        wire = Wire(link)
        greeting = handshake(await wire.receive())
        try:
            await _log_in(wire, greeting, check.user or _NOBODY, secret if check.user else "")
        except ServerError as error:
            if check.user or error.code not in _DENIALS:
                raise
        else:
            await wire.command(_PING)
            await wire.receive()
            await wire.command(_QUIT)
    return WELL


class ServerError(Unwell):
    """An ERR_Packet. The marked SQL state is not there before the login."""

    def __init__(self, payload: bytes) -> None:
        self.code = int.from_bytes(payload[1:3], "little")
        super().__init__(f"MySQL error {self.code}: {said(payload[9:] if payload[3:4] == b'#' else payload[3:])}")


class Wire:
    """Packets on a connection: three bytes of length, one that counts."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.number = 0
        """The next packet's."""

    async def receive(self) -> bytes:
        """A packet's payload; ServerError if it is one, Unwell if the peer speaks something else."""
        start = await self._link.exactly(4)
        if start[3] != self.number:
            raise Unwell(f"not MySQL: {said(start + self._link.buffer)}")
        payload = await self._link.exactly(int.from_bytes(start[:3], "little"))
        self.number += 1
        if not payload:
            raise Unwell("not MySQL: an empty packet")
        if payload[0] == _ERROR:
            raise ServerError(payload)
        return payload

    async def send(self, payload: bytes) -> None:
        """Send a packet."""
        await self._link.send(len(payload).to_bytes(3, "little") + bytes([self.number]) + payload)
        self.number += 1

    async def command(self, payload: bytes) -> None:
        """Send a packet that starts a conversation anew."""
        self.number = 0
        await self.send(payload)


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a login needs of the server's greeting: how it knows users, and its challenge."""

    plugin: str
    challenge: bytes


def handshake(payload: bytes) -> Handshake:
    """Read Protocol::HandshakeV10; Unwell if it is another."""
    if payload[0] != _PROTOCOL:
        raise Unwell(f"not MySQL: {said(payload)}")
    at = payload.index(b"\0") + 1 + 4  # past the version and the thread's number
    first = payload[at : at + 8]
    at += 8 + 1 + 2 + 1 + 2 + 2  # past a filler, capabilities, character set, status, more capabilities
    length = max(13, payload[at] - 8)
    at += 1 + 10  # past the challenge's length and what is reserved
    second, plugin = payload[at : at + length - 1], payload[at + length :]
    return Handshake(plugin.rstrip(b"\0").decode("ascii") or _NATIVE, first + second)


def proof(plugin: str, secret: str, challenge: bytes) -> bytes:
    """What shows that we know the password; empty for an empty one. Unwell for another way than these two."""
    if plugin not in {_NATIVE, _CACHING}:
        raise Unwell(f"the server asks for {plugin}, which is not known here")
    if not secret:
        return b""
    if plugin == _NATIVE:
        once = hashlib.sha1(secret.encode(), usedforsecurity=False).digest()
        twice = hashlib.sha1(once, usedforsecurity=False).digest()
        mask = hashlib.sha1(challenge + twice, usedforsecurity=False).digest()
    else:
        once = hashlib.sha256(secret.encode()).digest()
        mask = hashlib.sha256(hashlib.sha256(once).digest() + challenge).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


async def _log_in(wire: Wire, greeting: Handshake, user: str, secret: str) -> None:
    plugin = greeting.plugin if greeting.plugin in {_NATIVE, _CACHING} else _NATIVE  # the server may ask for another
    shown = proof(plugin, secret, greeting.challenge)
    await wire.send(
        _CAPABILITIES.to_bytes(4, "little") + _LONGEST_PACKET.to_bytes(4, "little") + bytes([_UTF8MB4]) + bytes(23)
        + user.encode() + b"\0" + bytes([len(shown)]) + shown + plugin.encode() + b"\0"
    )  # fmt: skip
    while (answer := await wire.receive())[0] != _OK:
        if answer[0] == _SWITCH:
            name, _, challenge = answer[1:].partition(b"\0")
            await wire.send(proof(name.decode("ascii"), secret, challenge[:20]))
        elif answer[0] == _MORE and answer[1:2] == bytes([_FULL]):
            # The password itself, over TLS only. Any such login makes the server remember its hash until it restarts.
            raise Unwell(f"MySQL wants the password of {user} over TLS: use mysql_native_password, or an empty one")
        elif answer[0] != _MORE or answer[1:2] != bytes([_FAST]):
            raise Unwell(f"not MySQL: {said(answer)}")
