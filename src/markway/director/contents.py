"""What a list comes to in the kernel: what takes long with a million entries, for other threads than the daemon's."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING

from markway.compiler.blocklists import set_names
from markway.guard.layouts import Difference, difference, elements, layout_for
from markway.guard.prefixes import BITS, AddressSet
from markway.kernel import prefix_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.guard.layouts import Layout, Place
    from markway.guard.overlays import Overlay
    from markway.kernel.netlink import Netlink


def placed(said: AddressSet, overlay: Overlay, allowed: AddressSet, before: Layout | None) -> tuple[AddressSet, Layout]:
    """What a list comes to, as spans of its own, and the sets for that."""
    left = overlay.over(said) - allowed
    return AddressSet({version: [*spans] for version, spans in left.spans.items()}), layout_for(left, before)


def digest(layout: Layout, content: AddressSet) -> str:
    """What tells a content and its sets from all others."""
    told = blake2b(repr(layout).encode(), digest_size=16)
    told.update(array("Q", content.spans[4]))
    told.update(b"".join([one.to_bytes(BITS[6] // 4) for one in content.spans[6]]))
    return told.hexdigest()


def change_to(held: AddressSet | None, content: AddressSet, layout: Layout) -> Difference | None:
    """What changes in the sets in force; None if that is not known, or so much that it is better filled aside."""
    if held is None:
        return None
    change = Difference({}, {}) if held == content else difference(held.spans, content.spans, layout)
    return change if change.size <= prefix_sets.AT_ONCE else None


def sizes_of(content: AddressSet, layout: Layout) -> Counter[Place]:
    """How many elements each of a layout's sets has for a content."""
    return Counter({place: len(firsts) for place, firsts in elements(content.spans, layout).items()})


def filled(netlink: Netlink, name: str, layout: Layout, content: AddressSet) -> Counter[Place]:
    """Fill the sets of a layout that nobody refers to yet; their sizes.

    Raises:
        NetlinkError: the kernel refused.
    """
    found = elements(content.spans, layout)
    prefix_sets.fill(netlink, set_names(name, layout), found)
    return Counter({place: len(firsts) for place, firsts in found.items()})


def faults(netlink: Netlink, names: Mapping[Place, str], content: AddressSet, sizes: Mapping[Place, int]) -> list[str]:
    """What is wrong with sets that are to hold a content, as samples show it.

    Raises:
        NetlinkError: the kernel does not tell.
    """
    return prefix_sets.faults(netlink, names, content, sizes, chance=random.Random())  # noqa: S311 - samples
