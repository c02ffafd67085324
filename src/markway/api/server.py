"""The API's servers, beside the director in one process and on one event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markway.apply.confirm import settle
from markway.apply.folder import StoreError
from markway.director.enforcer import KERNEL_ERRORS
from markway.director.events import Event
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from markway.apply.store import Store
    from markway.config.model import Api
    from markway.director.daemon import Director

SOCKET = "api.sock"
"""The Unix socket's name in the state folder."""

_LOOK = 1.0
"""Seconds between two looks at whether [api] has changed, and at whether an apply was not confirmed in time."""

_PATIENCE = 2
"""Seconds that open requests have when a server ends."""


@asynccontextmanager
async def beside(director: Director) -> AsyncIterator[None]:
    """Serve while the block lasts: on the Unix socket always, on TCP as the configuration in force says.

    Raises:
        StoreError: another daemon serves this state folder, or the socket cannot be made.
    """
    path = director.store.folder / SOCKET
    opened = _unix_socket(path)
    app = (await asyncio.to_thread(import_module, "markway.api.app")).create_app(director)
    local, remote = Served(app, opened), Remote(director, app)
    looking = director.life.keep_up(_look_after(director, remote))
    try:
        yield
    finally:
        looking.cancel()
        app.state.stream.end()
        await asyncio.gather(local.end(), remote.end(), looking, return_exceptions=True)
        path.unlink(missing_ok=True)


class Served:
    """One listening socket with an application behind it. Ends no process and takes no signal."""

    def __init__(self, app: ASGIApp, opened: socket.socket, **options: Any) -> None:
        """Serve on `opened`; `options` are of uvicorn.Config."""
        import uvicorn  # noqa: PLC0415  (heavy; only who serves needs it)

        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=_PATIENCE, **options,
        )  # fmt: skip
        config.load()  # here, so that a certificate that cannot be read is the caller's to tell
        self._server = uvicorn.Server(config)
        self._server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]
        self._task = asyncio.create_task(self._server.serve(sockets=[opened]))

    async def end(self) -> None:
        """Let requests end, and close."""
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)


class Remote:
    """The server on TCP, which follows what the configuration in force says."""

    def __init__(self, director: Director, app: ASGIApp) -> None:
        self._director, self._app = director, app
        self._served: Served | None = None
        self._wanted: tuple[object, ...] = ()
        self._failed = ""

    async def follow(self) -> None:
        """Begin, end or begin anew if the configuration, the certificate or its key has changed since."""
        config = self._director.farm.config
        api = config.api if config else None
        wanted = () if api is None else (api, _changed(api.certificate), _changed(api.key))
        if wanted == self._wanted and (self._served or api is None):
            return
        await self.end()
        self._wanted = wanted
        if api is not None:
            self._begin(api)

    def _begin(self, api: Api) -> None:
        from markway.api.access import Guarded, Token  # noqa: PLC0415  (only who serves on TCP needs it)

        options = {"ssl_certfile": api.certificate, "ssl_keyfile": api.key} if api.certificate else {}
        where = f"[{api.address}]:{api.port}" if api.address.version != 4 else f"{api.address}:{api.port}"  # noqa: PLR2004
        try:
            opened = _tcp_socket(api)
            try:
                self._served = Served(Guarded(self._app, Token(api.token_file)), opened, **options)
            except BaseException:
                opened.close()
                raise
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not end the daemon)
            why = f"the API cannot be served at {where}: {getattr(error, 'strerror', None) or error}"
            if why != self._failed:
                self._director.events.note(Event("error", why))
            self._failed = why
        else:
            self._failed = ""
            kind = "HTTPS" if api.certificate else "HTTP"
            self._director.events.note(Event("api", f"answers {kind} at {where}"))

    async def end(self) -> None:
        """Serve no more."""
        if self._served:
            await self._served.end()
        self._served = None


async def _look_after(director: Director, remote: Remote) -> None:
    while True:
        await remote.follow()
        try:
            if await director.in_kernel(_settle_overdue, director.store):
                await director.adopt()
        except KERNEL_ERRORS as error:
            director.events.note(Event("error", f"what was not confirmed could not be undone: {error}"))
        await asyncio.sleep(_LOOK)


def _settle_overdue(store: Store) -> bool:
    """Undo what should have been confirmed by now; whether there was anything."""
    pending = store.pending()
    if pending is None or pending.left > 0:
        return False
    with store.locked(_PATIENCE), Netlink() as netlink:
        return settle(store, netlink)


def _changed(file: str) -> int:
    """When a file was changed last, in nanoseconds; 0 if it is not there."""
    with suppress(OSError):
        return Path(file).stat().st_mtime_ns
    return 0


def _tcp_socket(api: Api) -> socket.socket:
    family = socket.AF_INET if api.address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((str(api.address), api.port))
    except BaseException:
        opened.close()
        raise
    return opened


def _unix_socket(path: Path) -> socket.socket:
    """A socket that only root can use, in the place of one that nobody serves any more."""
    if answers(path):
        raise StoreError(f"another markway run serves {path.parent}")
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        opened.bind(str(fresh))
        fresh.chmod(0o600)
        opened.listen()
        fresh.replace(path)  # whoever finds it may use it
    except OSError as error:
        opened.close()
        raise StoreError(f"cannot make {path}: {error.strerror or error}") from error
    return opened


def answers(path: Path) -> bool:
    """Whether somebody serves this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as opened:
        try:
            opened.connect(str(path))
        except OSError:
            return False
    return True
