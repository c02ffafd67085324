"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side, without channel binding."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from functools import lru_cache

from markway.director.checks.link import Unwell

MECHANISM = b"SCRAM-SHA-256"

_NO_BINDING = "n,,"


class Scram:
    """One login. Passwords are taken as they are, without SASLprep: ASCII is the same either way."""

    def __init__(self, user: str, secret: str, nonce: str = "") -> None:
        self._secret = secret
        self._first = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce or secrets.token_urlsafe(18)}"
        self._server_signature = b""

    def first(self) -> bytes:
        """The client-first-message."""
        return (_NO_BINDING + self._first).encode()

    def final(self, challenge: bytes) -> bytes:
        """The client-final-message, which answers the server-first-message; Unwell if that is not one."""
        fields = _fields(challenge)
        nonce = fields.get("r", "")
        if not nonce.startswith(self._first.partition("r=")[2]) or not {"s", "i"} <= fields.keys():
            raise Unwell("SCRAM: not the server's turn of it")
        client, server = _keys(self._secret, base64.b64decode(fields["s"]), int(fields["i"]))
        without_proof = f"c={base64.b64encode(_NO_BINDING.encode()).decode()},r={nonce}"
        message = f"{self._first},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client).digest(), message, "sha256")
        self._server_signature = hmac.digest(server, message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def check(self, final: bytes) -> None:
        """Unwell unless the server-final-message shows that the server knows the password too."""
        if base64.b64decode(_fields(final).get("v", "")) != self._server_signature:
            raise Unwell("SCRAM: the server does not know the password")


def _fields(message: bytes) -> dict[str, str]:
    return {part[:1]: part[2:] for part in message.decode().split(",")}


@lru_cache(maxsize=256)
def _keys(secret: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """The client's and the server's key. Salt and password stay, and 4096 rounds take milliseconds: kept."""
    salted = hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, iterations)
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")
