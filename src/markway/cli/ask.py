"""The daemon as a command sees it: HTTP over its Unix socket, in a few lines that import nothing heavy."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.apply.store import Store

_PATIENCE = 60.0
"""Seconds: the daemon may wait half of them for the lock."""


class NoDaemonError(Exception):
    """Nobody answers: the daemon does not run, or ended just now."""


class RefusedError(Exception):
    """The daemon said no; the text is its own."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Daemon:
    """Asks the daemon of a state folder."""

    def __init__(self, store: Store) -> None:
        """Prepare to ask; nothing is sent yet."""
        self._path = store.folder / "api.sock"

    def get(self, path: str, timeout: float = _PATIENCE) -> Any:
        """What is at /v1/`path`.

        Raises:
            NoDaemonError: nobody answers.
            RefusedError: the daemon refused, or is there but silent for `timeout` seconds.
        """
        return self._ask("GET", path, None, timeout)

    def send(self, method: str, path: str, body: Any = None, timeout: float = _PATIENCE) -> Any:
        """Do something; `body` is sent as JSON. Raises as `get`."""
        return self._ask(method, path, body, timeout)

    def _ask(self, method: str, path: str, body: Any, timeout: float) -> Any:
        connection = _Connection(self._path, timeout)
        try:
            text = None if body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, f"/v1/{path}", text, headers)
            answer = connection.getresponse()
            return _read(answer)
        except TimeoutError as error:
            raise RefusedError(f"the daemon runs but has not answered for {timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise NoDaemonError(str(error)) from error
        finally:
            connection.close()

    def events(self) -> Iterator[dict[str, Any]]:
        """Kept events, then each as it happens, until the daemon ends. Raises as `get`."""
        connection = _Connection(self._path, _PATIENCE)
        try:
            connection.request("GET", "/v1/events")
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, http.client.HTTPException) as error:
            raise NoDaemonError(str(error)) from error
        finally:
            connection.close()


def _read(answer: http.client.HTTPResponse) -> Any:
    found = json.loads(answer.read() or b"null")
    if answer.status >= http.client.BAD_REQUEST:
        raise RefusedError(found.get("error", answer.reason) if isinstance(found, dict) else answer.reason)
    return found
