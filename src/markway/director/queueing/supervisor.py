"""The daemon's handle on the queue worker: starts it, tells it what to decide by, ends it when it hangs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from markway.compiler.asking import QUEUE
from markway.director.queueing.stats import QueueStats

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterable

    from markway.director.queueing.state import QueuedService

POLICIES = "/etc/markway/policies"
"""Where the modules of the operator's own policies are looked for, behind Python's own path."""

SILENCE = 0.75
"""Seconds without a sign of life after which the worker is killed; its first takes `_STARTING` at most."""

_STARTING = 15.0
_LOOKS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 5.0
_SETTLED = 10.0
"""Seconds of life after which an end is no sign of a fault that lasts."""

_REST, _LONGEST_REST = 10.0, 600.0
"""Seconds for which a policy is left alone that took a worker with it: twice as long each time."""

_QUIET = 10.0
"""Seconds between log lines about one service's policy."""

_LINE = 1 << 24

_log = logging.getLogger("markway.queue")


class QueueWorker:
    """Keeps a worker running while there are services to decide for.

    Its end costs at most the packets that wait at that moment (`markway.kernel.queue.LENGTH`): they are sent again.
    """

    def __init__(self, number: int = QUEUE, policies: str = POLICIES, silence: float = SILENCE) -> None:
        """Take the queue's number, the folder of the operator's modules, and how long a worker may be silent."""
        self._number = number
        self._policies = policies
        self._silence = silence
        self._field = 0
        self._services: dict[int, QueuedService] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._deadline = 0.0
        self._logged: dict[str, float] = {}
        self._blamed: Counter[str] = Counter()
        self._resting: set[str] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self.stats = QueueStats()
        """What the worker did; new once a second."""

    async def start(self) -> None:
        """Begin to look after a worker. It is started once a service is published."""
        self._task = asyncio.create_task(self._supervise(), name="queue worker")

    async def aclose(self) -> None:
        """End the worker, and look after it no more. The kernel decides by the slot tables then."""
        for timer in self._timers:
            timer.cancel()
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def pid(self) -> int | None:
        """The worker's process, if it runs."""
        return self._process.pid if self._process else None

    def publish(self, field: int, services: Iterable[QueuedService]) -> None:
        """Tell what is decided by from now on: all services, each as it is now. Only what has changed is sent.

        Args:
            field: the backend field of the mark.
            services: as `queued_services` makes them.
        """
        before, self._services = self._services, {service.tag: service for service in services}
        if field != self._field:
            before, self._field = {}, field
        changed = [service for tag, service in self._services.items() if before.get(tag) != service]
        gone = [tag for tag in before if tag not in self._services]
        if not self._services:
            self._wanted.clear()
            self._end()
        else:
            self._wanted.set()
            if changed or gone:
                self._tell(changed, gone)

    def _tell(self, changed: list[QueuedService], gone: list[int]) -> None:
        if self._writer:
            records = [one.record for one in changed]
            message = {"field": self._field, "services": records, "gone": gone, "resting": sorted(self._resting)}
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _end(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()

    async def _supervise(self) -> None:
        clock, pause = asyncio.get_running_loop().time, _FIRST_PAUSE
        while True:
            await self._wanted.wait()
            begun = clock()
            try:
                await self._live()
            except Exception:  # noqa: BLE001  (whatever it is, the next one may live)
                _log.exception("the queue worker has failed; connections are given by the slot tables")
            pause = _FIRST_PAUSE if clock() - begun > _SETTLED else min(pause * 2, _LONGEST_PAUSE)
            if self._wanted.is_set():
                self.stats.restarts += 1
                await asyncio.sleep(pause)

    async def _live(self) -> None:
        """One worker's life, from its start to its end."""
        ours, theirs = socket.socketpair()
        note = os.memfd_create("markway-queue")
        try:
            os.ftruncate(note, 4)
            self._process = process = await self._start(theirs.fileno(), note)
        except BaseException:
            ours.close()
            os.close(note)
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE)
        try:
            self._tell(list(self._services.values()), [])
            await self._attend(reader)
        finally:
            self.stats.running = False
            self.stats.connections = {}
            self._end()
            self._writer.close()
            self._writer = None
            status = await process.wait()
            self._process = None
            called = int.from_bytes(os.pread(note, 4, 0), sys.byteorder)
            os.close(note)
        if self._wanted.is_set():
            _log.warning("the queue worker ended (%s); the slot tables decide until it is back", status)
            if called in self._services:
                self._blame(self._services[called].policy)

    async def _start(self, control: int, note: int) -> Process:
        arguments = (str(control), str(note), str(self._number), self._policies)
        command = (sys.executable, "-P", "-m", "markway.director.queueing", *arguments)
        nothing = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(*command, stdin=nothing, pass_fds=(control, note))

    def _blame(self, policy: str) -> None:
        """The worker ended while it called this policy: the next one does without it for a while."""
        rest = min(_REST * 2 ** self._blamed[policy], _LONGEST_REST)
        self._blamed[policy] += 1
        self._resting.add(policy)
        self._timers.append(asyncio.get_running_loop().call_later(rest, self._forgive, policy))
        _log.error("policy %s took the queue worker with it: not asked for %g s", policy, rest)

    def _forgive(self, policy: str) -> None:
        self._resting.discard(policy)
        self._tell([], [])

    async def _attend(self, reader: asyncio.StreamReader) -> None:
        """Listen to the worker until it ends or hangs."""
        self._deadline = asyncio.get_running_loop().time() + _STARTING
        listening = asyncio.create_task(self._listen(reader))
        try:
            while not listening.done() and self._wanted.is_set():
                began = asyncio.get_running_loop().time()
                await asyncio.wait([listening], timeout=self._silence / _LOOKS)
                now = asyncio.get_running_loop().time()
                # While this process was held up itself it could not hear either.
                self._deadline += max(now - began - self._silence / _LOOKS, 0.0)
                if now > self._deadline and not listening.done():
                    self.stats.hung += 1
                    _log.error("the queue worker gives no sign of life: killed")
                    return
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError, OSError, ValueError):
                await listening

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        clock = asyncio.get_running_loop().time
        while line := await reader.readline():
            said: dict[str, Any] = json.loads(line)
            self._deadline = clock() + self._silence + said.get("busy", 0.0)
            self.stats.running = "busy" not in said
            if "verdicts" in said:
                self._complain(self.stats.add(said))

    def _complain(self, failed: Iterable[str]) -> None:
        now = asyncio.get_running_loop().time()
        for name in failed:
            if now >= self._logged.get(name, now) + (_QUIET if name in self._logged else 0.0):
                self._logged[name] = now
                service = self.stats.services[name]
                reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(service.undecided.items()))
                _log.warning("service %s: the slot table decided, not the policy (%s): %s", name, reasons, service.said)
