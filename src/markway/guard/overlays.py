"""What is changed in a list by hand: beside what its source says, and stronger. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markway.config.problems import WrongValue
from markway.guard.lists import EntryError, entry, parse, spelled
from markway.guard.prefixes import BITS, AddressSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from markway.guard.prefixes import Spans


@dataclass(frozen=True, slots=True)
class Overlay:
    """Who was added to a list and who was taken out; nobody is both."""

    added: AddressSet = field(default_factory=AddressSet)
    removed: AddressSet = field(default_factory=AddressSet)

    def __bool__(self) -> bool:
        return bool(self.added) or bool(self.removed)

    def over(self, content: AddressSet) -> AddressSet:
        """What a list has of which the source says this."""
        return (content | self.added) - self.removed if self else content

    def adding(self, more: AddressSet) -> Overlay:
        """With these on the list too."""
        return Overlay(self.added | more, self.removed - more)

    def removing(self, less: AddressSet, content: AddressSet) -> Overlay:
        """Without these; of them is remembered whom the source names, for it will name them again."""
        return Overlay(self.added - less, self.removed | less & content)


def overlay_record(overlay: Overlay) -> dict[str, list[str]]:
    """An overlay as JSON can hold it, and as people can read it; `overlay_of` is the inverse."""
    parts = (("added", overlay.added), ("removed", overlay.removed))
    return {name: [spelled(v, one) for v, spans in content.spans.items() for one in spans] for name, content in parts}


def overlay_of(record: Mapping[str, Iterable[str]]) -> Overlay:
    """An overlay from what `overlay_record` gave.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    added, removed = (parse("\n".join(record[name]).encode()) for name in ("added", "removed"))
    if faults := added.faults + removed.faults:
        raise ValueError(str(faults[0]))
    return Overlay(added.content, removed.content)


def entries_of(texts: Iterable[str]) -> AddressSet:
    """Addresses, prefixes and ranges as somebody types them.

    Raises:
        WrongValue: one of them is none, or has bits of a host: in a list that is a slip, from a person another meaning.
    """
    loose: dict[int, Spans] = {version: [] for version in BITS}
    for text in texts:
        try:
            version, one, ignored = entry(text.strip())
        except EntryError as error:
            raise WrongValue(f'"{text}" is no entry of a list: {error}') from None
        if ignored:
            address = text.partition("/")[0].strip()
            raise WrongValue(f'"{text}" has bits of a host', f"write {address} or {spelled(version, one)}")
        loose[version].append(one)
    found = AddressSet.merge(loose)
    if found.count(4) > 1 << 31:
        raise WrongValue("these are more than half of all addresses of IPv4")
    return found
