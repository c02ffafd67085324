"""One guard's account: its windows, and the sets in the kernel that hold whom it has banned or slowed.

The kernel is right: who is not in its sets is neither, whatever is remembered here.
"""

from __future__ import annotations

import errno
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from markway.apply.banning import refit
from markway.apply.bans import Kept
from markway.compiler.guarding import sets_of
from markway.guard.sources import Sources
from markway.guard.windows import Action, Windows
from markway.kernel import bans
from markway.kernel.netlink import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markway.config.guarding import Guard, Window
    from markway.config.model import Network
    from markway.guard.windows import Offender, Sentence
    from markway.kernel.netlink import Netlink

_VERSIONS = {4: 4, 16: 6}
"""Which family an address of so many bytes is of."""

_JITTER = 1.0
"""Seconds by which times of the kernel's and ours may differ."""


class News(NamedTuple):
    """A source that was banned or slowed, with why and for how many seconds; or is free again, after 0 seconds."""

    source: Network
    action: Action
    seconds: float = 0.0
    window: Window | None = None
    offences: int = 0


class Held(NamedTuple):
    """What a source has in the kernel, until when as far as was seen."""

    action: Action
    until: float


class Room:
    """One guard. Times are seconds of a clock that does not jump, if nothing else is said."""

    def __init__(self, guard: Guard, netlink: Netlink, tell: Callable[[News], None]) -> None:
        """Begin with whom the kernel holds; `tell` is told of every ban and slowing, and of their ends."""
        self.guard = guard
        self._netlink = netlink
        self._tell = tell
        self._windows = Windows(guard)
        self._sources = Sources(guard)
        self._held: dict[bytes, Held] = {}
        self._handles: dict[str, tuple[int, int]] = {}
        self.problem = ""
        """Why the last ban or slowing could not be written; empty if it could."""
        self.attempts = self.bans = 0
        """Attempts of those that it does not allow everything, and its bans of them, since they were reported."""

    def attempt(self, address: bytes, now: float) -> bool:
        """Count a new connection; whether it is refused."""
        key = self._sources.key(address)
        if key is None:
            return False
        self.attempts += 1
        sentence = self._windows.attempt(key, now)
        if sentence and sentence.window is None and sentence.action is Action.BAN and self._left(key) is None:
            self._windows.forgive(key)  # the kernel has let it go
            sentence = self._windows.attempt(key, now)
        if sentence is None:
            return False
        if sentence.window is not None:
            self._impose(key, sentence, now)
        return sentence.action is Action.BAN

    def failed(self, address: bytes, times: int, at: float, now: float) -> None:
        """Count failures that a log tells of, of the time `at`. A ban or a slowing that is renewed, they renew."""
        key = self._sources.key(address)
        if key is None:
            return
        self.attempts += times
        for _ in range(times):
            sentence = self._windows.attempt(key, min(at, now))
            if sentence is None or sentence.until <= now:
                continue
            action, window = sentence.action, sentence.window
            if window is not None or (self.guard.ban.until_quiet and self._left(key, action) is not None):
                self._impose(key, sentence, now)

    def _left(self, key: bytes, action: Action = Action.BAN) -> float | None:
        return bans.left(self._netlink, self._sets(key, action)[0], key)

    def _sets(self, key: bytes, action: Action) -> tuple[str, ...]:
        return sets_of(self.guard, _VERSIONS[len(key)], action)

    def _impose(self, key: bytes, sentence: Sentence, now: float) -> None:
        action, until, offences, window = sentence
        try:
            for name in self._sets(key, action):
                bans.ban(self._netlink, name, key, until - now)
            self.problem = ""
        except NetlinkError as error:
            full = error.errno == errno.ENFILE
            what = "banned" if action is Action.BAN else "slowed"
            self.problem = f"its set of {what} sources is full" if full else f"the kernel refused: {error.strerror}"
            return
        self._held[key] = Held(action, until)
        if window is not None:
            self.bans += action is Action.BAN
            self._tell(News(self._sources.network(key), action, until - now, window, offences))

    def look(self, now: float) -> None:
        """See whom the kernel holds now. What went with its set, as that was made anew, is written again."""
        found: dict[bytes, Held] = {}
        for version in _VERSIONS.values():
            for action, name in zip((Action.BAN, Action.SLOW), sets_of(self.guard, version), strict=False):
                handle = bans.handle(self._netlink, name)
                if handle is None:
                    return  # the table is gone, until it is mended
                if self._handles.get(name, handle) != handle:
                    self._rewrite(name, now)
                self._handles[name] = handle
                there = bans.banned(self._netlink, name)
                found = {key: Held(action, now + seconds) for key, seconds in there.items()} | found
        known = dict(self._windows.remembered())
        for key, held in found.items():
            self._found(key, held, known.get(key), now)
        for key in self._held.keys() - found.keys():
            self._gone(key, now)
        self._held = found

    def _found(self, key: bytes, held: Held, known: Offender | None, now: float) -> None:
        """Take over what the kernel says of a source, and tell it if it is news: somebody's ban by hand."""
        action, until = held
        lasts = known is not None and known.action is action and known.until >= now
        if not lasts and (key not in self._held or (self._held[key].action, action) == (Action.SLOW, Action.BAN)):
            self._tell(News(self._sources.network(key), action, until - now))
        if known is None or known.action is not action or abs(known.until - until) > _JITTER:
            self._windows.restore(key, action, until, known.offences if known else 1)

    def _gone(self, key: bytes, now: float) -> None:
        """Tell that a source is free. If somebody freed it before its time, what it did before is forgotten."""
        action, until = self._held[key]
        if until > now + _JITTER and self._left(key, action) is None:
            self._windows.forgive(key)
        self._tell(News(self._sources.network(key), action))

    def _rewrite(self, name: str, now: float) -> None:
        """Write into a set who has to be in it and is not."""
        there = bans.banned(self._netlink, name)
        lost = {
            key: until - now
            for key, (action, until) in self._held.items()
            if name in self._sets(key, action) and until > now and key not in there
        }
        bans.ban_all(self._netlink, name, lost)

    def restore(self, kept: Mapping[str, Kept], now: float, epoch: float) -> None:
        """Bring what was in force earlier into force again, with the time left; `epoch` is now as `Kept` has it."""
        refit(self._netlink, self.guard)
        for text, (until, offences, action) in kept.items():
            key = self._key(text)
            if key is None or until + self.guard.ban.memory < epoch or (action is Action.SLOW and not self.guard.slow):
                continue
            self._windows.restore(key, action, now + until - epoch, offences)
            if until > epoch:
                self._held[key] = Held(action, now + until - epoch)
        for name in {name for key, held in self._held.items() for name in self._sets(key, held.action)}:
            self._rewrite(name, now)

    def _key(self, text: str) -> bytes | None:
        try:
            return self._sources.key(ip_network(text).network_address.packed)
        except ValueError:
            return None

    def kept(self, now: float, epoch: float) -> dict[str, Kept]:
        """What is to be written down: who is held, and who was so not long ago that it counts yet."""
        memory = self.guard.ban.memory if self.guard.ban.factor > 1 or self.guard.slow else 0.0
        return {
            str(self._sources.network(key)): Kept(round(known.until - now + epoch, 1), known.offences, known.action)
            for key, known in self._windows.remembered()
            if known.until + memory > now and (key in self._held or known.until <= now)
        }
