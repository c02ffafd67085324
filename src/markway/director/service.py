"""The process around the director: signals, systemd, and whatever else lives as long as it does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from markway.config.problems import ConfigError
from markway.director.daemon import Director
from markway.director.enforcer import KERNEL_ERRORS
from markway.director.events import Event
from markway.director.notify import notify, watchdog_interval

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from markway.apply.store import Store
    from markway.config.load import Loaded
    from markway.director.events import Noted


async def serve(
    store: Store,
    read: Callable[[], Loaded],
    tell: Callable[[Noted], None],
    beside: Callable[[Director], AbstractAsyncContextManager[object]],
) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP reads the file again and applies it.

    Args:
        store: the state folder.
        read: reads the configuration file.
        tell: is called with every event.
        beside: what runs beside the director, as its API.

    Raises:
        ConfigError: there is nothing to begin with.
        ApplyError, StoreError, BusyError, NetlinkError: the machine does not let us.
    """
    with store.attended():
        await _serve(Director(store, tell), read, beside)


async def _serve(
    director: Director, read: Callable[[], Loaded], beside: Callable[[Director], AbstractAsyncContextManager[object]]
) -> None:
    logging.getLogger("markway").addHandler(_Noted(director))
    over, reload = director.life.over, asyncio.Event()
    for number, asked in ((signal.SIGTERM, over), (signal.SIGINT, over), (signal.SIGHUP, reload)):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(director.end)
        await director.begin(read)
        await stack.enter_async_context(beside(director))
        notify("READY=1", f"MAINPID={os.getpid()}", "STATUS=watching")
        for work in (_watchdog(), _reload_when_asked(director, read, reload)):
            director.life.keep_up(work)
        await over.wait()
        notify("STOPPING=1")
    if director.life.failure:
        raise director.life.failure


class _Noted(logging.Handler):
    """What the daemon's parts log becomes an event like all others."""

    def __init__(self, director: Director) -> None:
        super().__init__(logging.INFO)
        self._director = director

    def emit(self, record: logging.LogRecord) -> None:
        kind = "error" if record.levelno >= logging.ERROR else "warning"
        why = f": {record.exc_info[1]}" if record.exc_info else ""
        self._director.events.note(Event(kind, record.getMessage() + why))


async def _reload_when_asked(director: Director, read: Callable[[], Loaded], asked: asyncio.Event) -> None:
    while True:
        await asked.wait()
        asked.clear()
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        await _reload(director, read)
        notify("READY=1")


async def _reload(director: Director, read: Callable[[], Loaded]) -> None:
    note = director.events.note
    try:
        loaded = await asyncio.to_thread(read)
        if not await director.apply(loaded, "reload"):
            note(Event("apply", "reload: nothing to change"))
    except ConfigError as error:
        for problem in error.problems:
            note(Event("error", str(problem)))
        note(Event("error", "the file cannot be used: nothing was changed"))
    except KERNEL_ERRORS as error:
        note(Event("error", f"reload: {error}"))


async def _watchdog() -> None:
    while (interval := watchdog_interval()) is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
