"""Whom guards keep out or slow, read and changed by hand: straight in the kernel, with the daemon and without."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import ip_network
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, Self

from markway.apply.bans import FILE, amend, read
from markway.compiler.guarding import sets_of
from markway.config.problems import WrongValue, did_you_mean
from markway.guard.sources import Sources
from markway.guard.windows import Action
from markway.kernel import bans

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from markway.apply.store import Store
    from markway.config.guarding import Guard
    from markway.kernel.netlink import Netlink


class Held(NamedTuple):
    """A source, the guard that bans or slows it, and for how many seconds."""

    guard: str
    source: str
    action: Action
    left: float


@dataclass(frozen=True)
class Desk:
    """The guards in force, and their sets in the kernel."""

    store: Store
    netlink: Netlink
    guards: Mapping[str, Guard]

    @classmethod
    def of(cls, store: Store, netlink: Netlink, guards: Iterable[Guard]) -> Self:
        """For these guards."""
        return cls(store, netlink, {guard.name: guard for guard in guards})

    def guard(self, name: str) -> Guard:
        """The one meant; `name` may be empty if there is but one.

        Raises:
            WrongValue: there is none of this name.
        """
        if not name and len(self.guards) == 1:
            return next(iter(self.guards.values()))
        if name not in self.guards:
            known = did_you_mean(name, [*self.guards]) or f"there are {', '.join(self.guards)}"
            raise WrongValue(f'no guard is called "{name}"' if name else "--guard says which", known)
        return self.guards[name]

    def key(self, guard: Guard, text: str) -> bytes | None:
        """What an address counts for; None if it is allowed everything.

        Raises:
            WrongValue: it is no address, or a network that is more than one source.
        """
        try:
            network = ip_network(text)
        except ValueError:
            raise WrongValue(f'"{text}" is no address or network') from None
        length = guard.prefix if network.version == 4 else guard.prefix6  # noqa: PLR2004
        if network.prefixlen < length:
            raise WrongValue(
                f"{text} is more than one source of guard {guard.name}, which is a /{length}: a blocklist takes it"
            )
        return Sources(guard).key(network.network_address.packed)

    def spelled(self, guard: Guard, key: bytes) -> str:
        """A source as people write it."""
        return str(Sources(guard).network(key)).removesuffix("/32").removesuffix("/128")

    def everybody(self) -> list[Held]:
        """Whom the guards ban or slow, by guard and by the time that is left.

        Raises:
            NetlinkError: the kernel refused.
        """
        found = (held for guard in self.guards.values() for held in self.held(guard))
        return sorted(found, key=lambda held: (held.guard, held.left))

    def held(self, guard: Guard) -> Iterator[Held]:
        """Whom it bans or slows; who is banned is not told as slowed too.

        Raises:
            NetlinkError: the kernel refused.
        """
        for version in (4, 6):
            found: dict[bytes, tuple[Action, float]] = {}
            for action, name in zip((Action.BAN, Action.SLOW), sets_of(guard, version), strict=False):
                found = {key: (action, left) for key, left in bans.banned(self.netlink, name).items()} | found
            yield from (Held(guard.name, self.spelled(guard, key), *one) for key, one in found.items())

    def ban(self, guard: Guard, address: str, seconds: float = 0.0) -> Held:
        """Keep one source out, for as long as the guard bans if nothing else is said.

        Raises:
            WrongValue: it is no single source, or the guard allows it everything.
            NetlinkError: the kernel refused.
        """
        key = self.key(guard, address)
        if key is None:
            raise WrongValue(f"guard {guard.name} allows {address} everything: take it out of allow first")
        seconds = seconds or guard.ban.seconds
        self.put(guard, {key: seconds})
        return Held(guard.name, self.spelled(guard, key), Action.BAN, seconds)

    def put(self, guard: Guard, wanted: Mapping[bytes, float]) -> None:
        """Keep sources out for so many seconds.

        Raises:
            NetlinkError: the kernel refused.
        """
        for key, seconds in wanted.items():
            for name in _sets(guard, key):
                bans.ban(self.netlink, name, key, seconds)
        until = {str(Sources(guard).network(key)): time.time() + left for key, left in wanted.items()}
        self._remember(guard, until, ())

    def free(self, guard: Guard, text: str) -> bool:
        """Let a source in again; whether it was kept out or slowed.

        Raises:
            WrongValue, NetlinkError: as `ban`.
        """
        key = self.key(guard, text)
        freed = [bans.unban(self.netlink, name, key) for name in _sets(guard, key)] if key else []
        if key is None or not any(freed):
            return False
        self._remember(guard, {}, [str(Sources(guard).network(key))])
        return True

    def restore(self, standing: Collection[str]) -> None:
        """Fill sets that were made anew with what is written down, for the time left; `standing` ones keep theirs.

        Raises:
            NetlinkError: the kernel refused.
        """
        written, now = read(self.store.folder / FILE), time.time()
        for guard in self.guards.values():
            refit(self.netlink, guard)
            wanted: dict[str, dict[bytes, float]] = {}
            for text, kept in written.get(guard.name, {}).items():
                key = self._key_of(guard, text)
                if key and kept.until > now and (kept.action is Action.BAN or guard.slow):
                    for name in {*_sets(guard, key, kept.action)}.difference(standing):
                        wanted.setdefault(name, {})[key] = kept.until - now
            for name, lost in wanted.items():
                bans.ban_all(self.netlink, name, lost)

    def _key_of(self, guard: Guard, text: str) -> bytes | None:
        """The same of what was written down; None also if that was a source of another prefix."""
        try:
            return self.key(guard, text)
        except WrongValue:
            return None

    def _remember(self, guard: Guard, added: Mapping[str, float], removed: Sequence[str]) -> None:
        """Write it down where no daemon does."""
        if not self.store.is_attended():
            amend(self.store.folder / FILE, guard.name, added, removed)


def refit(netlink: Netlink, guard: Guard) -> None:
    """Have who was banned or slowed under another prefix so under the guard's, the only one that its rules ask for.

    Raises:
        NetlinkError: the kernel refused.
    """
    sources = Sources(guard)
    for name in (name for version in (4, 6) for name in sets_of(guard, version) if bans.handle(netlink, name)):
        for key, left in sorted(bans.banned(netlink, name).items(), key=itemgetter(1)):  # of several, the longest holds
            if (first := sources.first(key)) != key:
                bans.unban(netlink, name, key)
                bans.ban(netlink, name, first, left)


def _sets(guard: Guard, key: bytes, action: Action = Action.BAN) -> tuple[str, ...]:
    """Those that a banned source is in, or a slowed one."""
    return sets_of(guard, 4 if len(key) == 4 else 6, action)  # noqa: PLR2004
