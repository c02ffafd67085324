"""Our table in the kernel: its elements, its structure, its name of the program in force.

Element values travel as nft writes them (`192.0.2.1 . tcp . 80`), so that a program, a plan
and the kernel speak of the same thing. Layouts: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import struct
from functools import partial
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from markway.config.packets import PROTOCOLS
from markway.kernel.netlink import (
    CREATE,
    Message,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    each,
    nested,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from markway.kernel.netlink import Attributes
    from markway.program.nft import Set

INET = 1
NAME = "markway"
MARKER = "program"

_TABLES = 10 << 8
_NEW_ELEMENT, _DELETE_ELEMENT, _GET_ELEMENT = _TABLES | 12, _TABLES | 14, _TABLES | 13
_GET_CHAIN, _GET_RULE, _GET_SET, _GET_GENERATION = _TABLES | 4, _TABLES | 7, _TABLES | 10, _TABLES | 16
_GET_OBJECT, _COUNTERS = _TABLES | 19, 1
_KEY, _DATA, _USER, _EXPRESSION, _KEY_END = 1, 2, 6, 7, 10
_SIZES = {"mark": 4, "ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 1, "inet_service": 2, "classid": 4}
_ANONYMOUS, _MAP = 0x1, 0x8
_CHUNK = 1000
"""Elements to a message: an attribute holds 64 KiB at most."""


class Count(NamedTuple):
    """A counter of the kernel."""

    packets: int
    octets: int


class Element(NamedTuple):
    """One element read back: key and value as bytes, and its counter if it has one.

    `end` is the last key where the element is a range, else empty.
    """

    key: bytes
    end: bytes
    value: bytes
    counted: Count
    comment: str


def encode(kind: str, value: str) -> bytes:
    """One value of an nft type as the kernel holds it.

    Raises:
        ValueError: the text is no value of the type.
    """
    if kind == "mark":
        return struct.pack("=I", int(value, 0))
    if kind == "ipv4_addr":
        return IPv4Address(value).packed
    if kind == "ipv6_addr":
        return IPv6Address(value).packed
    if kind == "inet_proto":
        return bytes([int(value) if value.isdigit() else PROTOCOLS[value]])
    if kind == "inet_service":
        return struct.pack("!H", int(value))
    if kind == "classid":
        major, _, minor = value.partition(":")
        return struct.pack("=I", int(major, 16) << 16 | int(minor, 16))
    raise ValueError(f"no encoding for nft type {kind}")


def decode(kind: str, value: bytes) -> str:
    """The inverse of `encode`."""
    if kind == "mark":
        return f"0x{struct.unpack('=I', value)[0]:08x}"
    if kind == "ipv4_addr":
        return str(IPv4Address(value))
    if kind == "ipv6_addr":
        return str(IPv6Address(value))
    if kind == "inet_proto":
        return next((name for name, number in PROTOCOLS.items() if number == value[0]), str(value[0]))
    if kind == "inet_service":
        return str(struct.unpack("!H", value)[0])
    if kind == "classid":
        number = struct.unpack("=I", value)[0]
        return f"{number >> 16:x}:{number & 0xFFFF:x}"
    raise ValueError(f"no encoding for nft type {kind}")


def spelled(item: Set, element: Element) -> str:
    """An element's key as nft writes it, with `first-last` where it is a range."""
    parts = []
    at = 0
    for kind in item.key:
        size = _SIZES[kind]
        first, last = (decode(kind, key[at : at + size]) for key in (element.key, element.end or element.key))
        parts.append(first if first == last else f"{first}-{last}")
        at += size + -size % 4
    return " . ".join(parts)


def _joined(kinds: tuple[str, ...], value: str) -> bytes:
    """A concatenation: each part fills whole registers of four bytes."""
    parts = [encode(kind, part) for kind, part in zip(kinds, value.split(" . "), strict=True)]
    if len(parts) == 1:
        return parts[0]
    return b"".join(part + b"\0" * (-len(part) % 4) for part in parts)


