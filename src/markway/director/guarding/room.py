"""One guard's account: its windows, and the sets in the kernel that hold whom it has banned.

The kernel is right: who is not in its set is not banned, whatever is remembered here.
"""

from __future__ import annotations

import errno
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from markway.apply.bans import Kept
from markway.compiler.guarding import banned_set
from markway.guard.sources import Sources
from markway.guard.windows import Action, Windows
from markway.kernel import bans
from markway.kernel.netlink import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markway.config.guarding import Guard, Window
    from markway.config.model import Network
    from markway.kernel.netlink import Netlink

_VERSIONS = {4: 4, 16: 6}
"""Which family an address of so many bytes is of."""


class News(NamedTuple):
    """A source that was banned, with why and for how many seconds, or is free again."""

    source: Network
    seconds: float = 0.0
    window: Window | None = None
    offences: int = 0


class Room:
    """One guard. Times are seconds of a clock that does not jump, if nothing else is said."""

    def __init__(self, guard: Guard, netlink: Netlink, tell: Callable[[News], None]) -> None:
        """Begin with whom the kernel has banned; `tell` is told of every ban and its end."""
        self.guard = guard
        self._netlink = netlink
        self._tell = tell
        self._windows = Windows(guard)
        self._sources = Sources(guard)
        self._held: dict[bytes, float] = {}
        """Who is banned, until when as far as was seen."""
        self._handles: dict[int, tuple[int, int]] = {}
        self.problem = ""
        """Why the last ban could not be written; empty if it could."""
        self.attempts = self.bans = 0
        """Attempts of those that it does not allow everything, and its bans of them, since they were reported."""

    def attempt(self, address: bytes, now: float) -> bool:
        """Count a new connection; whether it is refused."""
        key = self._sources.key(address)
        if key is None:
            return False
        self.attempts += 1
        sentence = self._windows.attempt(key, now)
        if sentence and sentence.window is None and self._left(key) is None:
            self._windows.forgive(key)  # the kernel has let it go
            sentence = self._windows.attempt(key, now)
        if sentence is None:
            return False
        if sentence.window is not None:
            self._ban(key, sentence.until - now, sentence.window, sentence.offences, now)
        return True

    def failed(self, address: bytes, times: int, at: float, now: float) -> None:
        """Count failures that a log tells of, of the time `at`. In a ban that is renewed, they renew it."""
        key = self._sources.key(address)
        if key is None:
            return
        self.attempts += times
        for _ in range(times):
            sentence = self._windows.attempt(key, min(at, now))
            if sentence is None or sentence.until <= now:
                continue
            if sentence.window is not None or (self.guard.ban.until_quiet and self._left(key) is not None):
                self._ban(key, sentence.until - now, sentence.window, sentence.offences, now)

    def _left(self, key: bytes) -> float | None:
        return bans.left(self._netlink, self._set(key), key)

    def _set(self, key: bytes) -> str:
        return banned_set(self.guard.name, _VERSIONS[len(key)])

    def _ban(self, key: bytes, seconds: float, window: Window | None, offences: int, now: float) -> None:
        try:
            bans.ban(self._netlink, self._set(key), key, seconds)
            self.problem = ""
        except NetlinkError as error:
            full = error.errno == errno.ENFILE
            self.problem = "its set of banned sources is full" if full else f"the kernel refused: {error.strerror}"
            return
        self._held[key] = now + seconds
        if window is not None:
            self.bans += 1
            self._tell(News(self._sources.network(key), seconds, window, offences))

    def look(self, now: float) -> None:
        """See whom the kernel has banned now. Bans that went with their set, as it was made anew, are written again."""
        found: dict[bytes, float] = {}
        for version in (4, 6):
            name = banned_set(self.guard.name, version)
            handle = bans.handle(self._netlink, name)
            if handle is None:
                return  # the table is gone, until it is mended
            if self._handles.get(version, handle) != handle:
                self._rewrite(version, now)
            self._handles[version] = handle
            found |= bans.banned(self._netlink, name)
        known = dict(self._windows.remembered())
        for key, seconds in found.items():
            offences = known[key].offences if key in known else 1
            if key not in self._held and (key not in known or known[key].until < now):
                self._tell(News(self._sources.network(key), seconds))
            if key not in known or abs(known[key].until - now - seconds) > 1:
                self._windows.restore(key, Action.BAN, now + seconds, offences)
        for key in self._held.keys() - found.keys():
            self._tell(News(self._sources.network(key)))
        self._held = {key: now + seconds for key, seconds in found.items()}

    def _rewrite(self, version: int, now: float) -> None:
        name = banned_set(self.guard.name, version)
        held = bans.banned(self._netlink, name)
        lost = {
            key: until - now
            for key, until in self._held.items()
            if _VERSIONS[len(key)] == version and until > now and key not in held
        }
        bans.ban_all(self._netlink, name, lost)

    def restore(self, kept: Mapping[str, Kept], now: float, epoch: float) -> None:
        """Bring bans of an earlier time into force again, with the time left; `epoch` is now as `Kept` has it."""
        lost: dict[str, dict[bytes, float]] = {}
        for text, (until, offences) in kept.items():
            key = self._key(text)
            if key is None or until + self.guard.ban.memory < epoch:
                continue
            self._windows.restore(key, Action.BAN, now + until - epoch, offences)
            if until > epoch and self._left(key) is None:
                lost.setdefault(self._set(key), {})[key] = until - epoch
                self._held[key] = now + until - epoch
        for name, wanted in lost.items():
            bans.ban_all(self._netlink, name, wanted)

    def _key(self, text: str) -> bytes | None:
        try:
            return self._sources.key(ip_network(text).network_address.packed)
        except ValueError:
            return None

    def kept(self, now: float, epoch: float) -> dict[str, Kept]:
        """What is to be written down: who is banned, and who was so not long ago that it counts yet."""
        memory = self.guard.ban.memory if self.guard.ban.factor > 1 else 0.0
        return {
            str(self._sources.network(key)): Kept(round(known.until - now + epoch, 1), known.offences)
            for key, known in self._windows.remembered()
            if known.until + memory > now and (key in self._held or known.until <= now)
        }
