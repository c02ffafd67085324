"""The lists of a configuration without the daemon: read, brought into force, changed by hand; each once."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from markway.apply.transaction import ApplyError
from markway.director.blocklists import Lists, NotNowError, shelf_of
from markway.director.enforcer import KERNEL_ERRORS, Enforcer
from markway.director.fetching import Source
from markway.guard.lists import spelled
from markway.guard.overlays import Overlay
from markway.guard.prefixes import BITS, AddressSet, holding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from markway.apply.store import Store
    from markway.compiler.blocklists import Layouts
    from markway.config.blocklisting import Blocklist, Blocklisting
    from markway.config.model import Address
    from markway.director.blocklists import Edited
    from markway.director.events import Event


class Hit(NamedTuple):
    """A list that has an address."""

    item: Blocklist
    entry: str
    """The address, prefix or range that it is in, merged with its neighbours."""
    by_hand: bool
    allowed: bool
    """Whether it passes all the same."""


class Alone:
    """The lists that a configuration names, as they are read here."""

    def __init__(self, store: Store, wanted: Blocklisting) -> None:
        """Prepare; nothing is looked at yet."""
        self._store = store
        self.wanted = wanted
        self._sources = {item.name: Source(item, shelf_of(store)) for item in wanted.lists}

    def restore(self) -> None:
        """Take what was read of them last."""
        for source in self._sources.values():
            source.restore()

    def read(self, say: Callable[[str], None], *, fetch: bool) -> None:
        """Read files and, if they are to be fetched, URLs that were never had; nothing is written down yet.

        What cannot be had is as the daemon would leave it, and is said.
        """
        self.restore()
        for name, source in self._sources.items():
            url = source.item.url
            if url and (source.listed or not fetch):
                continue
            wait = source.next_look() - time.time() if url else 0
            if wait > 0:
                say(f"blocklist {name}: not asked again for {wait:.0f} s (minimum-age)")
                continue
            if url:
                say(f"blocklist {name}: fetching {url}")
            source.ask(time.time())
            if source.note.failure and source.listed:
                say(f"blocklist {name}: {source.note.failure}; what it had is taken")

    def hits(self, address: Address) -> Iterator[Hit]:
        """Those that have an address, as they were read or restored."""
        overlays = self._store.overlays()
        number, bits = int(address), BITS[address.version]
        for name, source in self._sources.items():
            overlay = overlays.get(name, Overlay())
            said = source.listed.content if source.listed and address not in overlay.removed else AddressSet()
            for content, by_hand in ((overlay.added, True), (said, False)):
                if (one := holding(content.spans[address.version], number, bits)) is not None:
                    allowed = address in AddressSet.of((*source.item.allow, *self.wanted.allow))
                    yield Hit(source.item, spelled(address.version, one), by_hand, allowed)
                    break

    def load(self, note: Callable[[Event], None]) -> dict[str, str]:
        """Bring the lists into force, and write down what was read; as `Lists.load`."""

        async def loaded() -> dict[str, str]:
            async with self._lists(note) as lists:
                return await lists.load(self._sources.values())

        for source in self._sources.values():
            source.keep()
        return asyncio.run(loaded())

    def edit(self, name: str, added: AddressSet, removed: AddressSet, note: Callable[[Event], None]) -> Edited:
        """As `Lists.edit`."""

        async def edited() -> Edited:
            async with self._lists(note) as lists:
                for source in (source for known, source in self._sources.items() if known == name):
                    source.restore()
                    await lists.load([source])
                done = await lists.edit(name, added, removed)
                await lists.verify()
                return done

        return asyncio.run(edited())

    @asynccontextmanager
    async def _lists(self, note: Callable[[Event], None]) -> AsyncIterator[Lists]:
        async def relist(layouts: Mapping[str, Layouts]) -> None:
            try:
                written = enforcer.relist(layouts)
            except KERNEL_ERRORS as error:
                raise NotNowError(str(error)) from error
            if written.foreign:
                raise NotNowError("another command has applied a configuration")

        enforcer, lists = Enforcer(self._store), Lists(self._store, relist, note)
        try:
            enforcer.take_over()
            if not enforcer.in_force:
                raise ApplyError("nothing is in force: markway apply FILE first")
            lists.follow(self.wanted)
            yield lists
        finally:
            lists.close()
            enforcer.close()
