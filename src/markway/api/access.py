"""Who may use the API over TCP: whoever bears the token (RFC 6750, section 2.1)."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


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
        """Let a request through, or answer 401."""
        if scope["type"] != "http" or self._token.fits(_borne(scope)):
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": "a token is needed: Authorization: Bearer TOKEN"}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"www-authenticate", b'Bearer realm="markway"'),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _borne(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = bytes(value).partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else b""
    return b""
