"""How long the daemon lives: until it is told to end, or until a part of it that should go on for ever has failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")


class Life:
    """What goes on for as long as the daemon does.

    A part that failed and was not missed would leave a daemon that looks well and does half of its work. So the failure
    of one ends the whole, which leaves everything in force, and systemd starts it anew.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """Begin; `failed` is told of every failure at once."""
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()
        """Set when the daemon is to end; or has to, because of `failure`."""
        self.failure: BaseException | None = None

    def keep_up(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let something go on beside, until it returns or `end`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def lasting(self, call: Callable[P, None]) -> Callable[P, None]:
        """The same call, for timers and others who would lose what it raises."""

        def lasting(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                call(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  (whatever it is, it must not go unnoticed)
                self._fail(error)

        return lasting

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.over.set()
        self._failed(error)

    async def end(self) -> bool:
        """Stop whatever goes on; whether anything did."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return bool(tasks)
