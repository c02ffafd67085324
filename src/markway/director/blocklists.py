"""The lists of the configuration in force, kept as their sources have them: looked at, loaded, verified, mended.

A small change goes into the sets in force in one transaction. A large one, and one that takes other sets, is filled
into sets beside them, and the rules refer to those when they are full: no packet ever meets half a list. If anything
fails on the way, what was in force stays.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from markway.apply.store import StoreError
from markway.compiler.blocklists import Layouts, set_names
from markway.config.blocklisting import Blocklisting
from markway.director.events import Event
from markway.director.fetching import Shelf, Source
from markway.guard.layouts import Difference, difference, elements, layout_for
from markway.guard.prefixes import AddressSet
from markway.kernel import prefix_sets, table
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from markway.guard.layouts import Layout, Place

_VERIFY = 5.0
"""Seconds between two looks at samples of what the kernel holds, if anybody has written to nftables meanwhile."""

_RETRY = 10.0
"""Seconds after which what the kernel refused is tried again."""

_LONGEST = 3600.0


class NotNowError(Exception):
    """Somebody else's program is in force, or the kernel refused; it is to be tried again."""


@dataclass(slots=True)
class _Kept:
    """A list, and what its sets hold as far as is known; None if that is not known."""

    source: Source
    held: AddressSet | None = None
    sizes: Counter[Place] = field(default_factory=Counter)
    """How many elements each of them holds."""
    failed: str = ""
    """Why its content could not be loaded."""


