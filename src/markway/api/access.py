"""Who may use the API over TCP: whoever bears the token (RFC 6750, section 2.1)."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import TYPE_CHECKING

from markway.config.load import LARGEST_FILE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


LARGEST_BODY = 2 * LARGEST_FILE
"""Bytes: a file in JSON is longer than it is."""

_CHALLENGE = (b"www-authenticate", b'Bearer realm="markway"')


class Token:
    """A token in a file, which is read again when it changes."""

    def __init__(self, file: str) -> None:
        """Take the token from `file`: what it says, without blanks around it."""
        self._path = Path(file)
        self._seen: tuple[int, int, int] | None = None
        self._token = b""

    def fits(self, given: bytes) -> bool:
        """Whether this is the token, found out in a time that tells nothing of it. No token fits nothing."""
        self._read()
        return hmac.compare_digest(self._token, given) and bool(self._token)

    def _read(self) -> None:
        try:
            state = self._path.stat()
            seen = state.st_ino, state.st_mtime_ns, state.st_size
            if seen != self._seen:
                self._token, self._seen = self._path.read_bytes().strip(), seen
        except OSError:
            self._token, self._seen = b"", None


class Guarded:
    """An application behind a token."""

    def __init__(self, app: ASGIApp, token: Token) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 401, or 413 if it is larger than any configuration."""
        if not self._token.fits(_borne(scope)):
            await _refuse(send, 401, "a token is needed: Authorization: Bearer TOKEN", _CHALLENGE)
        elif _said(scope, b"transfer-encoding") or int(_said(scope, b"content-length") or b"0") > LARGEST_BODY:
            await _refuse(send, 413, f"say the length of the body, {LARGEST_BODY} bytes at most")
        else:
            await self._app(scope, receive, send)


async def _refuse(send: Send, status: int, why: str, *more: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _borne(scope: Scope) -> bytes:
    scheme, _, token = _said(scope, b"authorization").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _said(scope: Scope, header: bytes) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == header), b"")