def writable(item: Set) -> bool:
    """Whether elements of this set can be written here, without nft's text."""
    spelled_by_nft = "interval" in item.flags or "dynamic" in item.flags or "verdict" in item.data
    return not spelled_by_nft and item.each in {None, "counter"}


def delete_messages(item: Set, keys: Iterable[str]) -> Iterator[Message]:
    """Messages that take elements out of a set."""
    return _element_messages(_DELETE_ELEMENT, 0, item, [_element(item, key, None) for key in keys])


def add_messages(item: Set, elements: Mapping[str, str]) -> Iterator[Message]:
    """Messages that put elements into a set."""
    packed = [_element(item, key, value) for key, value in elements.items()]
    return _element_messages(_NEW_ELEMENT, CREATE, item, packed)


def marker_messages(old: str | None, new: str) -> Iterator[Message]:
    """Messages that name another program as the one in force."""
    key = nested(1, nested(1, attribute(1, struct.pack("=I", 1))))
    head = text(1, NAME) + text(2, MARKER)
    if old is not None:
        yield Message(_DELETE_ELEMENT, 0, INET, head + nested(3, key))
    comment = new.encode() + b"\0"
    marked = nested(1, nested(1, attribute(1, struct.pack("=I", 1))), attribute(6, bytes([0, len(comment)]) + comment))
    yield Message(_NEW_ELEMENT, CREATE, INET, head + nested(3, marked))


def marker_lines(old: str | None, new: str) -> list[str]:
    """The same in nft's syntax."""
    take = [f"delete element inet {NAME} {MARKER} {{ 1 }}"] if old is not None else []
    return [*take, f'add element inet {NAME} {MARKER} {{ 1 comment "{new}" }}']


def _element(item: Set, key: str, value: str | None) -> bytes:
    parts = [nested(_KEY, attribute(1, _joined(item.key, key)))]
    if value is not None and item.data:
        parts.append(nested(_DATA, attribute(1, _joined(item.data, value))))
    return nested(1, *parts)


def _element_messages(kind: int, flags: int, item: Set, elements: list[bytes]) -> Iterator[Message]:
    head = text(1, NAME) + text(2, item.name)
    for start in range(0, len(elements), _CHUNK):
        yield Message(kind, flags, INET, head + nested(3, *elements[start : start + _CHUNK]))


def read_elements(netlink: Netlink, name: str) -> Iterator[Element]:
    """Every element of a set of ours; none if the set or the table is not there."""
    request = text(1, NAME) + text(2, name)
    for data in _present(partial(netlink.dump, _GET_ELEMENT, INET, request)):
        for _, packed in each(attributes(data).get(3, b"")):
            yield _read(attributes(packed))


def read_element(netlink: Netlink, item: Set, key: str) -> Element | None:
    """One element of a set of ours; None if it is not there."""
    request = text(1, NAME) + text(2, item.name) + nested(3, _element(item, key, None))
    try:
        data = netlink.get(_GET_ELEMENT, INET, request)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return next((_read(attributes(packed)) for _, packed in each(attributes(data).get(3, b""))), None)


def read_counters(netlink: Netlink) -> dict[str, Count]:
    """Every counter of ours that has a name, by it."""
    request = text(1, NAME) + attribute(3, _COUNTERS.to_bytes(4))
    objects = (attributes(data) for data in _present(partial(netlink.dump, _GET_OBJECT, INET, request)))
    return {_name(found[2]): _count(found[4]) for found in objects}


def _count(counter: bytes) -> Count:
    figures = attributes(counter)
    return Count(int.from_bytes(figures[2]), int.from_bytes(figures[1]))


