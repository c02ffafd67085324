"""What commands that bring a configuration into force do about its lists, where no daemon does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.cli.common import say

if TYPE_CHECKING:
    from markway.apply.store import Store
    from markway.config.model import Config
    from markway.director.alone import Alone
    from markway.director.events import Event


def read(store: Store, config: Config) -> Alone | None:
    """The lists of a configuration; None if it has none.

    A daemon that runs reads them itself: then only an ssh connection is a reason to look whom they would shut out.
    """
    if not config.blocklisting.lists:
        return None
    from markway.director.alone import Alone
    from markway.kernel.ssh import session

    lists, alone = Alone(store, config.blocklisting), not store.is_attended()
    if alone or session():
        lists.read(say, fetch=alone)
    return lists


def load(store: Store, lists: Alone | None) -> bool:
    """Bring lists into force once their program is; whether all of them are, or a daemon sees to it."""
    if lists is None:
        return True
    if store.is_attended():
        layouts = store.layouts()
        if coming := [one.name for one in lists.wanted.lists if one.name not in layouts]:
            say(f"the daemon loads blocklist {', '.join(coming)}: markway blocklist status tells when it is in force")
        return True
    failed = lists.load(_tell)
    for name, why in failed.items():
        say(f"blocklist {name} is not wholly in force: {why}")
    return not failed


def _tell(event: Event) -> None:
    """Say what became of a list; why it is not in force is told of all of them in the end."""
    if event.kind != "error":
        say(event.text)
