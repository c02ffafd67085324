"""The process that waits for a confirmation: `python -m markway.director.undo FOLDER PROGRAM`."""

from __future__ import annotations

import sys
from pathlib import Path

from markway.apply.banning import Desk
from markway.apply.confirm import configured, watch
from markway.apply.store import Store
from markway.apply.transaction import present
from markway.kernel.netlink import Netlink


def undo(store: Store, program: str) -> None:
    """Undo a program that is not confirmed in time, and bring bans and lists of the one before into force."""
    with Netlink() as netlink:
        undone = present(store, netlink).program
    if not watch(store, program) or store.is_attended():
        return
    with Netlink() as netlink:
        config = configured(store, present(store, netlink))
        Desk.of(store, netlink, config.guards).restore(undone.sets if undone else ())
    wanted = config.blocklisting
    if wanted.lists:
        from markway.director.alone import Alone  # noqa: PLC0415 - it waits, mostly, and for others

        lists = Alone(store, wanted)
        lists.read(lambda _: None, fetch=True)
        lists.load(lambda _: None)


if __name__ == "__main__":
    undo(Store(Path(sys.argv[1])), sys.argv[2])