def _present(dump: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    try:
        yield from dump()
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def _read(element: Attributes) -> Element:
    key = attributes(element[_KEY])[1]
    end = attributes(element[_KEY_END])[1] if _KEY_END in element else b""
    value = attributes(element.get(_DATA, b"")).get(1, b"")
    expression = attributes(element.get(_EXPRESSION, b""))
    count = Count(0, 0)
    if expression.get(1) == b"counter\0":
        count = _count(expression[2])
    user = element.get(_USER, b"")
    comment = user[2 : 2 + user[1]].rstrip(b"\0").decode(errors="replace") if user[:1] == b"\0" else ""
    return Element(key, end, value, count, comment)


def program_id(netlink: Netlink) -> str | None:
    """The id of the program in force; None if the kernel holds none of ours."""
    marks = list(read_elements(netlink, MARKER))
    return marks[0].comment if marks else None


def generation(netlink: Netlink) -> int:
    """How many transactions the namespace's nftables have seen; anyone's."""
    return int.from_bytes(attributes(netlink.get(_GET_GENERATION, 0))[1])


class Structure(NamedTuple):
    """What our table holds, and a digest of it all."""

    chains: dict[str, int]
    """Rules in each chain."""
    sets: dict[str, str]
    """`set` or `map`, for each."""
    digest: str


def structure(netlink: Netlink) -> Structure:
    """Read back chains, sets and rules, so that a change by someone else is noticed.

    Handles and positions differ between equal tables and do not count.
    """
    table = text(1, NAME)
    whole = blake2b(digest_size=16)
    chains: dict[str, bytes] = {}
    for data in _present(partial(netlink.dump, _GET_CHAIN, INET, table)):
        parts = attributes(data)
        if parts[1] == NAME.encode() + b"\0":
            chains[_name(parts[3])] = parts.get(4, b"") + parts.get(5, b"") + parts.get(7, b"")
    sets: dict[str, bytes] = {}
    nouns: dict[str, str] = {}
    for data in _present(partial(netlink.dump, _GET_SET, INET, table)):
        parts = attributes(data)
        flags = int.from_bytes(parts.get(3, b""))
        if parts[1] == NAME.encode() + b"\0" and not flags & _ANONYMOUS:  # anonymous sets come with their rules
            sets[_name(parts[2])] = b"".join(parts.get(kind, b"") for kind in (3, 4, 5, 6, 7, 11))
            nouns[_name(parts[2])] = "map" if flags & _MAP else "set"
    rules: dict[str, list[bytes]] = {}
    for data in _present(partial(netlink.dump, _GET_RULE, INET, table)):
        parts = attributes(data)
        if parts[1] == NAME.encode() + b"\0":
            rules.setdefault(_name(parts[2]), []).append(_normal(parts.get(4, b"")))
    for name in sorted(chains):
        whole.update(name.encode() + b"\0" + chains[name] + b"\0".join(rules.get(name, ())))
    for name in sorted(sets):
        whole.update(name.encode() + b"\0" + sets[name])
    counts = {name: len(rules.get(name, ())) for name in chains}
    return Structure(counts, nouns, whole.hexdigest())


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _normal(expressions: bytes) -> bytes:
    """Expressions without the name of an anonymous set, which the kernel numbers as it likes."""
    return b"".join(_anonymous(packed) for _, packed in each(expressions))


def _anonymous(expression: bytes) -> bytes:
    parts = attributes(expression)
    if parts.get(1) != b"lookup\0":
        return expression
    operands = attributes(parts[2])
    if operands.get(1, b"").startswith((b"__set", b"__map")):
        operands = {kind: value for kind, value in operands.items() if kind not in {1, 4}}
    return b"lookup" + b"".join(bytes([kind]) + value for kind, value in sorted(operands.items()))


def elements_match(netlink: Netlink, item: Set, wanted: Mapping[str, str]) -> bool:
    """Whether a set in the kernel holds just these elements; where nft alone can spell them, as many."""
    held = {element.key: element.value for element in read_elements(netlink, item.name)}
    if not writable(item):
        return len(held) == len(wanted)
    return held == {
        _joined(item.key, key): _joined(item.data, value) if item.data else b"" for key, value in wanted.items()
    }
