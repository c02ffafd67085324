"""The lists of the configuration in force, kept as their sources have them: looked at, loaded, verified, mended.

A small change goes into the sets in force in one transaction. A large one, and one that takes other sets, is filled
into sets beside them, and the rules refer to those when they are full: no packet ever meets half a list. If anything
fails on the way, what was in force stays.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from markway.apply.folder import BusyError, StoreError
from markway.compiler.blocklists import Layouts, set_names
from markway.config.blocklisting import Blocklisting
from markway.config.problems import WrongValue, did_you_mean
from markway.director import contents
from markway.director.events import Event
from markway.director.fetching import Shelf, Source
from markway.guard.layouts import changed_by
from markway.guard.overlays import Overlay, overlay_record
from markway.guard.prefixes import AddressSet
from markway.kernel import prefix_sets, table
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from markway.apply.store import Store
    from markway.guard.layouts import Difference, Layout, Place

_VERIFY = 5.0
"""Seconds between two looks at samples of what the kernel holds, if anybody has written to nftables meanwhile."""

_RETRY = 10.0
"""Seconds after which what the kernel refused is tried again."""

_LONGEST = 3600.0

_PATIENCE = 30.0
"""Seconds to wait for a command that changes the machine."""


class NotNowError(Exception):
    """Somebody else's program is in force, or the kernel refused; it is to be tried again."""


class NoSuchListError(LookupError):
    """No list in force has this name; the message says so."""


class Edited(NamedTuple):
    """What came of a change by hand."""

    name: str
    overlay: Overlay
    """All such changes of the list."""
    changed: int
    """Elements in the kernel."""
    allowed: AddressSet
    """Who was to be added, and passes all the same: an allow-list wins."""

    @property
    def record(self) -> dict[str, Any]:
        """As JSON can hold it."""
        allowed = overlay_record(Overlay(self.allowed))["added"]
        return {"name": self.name, "changed": self.changed, "allowed": allowed, **overlay_record(self.overlay)}


@dataclass(slots=True)
class _Kept:
    """A list, and what its sets hold as far as is known; None if that is not known."""

    source: Source
    held: AddressSet | None = None
    """Its own: it is changed in place."""
    sizes: Counter[Place] = field(default_factory=Counter)
    """How many elements each of them holds."""
    noted: bool = False
    """Whether it is written down that they hold it."""
    failed: str = ""
    """Why its content could not be loaded."""


