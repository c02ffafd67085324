"""The daemon's handle on the counter: tells it the guards and what logs say, and hears whom it has banned or slowed."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from markway.compiler.guarding import QUEUE
from markway.director.events import Event
from markway.director.following import FileFollower, JournalFollower, follow_file
from markway.director.guarding.state import Tally, records_of
from markway.director.zone import local_zone
from markway.guard.logs import Reader

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable
    from pathlib import Path

    from markway.config.guarding import LogSource
    from markway.config.model import Config

SILENCE = 5.0
"""Seconds without a sign of life after which the counter is killed; its first takes `_STARTING` at most."""

_STARTING = 20.0
_PAUSE = 0.5
_LOOK = 2.0
"""Seconds between two looks at whether logs can be read."""

_LINE = 1 << 24
_log = logging.getLogger("markway.guard")


class Guarding:
    """Keeps a counter running while there are guards, and reads their logs."""

    def __init__(self, file: Path, note: Callable[[Event], None], number: int = QUEUE) -> None:
        """Prepare.

        Args:
            file: where bans are written down.
            note: is told what happens.
            number: of the queue.
        """
        self._file, self._note, self._number = file, note, number
        self._records: list[dict[str, Any]] = []
        self._logs: dict[tuple[str, LogSource], asyncio.Task[None]] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._deadline = 0.0
        self.problems: dict[str, str] = {}
        """What keeps guards from counting, or from banning."""
        self.tallies: dict[str, Tally] = {}
        """What each guard has counted since this process began, or since it is in force."""
        self.ready = False
        """Whether attempts are counted now."""
        self.counted = self.refused = 0
        """Attempts since this process began."""

    @property
    def pid(self) -> int | None:
        """The counter's process, if it runs."""
        return self._process.pid if self._process else None

    def follow(self, config: Config) -> None:
        """These guards are in force from now on."""
        before, self._records = self._records, records_of(config)
        self.tallies = {guard.name: self.tallies.get(guard.name, Tally()) for guard in config.guards}
        logs = {(guard.name, source) for guard in config.guards for source in guard.logs}
        for key in self._logs.keys() - logs:
            self._logs.pop(key).cancel()
        for key in sorted(logs - self._logs.keys(), key=str):
            self._logs[key] = asyncio.create_task(self._read(*key), name="log of a guard")
        if not self._records:
            self._wanted.clear()
            self._end()
            return
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._supervise(), name="counter of attempts")
        if before != self._records:
            self._tell({"guards": self._records})

    async def aclose(self) -> None:
        """End the counter; bans stay."""
        tasks = [task for task in (self._task, *self._logs.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, message: dict[str, Any]) -> None:
        if self._writer:
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def _end(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()

    async def _read(self, name: str, source: LogSource) -> None:
        """Follow one log for ever, and pass on the failures that it tells of."""
        reader = Reader(source, local_zone(), time.time())
        read = reader.record if source.journal else reader.line

        def tell(lines: list[bytes]) -> None:
            reader.passed(time.time())
            found = [one for line in lines if (one := read(line))]
            if found:
                self._tell({"failures": [[name, one.address.hex(), one.times, one.time] for one in found]})

        follower = JournalFollower(source.journal) if source.journal else FileFollower(source.file)
        following = follower.follow(tell) if isinstance(follower, JournalFollower) else follow_file(follower, tell)
        await asyncio.gather(following, self._complain(name, follower))

    async def _complain(self, name: str, follower: FileFollower | JournalFollower) -> None:
        """Say so when a log cannot be read, and when it can again."""
        said = ""
        while True:
            if follower.problem != said:
                said = follower.problem
                self._note(Event("warning", f"guard {name}: {said or 'its log is read again'}"))
            await asyncio.sleep(_LOOK)

    async def _supervise(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._live()
            except Exception:  # noqa: BLE001  (whatever it is, the next one may live)
                _log.exception("the counter of attempts has failed; connections go on uncounted")
            if self._wanted.is_set():
                await asyncio.sleep(_PAUSE)

    async def _live(self) -> None:
        """One counter's life, from its start to its end."""
        ours, theirs = socket.socketpair()
        arguments = (str(theirs.fileno()), str(self._number), str(self._file))
        command = (sys.executable, "-P", "-m", "markway.director.guarding", *arguments)
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE)
        try:
            self._tell({"guards": self._records})
            await self._attend(reader)
        finally:
            self.ready = False
            self._end()
            self._writer.close()
            self._writer = None
            status = await process.wait()
            self._process = None
        if self._wanted.is_set():
            self._note(Event("warning", f"the counter of attempts ended ({status}): bans stay, none are added"))

    async def _attend(self, reader: asyncio.StreamReader) -> None:
        """Listen to the counter until it ends or hangs."""
        patience = _STARTING
        while self._wanted.is_set():
            try:
                line = await asyncio.wait_for(reader.readline(), patience)
            except TimeoutError:
                _log.error("the counter of attempts gives no sign of life: killed")
                return
            if not line:
                return
            with suppress(ValueError):
                self._heard(json.loads(line))
                patience = SILENCE if self.ready else _STARTING

    def _heard(self, said: dict[str, Any]) -> None:
        if said["ready"] and not self.ready:
            self._note(Event("guard", f"counts attempts for {len(self._records)} of the file's guards"))
        self.ready = said["ready"]
        self.counted += said["counted"]
        self.refused += said["refused"]
        for name, tally in said["tallies"].items():
            if name in self.tallies:
                self.tallies[name] = self.tallies[name].plus(Tally(*tally))
        for one in said["news"]:
            self._note(_event(one))
        if said["missed"]:
            self._note(Event("warning", f"{said['missed']:,} more bans and slowings, and ends of them"))
        for name, problem in said["problems"].items():
            if self.problems.get(name) != problem:
                self._note(Event("warning", f"guard {name}: {problem}"))
        self.problems = said["problems"]


def _event(news: dict[str, Any]) -> Event:
    guard, source = news["guard"], news["source"].removesuffix("/32").removesuffix("/128")
    if not news["seconds"]:
        return Event("unban", f"{source} is free again", f"guard/{guard}", data=news)
    why = f"more than {news['window']}" if news["window"] else "by hand, or from before"
    return Event(news["action"], f"{source} for {news['seconds']:.0f} s: {why}", f"guard/{guard}", data=news)
