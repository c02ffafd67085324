"""The selectors of tc-u32(8): what they say, and whether what they say is clear.

tc translates each into bytes, masks and offsets, and asks nothing else: `tcp dst 53 0xffff` also finds datagrams of
UDP, or the middle of a fragment. Here a selector that reads the header behind IP's needs the protocol beside it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, NamedTuple

from markway.config.addresses import parse_network
from markway.config.packets import PROTOCOLS, WITH_PORTS
from markway.config.problems import WrongValue, did_you_mean, listed, quote
from markway.config.shaping import Key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_IPV4, _IPV6 = 4, 6
_FAMILY = {"ip": _IPV4, "ip6": _IPV6}
_WORD = {family: word for word, family in _FAMILY.items()}
_FAMILY_OF = {"ip": _IPV4, "ipv6": _IPV6}  # of tc's protocols
_TCP, _UDP, _ICMP, _ICMPV6 = (PROTOCOLS[name] for name in ("tcp", "udp", "icmp", "icmpv6"))
_ANY = frozenset(range(256))
_PORTED = frozenset(PROTOCOLS[name] for name in WITH_PORTS)
_EITHER_ICMP = frozenset({_ICMP, _ICMPV6})
_USUAL = {_IPV4: {_TCP, _UDP, _ICMP}, _IPV6: {_TCP, _UDP, _ICMPV6}}
_BYTE = 0xFF
_BITS = {"u8": 8, "u16": 16, "u32": 32}
_LOWEST, _HIGHEST = -16, 65_532
"""Offsets: the header of Ethernet is before that of IP."""
_PROTOCOL_AT = {4: 9, 6: 6}
_HEADER = {4: 20, 6: 40}
_FIELDS = {  # bytes, offset; IPv4 without options, as tc has it
    "ip": {
        "tos": (1, 1), "dsfield": (1, 1), "precedence": (1, 1), "ihl": (1, 0), "protocol": (1, 9), "ttl": (1, 8),
        "sport": (2, 20), "dport": (2, 22), "icmp_type": (1, 20), "icmp_code": (1, 21),
    },
    "ip6": {
        "protocol": (1, 6), "hlimit": (1, 7), "flowlabel": (4, 0), "sport": (2, 40), "dport": (2, 42),
        "icmp_type": (1, 40), "icmp_code": (1, 41),
    },
    "tcp": {"src": (2, 0), "dst": (2, 2), "flags": (1, 13)},
    "udp": {"src": (2, 0), "dst": (2, 2)},
    "icmp": {"type": (1, 0), "code": (1, 1)},
}  # fmt: skip
_FRAGMENTS = {"nofrag": (0, 0x3FFF), "firstfrag": (0, 0x1FFF), "df": (0x4000, 0x4000), "mf": (0x2000, 0x2000)}
_FLAGS = {"fin": 0x01, "syn": 0x02, "rst": 0x04, "psh": 0x08, "ack": 0x10, "urg": 0x20, "ece": 0x40, "cwr": 0x80}
_ADDRESSES = {"ip": {"src": 12, "dst": 16}, "ip6": {"src": 8, "dst": 24}}
_EVERYBODY = {"any", "all", "default"}
_NEEDS = {
    "sport": _PORTED, "dport": _PORTED, "icmp_type": _EITHER_ICMP, "icmp_code": _EITHER_ICMP,
    "tcp": frozenset({_TCP}), "udp": frozenset({_UDP}), "icmp": _EITHER_ICMP,
}  # fmt: skip
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,18}")
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]{1,16}")


class Selector(NamedTuple):
    """What one selector asks for. `family` 0 is either; `needs` are the protocols of which one has to be sure."""

    keys: tuple[Key, ...]
    family: int = 0
    needs: frozenset[int] = frozenset()


class Unclear(NamedTuple):
    """What is wrong with a selector beside the others: its place among them."""

    place: int
    message: str
    hint: str | None = None


@lru_cache(maxsize=1 << 10)
def parse_selector(text: str) -> Selector:
    """One selector as tc reads it behind the word `match`.

    Raises:
        WrongValue: tc would refuse it, or take it for something that it does not say.
    """
    words = text.split()
    if words[:1] == ["match"]:
        raise WrongValue(
            f"{quote(text)}: the word match is not written here", f"did you mean {quote(text[6:].strip())}?"
        )
    if "match" in words:
        both = ", ".join(quote(part.strip()) for part in " ".join(words).split(" match "))
        raise WrongValue("these are several selectors: each is a text of its own", f"did you mean [{both}]?")
    if not words:
        raise WrongValue("an empty selector finds nothing", 'for example "ip protocol 17 0xff"')
    kind, rest = words[0], words[1:]
    if kind in _BITS:
        return _pattern(text, kind, rest)
    if kind in _ADDRESSES and rest and rest[0] in _ADDRESSES[kind]:
        return _address(text, kind, rest)
    if kind in _FIELDS:
        return _field(text, kind, rest)
    if kind == "mark":
        raise WrongValue("many kernels take a mark in u32 and ignore it", 'write fw = "VALUE/MASK" instead of u32')
    known = [*_BITS, *_FIELDS]
    raise WrongValue(
        f"{quote(kind)} begins no selector", did_you_mean(kind, known) or f"there are {listed(known, 'and')}"
    )


def _pattern(text: str, kind: str, rest: list[str]) -> Selector:
    bits = _BITS[kind]
    words, place = (rest[: rest.index("at")], rest[rest.index("at") + 1 :]) if "at" in rest else (rest, ["0"])
    value, mask = _value_and_mask(text, words, bits)
    offset, base = _offset(text, "".join(place), bits // 8)
    return Selector((Key(bits // 8, value, mask, offset, base),), needs=_ANY if base == "next" else frozenset())


def _offset(text: str, place: str, width: int) -> tuple[int, str]:
    base = "next" if place.startswith("nexthdr+") else "ip"
    digits = place.removeprefix("nexthdr+")
    if not re.fullmatch(r"-?[0-9]{1,5}|0[xX][0-9a-fA-F]{1,4}", digits):
        raise WrongValue(
            f"{quote(text)}: at is followed by an offset in bytes", 'for example "at 16" or "at nexthdr+13"'
        )
    offset = int(digits, 16 if digits[:2] in {"0x", "0X"} else 10)
    lowest = 0 if base == "next" else _LOWEST
    if not lowest <= offset <= _HIGHEST:
        raise WrongValue(f"{quote(text)}: there is nothing at {offset}", f"{lowest} to {_HIGHEST}")
    if offset % width:
        what = f"{quote(text)}: {width} bytes begin at a multiple of {width}, and {offset} is none"
        raise WrongValue(what, f"use smaller selectors, such as u8 … at {offset}")
    return offset, base


def _address(text: str, kind: str, rest: list[str]) -> Selector:
    family, first = _FAMILY[kind], _ADDRESSES[kind][rest[0]]
    field, *networks = rest
    if len(networks) != 1:
        example = "10.0.0.0/8" if family == _IPV4 else "2001:db8::/32"
        raise WrongValue(f"{quote(text)}: one address or network follows {field}", f"for example {quote(example)}")
    if networks[0] in _EVERYBODY:
        return Selector((Key(4, 0, 0, first),), family)
    network = parse_network(networks[0])
    if network.version != family:
        raise WrongValue(f"{network} is IPv{network.version}", f"write {_WORD[network.version]}")
    words = 1 if isinstance(network, IPv4Network) else 4
    number, mask = int(network.network_address), int(network.netmask)
    parts = [((words - 1 - word) * 32, first + 4 * word) for word in range(words)]
    keys = [Key(4, number >> shift & 0xFFFF_FFFF, mask >> shift & 0xFFFF_FFFF, offset) for shift, offset in parts]
    return Selector(tuple(key for key in keys if key.mask) or (Key(4, 0, 0, first),), family)


def _field(text: str, kind: str, rest: list[str]) -> Selector:
    family = _FAMILY.get(kind, 0)
    name = rest[0] if rest else ""
    if kind == "ip" and name in _FRAGMENTS and len(rest) == 1:
        return Selector((Key(2, *_FRAGMENTS[name], 6),), family)
    if kind == "tcp" and name in _FLAGS and len(rest) == 1:
        return Selector((Key(1, _FLAGS[name], _FLAGS[name], 13, "next"),), family, _NEEDS["tcp"])
    if kind == "ip6" and name == "priority":
        value, mask = _value_and_mask(text, rest[1:], 8)
        return Selector((Key(4, value << 20, mask << 20, 0),), family)
    if name not in _FIELDS[kind]:
        known = [*_FIELDS[kind], *_ADDRESSES.get(kind, ())]
        known += {"ip": [*_FRAGMENTS], "ip6": ["priority"], "tcp": [*_FLAGS]}.get(kind, [])
        what = f"{quote(text)}: {kind} has no {quote(name)}" if name else f"{quote(text)} says nothing of {kind}"
        usual = {"sport": "src", "dport": "dst", "port": "dst"}.get(name, name)
        raise WrongValue(what, did_you_mean(usual, known) or f"it has {listed(known, 'and')}")
    width, offset = _FIELDS[kind][name]
    if "at" in rest:
        raise WrongValue(f"{quote(text)}: {name} has its own place", f"leave out at, or write u{8 * width}")
    if name == "protocol" and len(rest) > 1 and rest[1] in PROTOCOLS:
        rest = [name, str(PROTOCOLS[rest[1]]), *rest[2:]]
    value, mask = _value_and_mask(text, rest[1:], 8 * width)
    needs = _NEEDS.get(kind) or _NEEDS.get(name) or frozenset()
    return Selector((Key(width, value, mask, offset, "ip" if family else "next"),), family, needs)


def _value_and_mask(text: str, words: list[str], bits: int) -> tuple[int, int]:
    """The two numbers of a selector; tc reads the mask as hexadecimal and a value that begins with 0 as octal."""
    full = f"{(1 << bits) - 1:#x}"
    if len(words) == 1:
        raise WrongValue(f"{quote(text)} has no mask", f"did you mean {quote(f'{text.strip()} {full}')}?")
    try:
        given, masked = words
    except ValueError:
        raise WrongValue(f"{quote(text)}: a value and a mask are needed", f"for example 80 {full}") from None
    if _NUMBER.fullmatch(given) is None:
        octal = given.lstrip("0")
        hint = f"did you mean 0x{octal} or {octal}?" if given.isdecimal() else f"for example 80 {full}"
        reason = ": tc would read it as octal" if given.isdecimal() else ""
        raise WrongValue(f"{quote(text)}: {quote(given)} is not a number{reason}", hint)
    if _HEX.fullmatch(masked) is None:
        raise WrongValue(f"{quote(text)}: {quote(masked)} is not a hexadecimal mask", f"for example {full}")
    value, mask = int(given, 0), int(masked, 16)
    for what, number in (("value", value), ("mask", mask)):
        if number >> bits:
            raise WrongValue(f"{quote(text)}: the {what} {number:#x} is wider than {bits} bits", f"up to {full}")
    if value & ~mask:
        what = f"{quote(text)}: the value has bits outside the mask, which tc would drop"
        raise WrongValue(what, f"did you mean {given} {mask | value:#x} or {value & mask:#x} {mask:#x}?")
    return value, mask


def check_together(selectors: Sequence[Selector], protocol: str) -> Iterator[Unclear]:
    """What is wrong with selectors that have to hold at once, for packets of `protocol` (tc's)."""
    family = _FAMILY_OF.get(protocol, 0)
    foreign = False
    for index, selector in enumerate(selectors):
        if not selector.family and not selector.needs:
            continue
        foreign |= selector.family not in {0, family}
        if not family:
            hint = 'write protocol = "ipv6"' if selector.family == _IPV6 else 'write protocol = "ip"'
            yield Unclear(index, f"it reads an IP header, and protocol = {quote(protocol)} brings others", hint)
        elif selector.family not in {0, family}:
            yield Unclear(index, f"it reads the header of IPv{selector.family}, and the filter looks at IPv{family}")
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for index, selector in enumerate(selectors):
        if any(_clash(found, key) for key in selector.keys):
            yield Unclear(index, "another selector asks for the contrary: nothing could match", "write another filter")
    if family and not foreign:
        yield from _check_protocol(selectors, family, found)


def _check_protocol(
    selectors: Sequence[Selector], family: int, found: dict[tuple[str, int], tuple[int, int]]
) -> Iterator[Unclear]:
    value, mask = found.get(("ip", _PROTOCOL_AT[family]), (0, 0))
    for index, selector in enumerate(selectors):
        if not selector.needs:
            continue
        if mask != _BYTE:
            numbers = sorted(selector.needs & _USUAL[family]) or sorted(selector.needs)[:1]
            known = " or ".join(f'"{_WORD[family]} protocol {number} 0xff"' for number in numbers)
            what = "u32 compares bits alone: packets of any protocol that has these there would match"
            yield Unclear(index, what, f"add {known}")
        elif value not in selector.needs:
            yield Unclear(index, f"protocol {value} has no such field: nothing could match as meant")


def _clash(found: dict[tuple[str, int], tuple[int, int]], key: Key) -> bool:
    """Add a key's bytes to those found; whether one contradicts another."""
    clash = False
    for byte in range(key.width):
        shift = 8 * (key.width - 1 - byte)
        value, mask = key.value >> shift & 0xFF, key.mask >> shift & 0xFF
        place = (key.base, key.offset + byte)
        before, looked = found.get(place, (0, 0))
        clash |= bool((before ^ value) & looked & mask)
        found[place] = (before | value, looked | mask)
    return clash


def reads_beyond(selectors: Sequence[Selector], protocol: str) -> list[int]:
    """Which patterns read behind the IP header although no protocol is sure."""
    family = _FAMILY_OF.get(protocol, 0)
    if not family:
        return []
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for selector in selectors:
        for key in selector.keys:
            _clash(found, key)
    if found.get(("ip", _PROTOCOL_AT[family]), (0, 0))[1] == _BYTE:
        return []
    return [
        index
        for index, selector in enumerate(selectors)
        if not selector.needs
        and any(key.base == "ip" and key.mask and key.offset >= _HEADER[family] for key in selector.keys)
    ]
