"""One GET of a list, as carefully as something that locks people out deserves."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import IO

    from markway.config.blocklisting import Blocklist

_PIECE = 1 << 16
_NOT_MODIFIED = 304
_OK = 200


class FetchError(Exception):
    """There is nothing that could replace a list; the message says why."""


class Download(NamedTuple):
    """What came, and what the server calls it."""

    data: bytes
    etag: str = ""
    modified: str = ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows none that leaves TLS behind."""

    def redirect_request(  # noqa: PLR0917 - as it is inherited
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise FetchError(f"it is redirected from https to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(item: Blocklist, etag: str = "", modified: str = "") -> Download | None:
    """Get a list's URL by HTTP or HTTPS; certificates are verified, redirects followed, the environment's proxies used.

    Args:
        item: says the URL, how long it may take, how long it may be, and whose certificates to trust.
        etag: what the server called the content that we have; empty if we have none.
        modified: the time that it gave it.

    Returns:
        None if the content is still the same (RFC 9110, section 13.1).

    Raises:
        FetchError: it cannot be had whole.
    """
    deadline = time.monotonic() + item.timeout
    conditions = {"If-None-Match": etag, "If-Modified-Since": modified}
    headers = {"User-Agent": "markway", **{name: value for name, value in conditions.items() if value}}
    try:
        request = urllib.request.Request(item.url, headers=headers)  # noqa: S310 - the opener knows no other schemes
        with _opener(item.ca).open(request, timeout=item.timeout) as answer:
            if answer.status != _OK:
                raise FetchError(f"HTTP {answer.status}")
            data = _body(answer, deadline, item)
            return Download(data, answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""))
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _NOT_MODIFIED and (etag or modified):
                return None
            raise FetchError(f"HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise FetchError(_said(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(_said(error)) from error


def _opener(ca: str) -> urllib.request.OpenerDirector:
    """One that speaks HTTP and HTTPS only: no redirect leads it to a file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca or None)),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _body(answer: http.client.HTTPResponse, deadline: float, item: Blocklist) -> bytes:
    """All of the body; `read` would be content with less than was promised."""
    promised = answer.length
    pieces = []
    length = 0
    while piece := answer.read1(_PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > item.largest:
            raise FetchError(f"it is longer than {item.largest} octets")
        if time.monotonic() > deadline:
            raise FetchError(f"it takes longer than {item.timeout:g} s")
    if promised is not None and length != promised:
        raise FetchError(f"it broke off after {length} of {promised} octets")
    return b"".join(pieces)


def _said(error: object) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "it broke off"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
