"""Which sets the lists are kept in, as JSON can hold it: the next program is compiled with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markway.compiler.blocklists import Layouts
from markway.guard.layouts import Layout, Place, Room

if TYPE_CHECKING:
    from collections.abc import Mapping


def record_of(layouts: Mapping[str, Layouts]) -> dict[str, Any]:
    """Layouts by list as JSON can hold them; `layouts_of` is the inverse."""
    return {name: {"now": _record(both.layout), "next": _record(both.coming)} for name, both in layouts.items()}


def layouts_of(record: Mapping[str, Any]) -> dict[str, Layouts]:
    """Layouts by list from what `record_of` gave.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    return {name: Layouts(_layout(both["now"]), _layout(both["next"])) for name, both in record.items()}


def _record(layout: Layout | None) -> dict[str, Any] | None:
    rooms = [[*place, size] for place, size in layout.rooms] if layout else []
    return {"generation": layout.generation, "rooms": rooms} if layout else None


def _layout(record: Mapping[str, Any] | None) -> Layout | None:
    if record is None:
        return None
    rooms = (Room(Place(int(version), int(length)), int(size)) for version, length, size in record["rooms"])
    return Layout(tuple(rooms), int(record["generation"]))
