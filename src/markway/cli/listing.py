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
    """The lists of a configuration; None if it has none. What only the network has is left to a daemon that runs."""
    if not config.blocklisting.lists:
        return None
    from markway.director.alone import Alone

    lists = Alone(store, config.blocklisting)
    lists.read(say, fetch=not store.is_attended())
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
    failed = lists.load(tell)
    for name, why in failed.items():
        say(f"blocklist {name} is not in force: {why}")
    return not failed


def tell(event: Event) -> None:
    """Say what became of a list."""
    say(event.text)