class Lists:
    """Brings lists into force and keeps them true. Used on one event loop; what takes time, in other threads."""

    def __init__(
        self, store: Store, relist: Callable[[Mapping[str, Layouts]], Awaitable[None]], note: Callable[[Event], None]
    ) -> None:
        """Prepare; nothing is touched before `keep`, or `load`.

        Args:
            store: where the lists' texts, sets and changes by hand are kept.
            relist: brings a program with other sets into force; raises NotNowError if it cannot.
            note: is called with what happens.
        """
        self._store = store
        self._shelf = shelf_of(store)
        self._relist = relist
        self._note = note
        self._netlink = Netlink()
        self._wanted = Blocklisting()
        self._adopted = True
        self._kept: dict[str, _Kept] = {}
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._verified = 0.0
        self._generation = -1

    def follow(self, wanted: Blocklisting) -> None:
        """Keep these lists from now on."""
        self._wanted, self._adopted = wanted, False
        self.doubt()

    def doubt(self) -> None:
        """Look soon whether the kernel still holds the lists: it has been written to."""
        self._verified, self._generation = 0.0, -1
        self._wake.set()

    def close(self) -> None:
        """Let the kernel go; what is in force stays."""
        self._netlink.close()

    async def keep(self) -> None:
        """Go on for ever."""
        while True:
            self._wake.clear()
            if not self._adopted:
                await self._adopt()
            for name, kept in list(self._kept.items()):
                if kept.failed or kept.source.next_look() <= time.time():
                    await self._look(name, kept)
            if self._kept and time.monotonic() >= self._verified + _VERIFY:
                await self.verify()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())

    async def load(self, sources: Iterable[Source]) -> dict[str, str]:
        """Bring these lists into force as they were read last, once; by name, why one is not, or not wholly."""
        for source in sources:
            kept = self._kept[source.item.name] = _Kept(source)
            async with self._writing:
                await self._load(source.item.name, kept)
        await self.verify()
        return {
            name: kept.failed or kept.source.note.failure or "nothing was ever read of it"
            for name, kept in self._kept.items()
            if kept.held is None or kept.source.listed is None
        }

    async def edit(self, name: str, added: AddressSet, removed: AddressSet) -> Edited:
        """Add to a list by hand and take out of it: at once, and over all that its source says later.

        It is written down first, so a kill leaves what comes into force with the next start.

        Raises:
            NoSuchListError: there is no such list.
            WrongValue: all to be added are allowed, or nobody to be removed is on the list; nothing was changed.
            BusyError, StoreError, OSError: it could not be written down; nothing was changed.
            NotNowError: it is written down, but not in force yet.
        """
        async with self._writing:
            kept = self._kept.get(name) or await self._begun(name)
            more = added - self._allowed(kept)
            if added and not more:
                raise WrongValue(
                    "[allowlist], or the list's own allow, lets these pass", "take them out of there first"
                )
            overlay = await asyncio.to_thread(self._amend, kept, added, removed)
            changed = await self._edited(name, kept, more, removed)
            if changed is None:
                changed = await self._load(name, kept)
            elif changed:
                self._note(Event("list", f"blocklist {name}: {changed:,} changed by hand"))
            if kept.failed:
                self._wake.set()
                raise NotNowError(f"blocklist {name}: it is written down, but not in force yet: {kept.failed}")
            return Edited(name, overlay, changed, added - more)

    async def verify(self) -> None:
        """Read samples of all lists back, if anybody has written to nftables since; mend what differs."""
        self._verified = time.monotonic()
        with suppress(StoreError, OSError):  # at the next look, perhaps
            generation = table.generation(self._netlink)
            if generation != self._generation and table.program_id(self._netlink):  # else it is to be mended first
                for name in list(self._kept):
                    async with self._writing:
                        if kept := self._kept.get(name):
                            await self._verify(name, kept)
                self._generation = generation

    def _pause(self) -> float:
        looks = [kept.source.next_look() - time.time() for kept in self._kept.values()]
        if any(kept.failed for kept in self._kept.values()):
            looks.append(_RETRY)
        if self._kept:
            looks.append(self._verified + _VERIFY - time.monotonic())
        return min(_LONGEST, max(0.1, min(looks, default=_LONGEST)))

    async def _adopt(self) -> None:
        """Begin with lists that are new or changed, and forget those that are gone."""
        self._adopted = True
        names = [item.name for item in self._wanted.lists]
        if self._kept.keys() - {*names}:
            self._kept = {name: kept for name, kept in self._kept.items() if name in names}
            with suppress(OSError):  # then they lie there a while longer
                await asyncio.to_thread(self._shelf.forget_others, names)
        for name in names:
            with suppress(NoSuchListError):  # another configuration came meanwhile
                async with self._writing:
                    await self._load(name, await self._begun(name))

    async def _begun(self, name: str) -> _Kept:
        """A list that is wanted, with what was read of it last."""
        known = {item.name: item for item in self._wanted.lists}
        if name not in known:
            hint = did_you_mean(name, [*known])
            raise NoSuchListError(f'there is no blocklist "{name}"' + (f" ({hint})" if hint else ""))
        item = known[name]
        before = self._kept.get(name)
        if before and before.source.item == item:
            return before
        source = Source(item, self._shelf)
        await asyncio.to_thread(source.restore)
        kept = _Kept(source, before.held, before.sizes) if before else _Kept(source)
        self._kept[name] = kept
        return kept

    async def _look(self, name: str, kept: _Kept) -> None:
        source, before = kept.source, kept.source.note.failure
        listed = None
        if source.next_look() <= time.time():
            listed = await asyncio.to_thread(source.look, time.time())
            if source.note.failure and source.note.failure != before:
                stays = "; what it had stays in force" if source.listed else ""
                self._note(Event("warning", f"blocklist {name}: {source.note.failure}{stays}"))
        if listed or kept.failed:
            async with self._writing:
                await self._load(name, kept)

    async def _load(self, name: str, kept: _Kept) -> int:
        """Have the kernel hold what a list says now; how many elements that changed."""
        try:
            changed = await self._loaded(name, kept)
        except (NotNowError, BusyError, StoreError, OSError) as error:
            kept.held = None
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if why != kept.failed:
                self._note(Event("error", f"blocklist {name} could not be loaded: {why}"))
            kept.failed = why
            return 0
        kept.failed = ""
        if changed:
            entries = kept.source.listed.entries if kept.source.listed else 0
            self._note(Event("list", f"blocklist {name}: {entries:,} entries in force, {changed:,} changed"))
        return changed

    def _allowed(self, kept: _Kept) -> AddressSet:
        return AddressSet.of((*kept.source.item.allow, *self._wanted.allow))

    def _amend(self, kept: _Kept, added: AddressSet, removed: AddressSet) -> Overlay:
        """Write down a change by hand."""
        with self._store.locked(_PATIENCE):
            overlays = self._store.overlays()
            name, listed = kept.source.item.name, kept.source.listed
            before = overlays.get(name, Overlay())
            overlay = before.adding(added).removing(removed, listed.content if listed else AddressSet())
            if overlay != before:
                self._store.keep_overlays({**overlays, name: overlay})
            elif removed and not added:
                raise WrongValue(f"blocklist {name} does not have any of these")
            return overlay

    async def _loaded(self, name: str, kept: _Kept) -> int:
        """How many elements that changed."""
        listed, overlay = kept.source.listed, self._store.overlays().get(name)
        if listed is None and overlay is None and kept.held is None:
            return 0
        both = self._layouts().get(name, Layouts())
        said = listed.content if listed else kept.held or AddressSet()  # of a source never had: what is there stays
        content, layout = await asyncio.to_thread(
            contents.placed, said, overlay or Overlay(), self._allowed(kept), both.layout
        )
        if layout == both.layout:
            if kept.held is None:
                await self._recognize(name, kept, layout, content)
            change = await asyncio.to_thread(contents.change_to, kept.held, content, layout)
            if change is not None:
                await asyncio.to_thread(self._change, name, kept, layout, change)
                kept.held = content
                return change.size
        kept.held = None
        await self._fill_aside(name, kept, both, layout, content)
        return kept.sizes.total()

    async def _edited(self, name: str, kept: _Kept, added: AddressSet, removed: AddressSet) -> int | None:
        """Change the sets in force by what was added and removed; None if that does not do."""
        layout = self._layouts().get(name, Layouts()).layout
        if kept.held is None or layout is None:
            return None
        changed = 0
        try:
            for wanted, add in ((added, True), (removed, False)):
                for version, one in ((version, one) for version, spans in wanted.spans.items() for one in spans):
                    change = changed_by(kept.held, version, one, layout, add=add)
                    if change is None:
                        kept.held = None
                        return None
                    await asyncio.to_thread(self._change, name, kept, layout, change)
                    changed += change.size
        except OSError:  # as when a set is full
            kept.held = None
            return None
        return changed

    def _change(self, name: str, kept: _Kept, layout: Layout, change: Difference) -> None:
        """Change the sets in force."""
        if not change.size:
            return
        self._doubt(name, kept)
        prefix_sets.change(self._netlink, set_names(name, layout), change)
        kept.sizes.update({place: len(firsts) for place, firsts in change.added.items()})
        kept.sizes.subtract({place: len(firsts) for place, firsts in change.removed.items()})

    def _doubt(self, name: str, kept: _Kept) -> None:
        """The kernel is about to hold something else than is written down."""
        self._shelf.keep_loaded(name, "")
        kept.noted = False

    async def _recognize(self, name: str, kept: _Kept, layout: Layout, content: AddressSet) -> None:
        """See whether the kernel holds the content already, as after a restart.

        Samples alone would not tell one entry more or less.
        """
        if await asyncio.to_thread(contents.digest, layout, content) != self._shelf.loaded(name):
            return
        sizes = await asyncio.to_thread(contents.sizes_of, content, layout)
        if not await self._faults(name, layout, content, sizes):
            kept.held, kept.sizes, kept.noted = content, sizes, True

    async def _fill_aside(self, name: str, kept: _Kept, both: Layouts, layout: Layout, content: AddressSet) -> None:
        """Fill sets of a generation that was never there, then have the rules refer to them."""
        used = [one.generation for one in (both.layout, both.coming) if one]
        layout = replace(layout, generation=max(used, default=-1) + 1)
        await self._relist({**self._layouts(), name: Layouts(both.layout, layout)})
        sizes = await asyncio.to_thread(contents.filled, self._netlink, name, layout, content)
        if faults := await self._faults(name, layout, content, sizes):
            raise NotNowError(f"read back, the kernel differs: {faults[0]}")
        self._doubt(name, kept)
        await self._relist({**self._layouts(), name: Layouts(layout)})
        kept.held, kept.sizes = content, sizes

    async def _verify(self, name: str, kept: _Kept) -> None:
        """Read samples back, load the list again if it is not as it should be, and write down that it is."""
        layout = self._layouts().get(name, Layouts()).layout
        if kept.held is None or layout is None:
            return
        if faults := await self._faults(name, layout, kept.held, kept.sizes):
            self._note(Event("mended", f"blocklist {name} is loaded again: {faults[0]}"))
            kept.held = None
            await self._load(name, kept)
        elif not kept.noted:
            self._shelf.keep_loaded(name, await asyncio.to_thread(contents.digest, layout, kept.held))
            kept.noted = True

    def _layouts(self) -> Mapping[str, Layouts]:
        """Which sets each list has in the program in force."""
        return self._store.layouts()

    async def _faults(self, name: str, layout: Layout, content: AddressSet, sizes: Mapping[Place, int]) -> list[str]:
        return await asyncio.to_thread(contents.faults, self._netlink, set_names(name, layout), content, sizes)


def shelf_of(store: Store) -> Shelf:
    """Where a state folder has the lists' texts."""
    return Shelf(store.folder / "blocklists")
