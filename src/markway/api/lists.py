"""What the lists of who is kept out say, and what of it the kernel holds, as JSON can hold it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from markway.compiler.blocklists import Layouts, refusal_name, set_names
from markway.director.blocklists import shelf_of
from markway.director.fetching import Note
from markway.guard.overlays import Overlay, overlay_record
from markway.kernel import prefix_sets, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markway.apply.store import Store
    from markway.config.blocklisting import Blocklist
    from markway.director.fetching import Shelf
    from markway.kernel.netlink import Netlink
    from markway.kernel.table import Count

Record = dict[str, Any]


def blocklists(store: Store, netlink: Netlink, lists: Sequence[Blocklist]) -> list[Record]:
    """Every list, in the file's order.

    Raises:
        StoreError: the state folder is broken.
        NetlinkError: the kernel refused.
    """
    if not lists:
        return []
    layouts, overlays, counters = store.layouts(), store.overlays(), table.read_counters(netlink)
    shelf = shelf_of(store)
    return [
        _record(item, shelf, layouts.get(item.name, Layouts()), counters, netlink)
        | overlay_record(overlays.get(item.name, Overlay()))
        for item in lists
    ]


def _record(item: Blocklist, shelf: Shelf, both: Layouts, counters: Mapping[str, Count], netlink: Netlink) -> Record:
    note = shelf.note(item.name) or Note(item.source)
    names = set_names(item.name, both.layout) if both.layout else {}
    gone = prefix_sets.absent(netlink, names.values())
    refused = counters.get(refusal_name(item.name))
    return {
        "name": item.name,
        **asdict(note),
        "source": item.source,
        "direction": item.direction.value,
        "in_force": bool(names) and not gone,
        "elements": {
            f"{place.version}/{place.length}": prefix_sets.count(netlink, name)
            for place, name in names.items()
            if name not in gone
        },
        "packets": refused.packets if refused else 0,
        "octets": refused.octets if refused else 0,
    }
