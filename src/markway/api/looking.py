"""The daemon's looks at itself."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from markway.api.look import Counter, Live, Look, counted
from markway.apply.confirm import awaited
from markway.apply.transaction import present
from markway.kernel import table
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from markway.apply.transaction import Present
    from markway.config.model import Config
    from markway.director.daemon import Director


class Looking:
    """Looks for the daemon: in another thread, so that no weight waits for a count, and one at a time."""

    def __init__(self, director: Director) -> None:
        """Look at what this director keeps in force."""
        self._director = director
        self._one = asyncio.Lock()

    async def __call__(self) -> Look:
        """Look now.

        Raises:
            StoreError, NetlinkError: as `look`.
        """
        async with self._one:
            farm = self._director.farm
            guarding = self._director.guarding
            counter = Counter(guarding.ready, dict(guarding.tallies), guarding.problems)
            live = Live(os.getpid(), self._director.now, dict(farm.members), counter, self._director.watch.load_reasons)
            known = self._director.enforcer.now
            return await asyncio.to_thread(self._look, farm.config, live, known)

    def _look(self, config: Config | None, live: Live, known: Present | None) -> Look:
        store = self._director.store
        with Netlink() as netlink:
            if known is None or known.program is None or table.program_id(netlink) != known.marker:
                known = present(store, netlink)
            counts = counted(store, netlink, known, config)
            return Look(known, pending=awaited(store, known), config=config, states={}, live=live, **counts)
