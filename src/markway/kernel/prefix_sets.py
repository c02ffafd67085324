"""Large hash sets of our table: a million prefixes in a second, a few of them in one transaction.

The elements are written as arrays of words, all of a message at once: one by one in Python they would take longer than
the kernel takes. Layouts: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import struct
import sys
from array import array
from typing import TYPE_CHECKING

from markway.guard.layouts import Place
from markway.guard.prefixes import BITS, ends, holds, split
from markway.kernel.netlink import CREATE, Message, NetlinkError, attributes, nested, text
from markway.kernel.table import INET, NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from random import Random

    from markway.config.model import Address
    from markway.guard.layouts import Difference, Elements
    from markway.guard.prefixes import AddressSet
    from markway.kernel.netlink import Netlink

AT_ONCE = 100_000
"""Elements to a transaction. While the kernel has it, 0.1 s, nobody else can change rules; packets do not wait."""

_TABLES = 10 << 8
_NEW_ELEMENT, _GET_ELEMENT, _DELETE_ELEMENT, _GET_SET = (_TABLES | number for number in (12, 13, 14, 10))
_COUNT = 20
_NESTED = 0x8001
_CHUNK = {4: 4095, 6: 2340}
"""Elements to a message: an attribute holds 64 KiB at most."""


def fill(netlink: Netlink, names: Mapping[Place, str], elements: Elements) -> None:
    """Put elements into sets that nobody refers to yet, `AT_ONCE` in a transaction.

    Raises:
        NetlinkError: the kernel refused, as when a set is full (ENFILE); some of them may be there.
    """
    for place, firsts in elements.items():
        for start in range(0, len(firsts), AT_ONCE):
            part = firsts[start : start + AT_ONCE]
            _written(netlink, list(_messages(_NEW_ELEMENT, CREATE, names[place], place.version, part)))


def change(netlink: Netlink, names: Mapping[Place, str], wanted: Difference) -> None:
    """Take elements out of sets and put others in, in one transaction.

    Raises:
        NetlinkError: the kernel refused and nothing was changed: an element to be taken out is not there (ENOENT), or a
            set is full (ENFILE).
    """
    messages = [
        message
        for kind, flags, part in ((_DELETE_ELEMENT, 0, wanted.removed), (_NEW_ELEMENT, CREATE, wanted.added))
        for place, firsts in part.items()
        for message in _messages(kind, flags, names[place], place.version, firsts)
    ]
    if messages:
        _written(netlink, messages)


def _written(netlink: Netlink, messages: list[Message]) -> None:
    try:
        netlink.transaction(messages)
    except NetlinkError as error:
        if error.errno == errno.ENFILE:
            raise NetlinkError(errno.ENFILE, "a set of a list is full") from error
        raise


def clear(netlink: Netlink, names: Iterable[str]) -> None:
    """Empty sets, in one transaction.

    Raises:
        NetlinkError: the kernel refused, as when one is not there.
    """
    netlink.transaction([Message(_DELETE_ELEMENT, 0, INET, text(1, NAME) + text(2, name)) for name in names])


def _messages(kind: int, flags: int, name: str, version: int, firsts: list[int]) -> Iterator[Message]:
    head = text(1, NAME) + text(2, name)
    chunk = _CHUNK[version]
    for start in range(0, len(firsts), chunk):
        yield Message(kind, flags, INET, head + nested(3, _packed(version, firsts[start : start + chunk])))


def _packed(version: int, firsts: list[int]) -> bytes:
    """Elements whose keys are addresses: three headers of attributes and the address, over and over."""
    size = BITS[version] // 8
    headers = struct.pack("=6H", size + 12, _NESTED, size + 8, _NESTED, size + 4, 1)
    words = 3 + size // 4
    packed = array("I", headers + bytes(size)) * len(firsts)
    if version == 4:  # noqa: PLR2004
        keys = array("I", firsts)
        if sys.byteorder == "little":
            keys.byteswap()
    else:
        keys = array("I", b"".join([first.to_bytes(size, "big") for first in firsts]))
    for word in range(3, words):
        packed[word::words] = keys[word - 3 :: words - 3]
    return packed.tobytes()


def faults(
    netlink: Netlink,
    names: Mapping[Place, str],
    content: AddressSet,
    sizes: Mapping[Place, int],
    *,
    chance: Random,
    samples: int = 64,
) -> list[str]:
    """Read back and compare: how many elements there are, where the kernel says, some of them, and what is beside.

    Args:
        netlink: a socket in the namespace.
        names: of the sets.
        content: what they are to hold.
        sizes: how many elements of each that is.
        chance: chooses the samples.
        samples: how many spans of each family are looked for, and how many addresses just outside are not to be found.

    Returns:
        What is wrong, for people; empty if nothing.
    """
    if gone := absent(netlink, names.values()):
        return [f"{name} is gone" for name in gone]
    found = [
        f"{name} holds {held} elements instead of {sizes.get(place, 0)}"
        for place, name in names.items()
        if (held := count(netlink, name)) is not None and held != sizes.get(place, 0)
    ]
    for version, spans in content.spans.items():
        lengths = [place.length for place in names if place.version == version]
        chosen = chance.choices(spans, k=samples) if spans else []
        for length, firsts in split(chosen, BITS[version], lengths).items():
            name = names[Place(version, length)]
            some = chance.sample(firsts, min(len(firsts), samples))
            found += [f"{name} lacks {one:#x}" for one in some if not present(netlink, name, version, one)]
    for version, address in _beside(content, chance, samples):
        for place, name in names.items():
            host = BITS[version] - place.length
            if place.version == version and present(netlink, name, version, address >> host << host):
                found.append(f"{name} holds {address:#x}, which is not listed")
    return found


def _beside(content: AddressSet, chance: Random, samples: int) -> Iterator[tuple[int, int]]:
    """Addresses next to what is listed, by version; fewer where there is none."""
    for version, spans in content.spans.items():
        for one in chance.choices(spans, k=samples) if spans else ():
            first, last = ends(one, BITS[version])
            address = chance.choice((first - 1, last + 1))
            if 0 <= address < 1 << BITS[version] and not holds(spans, address, BITS[version]):
                yield version, address


def present(netlink: Netlink, name: str, version: int, first: int) -> bool:
    """Whether a set of ours holds an element.

    Raises:
        NetlinkError: the kernel refused.
    """
    request = text(1, NAME) + text(2, name) + nested(3, _packed(version, [first]))
    try:
        netlink.get(_GET_ELEMENT, INET, request)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def covers(netlink: Netlink, names: Mapping[Place, str], address: Address) -> bool:
    """Whether one of the sets of a list has an address, or its prefix.

    Raises:
        NetlinkError: the kernel refused.
    """
    hosts = {place: BITS[place.version] - place.length for place in names if place.version == address.version}
    firsts = {place: int(address) >> host << host for place, host in hosts.items()}
    return any(present(netlink, names[place], address.version, first) for place, first in firsts.items())


def count(netlink: Netlink, name: str) -> int | None:
    """How many elements a set of ours holds; None if the kernel does not say (before Linux 6.16).

    Raises:
        NetlinkError: there is no such set.
    """
    told = attributes(netlink.get(_GET_SET, INET, text(1, NAME) + text(2, name))).get(_COUNT)
    return None if told is None else int.from_bytes(told)


def absent(netlink: Netlink, names: Iterable[str]) -> list[str]:
    """Those of the sets that are not there.

    Raises:
        NetlinkError: the kernel does not tell.
    """
    return [name for name in names if not _is_there(netlink, name)]


def _is_there(netlink: Netlink, name: str) -> bool:
    try:
        count(netlink, name)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True