class Lists:
    """Brings lists into force and keeps them true. Used on one event loop; what takes time, in other threads."""

    def __init__(
        self,
        folder: Path,
        layouts: Callable[[], Mapping[str, Layouts]],
        relist: Callable[[Mapping[str, Layouts]], Awaitable[None]],
        note: Callable[[Event], None],
    ) -> None:
        """Prepare; nothing is touched before `keep`.

        Args:
            folder: where the lists' texts are kept.
            layouts: tells which sets each list has in the program in force.
            relist: brings a program with other sets into force; raises NotNowError if it cannot.
            note: is called with what happens.
        """
        self._shelf = Shelf(folder)
        self._layouts = layouts
        self._relist = relist
        self._note = note
        self._netlink = Netlink()
        self._wanted = Blocklisting()
        self._allow = AddressSet()
        self._kept: dict[str, _Kept] = {}
        self._wake = asyncio.Event()
        self._verified = 0.0
        self._generation = -1

    def follow(self, wanted: Blocklisting) -> None:
        """Keep these lists from now on."""
        self._wanted = wanted
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
            await self._adopt()
            for name, kept in list(self._kept.items()):
                if kept.failed or kept.source.next_look() <= time.time():
                    await self._look(name, kept)
            await self._verify_all()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())

    def _pause(self) -> float:
        looks = [kept.source.next_look() - time.time() for kept in self._kept.values()]
        if any(kept.failed for kept in self._kept.values()):
            looks.append(_RETRY)
        if self._kept:
            looks.append(self._verified + _VERIFY - time.monotonic())
        return min(_LONGEST, max(0.1, min(looks, default=_LONGEST)))

    async def _adopt(self) -> None:
        """Begin with lists that are new or changed, and forget those that are gone."""
        wanted, self._allow = self._wanted, AddressSet.of(self._wanted.allow)
        names = {item.name for item in wanted.lists}
        if self._kept.keys() - names:
            self._kept = {name: kept for name, kept in self._kept.items() if name in names}
            with suppress(OSError):  # then they lie there a while longer
                await asyncio.to_thread(self._shelf.forget_others, names)
        for item in wanted.lists:
            before = self._kept.get(item.name)
            if before is None or before.source.item != item:
                source = Source(item, self._shelf)
                self._kept[item.name] = _Kept(source, before.held if before else None)
                await asyncio.to_thread(source.restore)
            if self._kept[item.name].source.listed:
                await self._load(item.name, self._kept[item.name])

    async def _look(self, name: str, kept: _Kept) -> None:
        source, before = kept.source, kept.source.note.failure
        listed = None
        if source.next_look() <= time.time():
            listed = await asyncio.to_thread(source.look, time.time())
            if source.note.failure and source.note.failure != before:
                stays = "; what it had stays in force" if source.listed else ""
                self._note(Event("warning", f"blocklist {name}: {source.note.failure}{stays}"))
        if listed or kept.failed:
            await self._load(name, kept)

    async def _load(self, name: str, kept: _Kept) -> None:
        """Have the kernel hold what a list says now."""
        try:
            changed = await self._loaded(name, kept)
        except (NotNowError, StoreError, OSError) as error:
            kept.held = None
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if why != kept.failed:
                self._note(Event("error", f"blocklist {name} could not be loaded: {why}"))
            kept.failed = why
            return
        kept.failed = ""
        if changed and (listed := kept.source.listed):
            self._note(Event("list", f"blocklist {name}: {listed.entries:,} entries in force, {changed:,} changed"))

    async def _loaded(self, name: str, kept: _Kept) -> int:
        """How many elements that changed."""
        listed = kept.source.listed
        if listed is None:
            return 0
        both = self._layouts().get(name, Layouts())
        taken = AddressSet.of(kept.source.item.allow) | self._allow
        content, layout = await asyncio.to_thread(_placed, listed.content, taken, both.layout)
        if layout == both.layout:
            if kept.held is None:
                await self._recognize(name, kept, layout, content)
            change = await asyncio.to_thread(_change, kept.held, content, layout)
            if change is not None:
                await asyncio.to_thread(prefix_sets.change, self._netlink, set_names(name, layout), change)
                kept.held = content
                kept.sizes.update({place: len(firsts) for place, firsts in change.added.items()})
                kept.sizes.subtract({place: len(firsts) for place, firsts in change.removed.items()})
                return change.size
        kept.held = None
        await self._fill_aside(name, kept, both, layout, content)
        return kept.sizes.total()

    async def _recognize(self, name: str, kept: _Kept, layout: Layout, content: AddressSet) -> None:
        """See whether the kernel holds the content already, as after a restart."""
        sizes = await asyncio.to_thread(_sizes, content, layout)
        if not await self._faults(name, layout, content, sizes):
            kept.held, kept.sizes = content, sizes

    async def _fill_aside(self, name: str, kept: _Kept, both: Layouts, layout: Layout, content: AddressSet) -> None:
        """Fill sets of a generation that was never there, then have the rules refer to them."""
        used = [one.generation for one in (both.layout, both.coming) if one]
        layout = replace(layout, generation=max(used, default=-1) + 1)
        await self._relist({**self._layouts(), name: Layouts(both.layout, layout)})
        sizes = await asyncio.to_thread(_filled, self._netlink, name, layout, content)
        if faults := await self._faults(name, layout, content, sizes):
            raise NotNowError(f"read back, the kernel differs: {faults[0]}")
        await self._relist({**self._layouts(), name: Layouts(layout)})
        kept.held, kept.sizes = content, sizes

    async def _verify_all(self) -> None:
        if not self._kept or time.monotonic() < self._verified + _VERIFY:
            return
        self._verified = time.monotonic()
        with suppress(StoreError, OSError):  # at the next look, perhaps
            generation = table.generation(self._netlink)
            if generation != self._generation:
                for name, kept in list(self._kept.items()):
                    await self._verify(name, kept)
                self._generation = generation

    async def _verify(self, name: str, kept: _Kept) -> None:
        layout = self._layouts().get(name, Layouts()).layout
        if kept.held is None or layout is None:
            return
        if faults := await self._faults(name, layout, kept.held, kept.sizes):
            self._note(Event("mended", f"blocklist {name} is loaded again: {faults[0]}"))
            kept.held = None
            await self._load(name, kept)

    async def _faults(self, name: str, layout: Layout, content: AddressSet, sizes: Mapping[Place, int]) -> list[str]:
        return await asyncio.to_thread(_faults, self._netlink, set_names(name, layout), content, sizes)


def _placed(content: AddressSet, taken: AddressSet, before: Layout | None) -> tuple[AddressSet, Layout]:
    left = content - taken
    return left, layout_for(left, before)


def _change(held: AddressSet | None, content: AddressSet, layout: Layout) -> Difference | None:
    """What changes in the sets in force; None if that is not known, or so much that it is better filled aside."""
    if held is None:
        return None
    change = difference(held.spans, content.spans, layout)
    return change if change.size <= prefix_sets.AT_ONCE else None


def _sizes(content: AddressSet, layout: Layout) -> Counter[Place]:
    return Counter({place: len(firsts) for place, firsts in elements(content.spans, layout).items()})


def _filled(netlink: Netlink, name: str, layout: Layout, content: AddressSet) -> Counter[Place]:
    found = elements(content.spans, layout)
    prefix_sets.fill(netlink, set_names(name, layout), found)
    return Counter({place: len(firsts) for place, firsts in found.items()})


def _faults(netlink: Netlink, names: Mapping[Place, str], content: AddressSet, sizes: Mapping[Place, int]) -> list[str]:
    return prefix_sets.faults(netlink, names, content, sizes, chance=random.Random())  # noqa: S311 - samples
