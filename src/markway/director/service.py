"""The process around the director: signals, systemd, and whatever else lives as long as it does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from markway.config.problems import ConfigError
from markway.director.daemon import KERNEL_ERRORS, Director
from markway.director.events import Event
from markway.director.notify import notify, watchdog_interval
from markway.marks import MarksError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from markway.apply.store import Store
    from markway.config.load import Loaded
    from markway.director.events import Noted

PID_FILE = "director.pid"


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
    director = Director(store, tell)
    logging.getLogger("markway").addHandler(_Noted(director))
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(director.end)
        await director.begin(read)
        await stack.enter_async_context(beside(director))
        reloading = Reloading(director, read)
        loop.add_signal_handler(signal.SIGHUP, reloading.begin)
        notify("READY=1", f"MAINPID={os.getpid()}", "STATUS=watching")
        watchdog = asyncio.create_task(_watchdog())
        await stop.wait()
        notify("STOPPING=1")
        watchdog.cancel()


class _Noted(logging.Handler):
    """What the daemon's parts log becomes an event like all others."""

    def __init__(self, director: Director) -> None:
        super().__init__(logging.INFO)
        self._director = director

    def emit(self, record: logging.LogRecord) -> None:
        kind = "error" if record.levelno >= logging.ERROR else "warning"
        self._director.events.note(Event(kind, record.getMessage()))


class Reloading:
    """Reads the file again when asked to, one time after the other."""

    def __init__(self, director: Director, read: Callable[[], Loaded]) -> None:
        self._director, self._read = director, read
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Reload, unless that is going on."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        notify("RELOADING=1")
        note = self._director.events.note
        try:
            loaded = await asyncio.to_thread(self._read)
            if not await self._director.apply(loaded, "reload"):
                note(Event("apply", "reload: nothing to change"))
        except ConfigError as error:
            for problem in error.problems:
                note(Event("error", str(problem)))
            note(Event("error", "the file cannot be used: nothing was changed"))
        except (*KERNEL_ERRORS, MarksError) as error:
            note(Event("error", f"reload: {error}"))
        finally:
            notify("READY=1")


async def _watchdog() -> None:
    while (interval := watchdog_interval()) is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
