"""Lists of addresses as people publish them, read into a set.

A line holds an address, a prefix (``192.0.2.0/24``, also with a mask), a range (``192.0.2.1-192.0.2.9``), or several of
them; `#`, `;` and `//` begin a comment. Also understood are `ipset save`, and what fail2ban-client prints of its bans.
Any other line is left out and reported: a list comes from far away, and half of it is better than nothing, but not
unsaid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from markway.guard.prefixes import BITS, AddressSet, ends, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.guard.prefixes import Spans

LONGEST = 1 << 22
"""Characters of a line that is looked at: fail2ban writes all its bans into one."""

REPORTED = 100
"""Lines not understood that are shown; all are counted."""

_SHOWN = 60
_COMMENT = re.compile(r"(?:[#;]|//)[^\n]*")
_BETWEEN = re.compile(r"[\s,\[\](){}'\"]+")
_RANGE = re.compile(r"([0-9a-fA-F.:]+)[ \t]*-[ \t]*([0-9a-fA-F.:]+)")
_STATUS = re.compile(r"[|` -]*(?:Banned )?IP list:")
"""What `fail2ban-client status JAIL` writes before the addresses."""
_JAIL = re.compile(r"'[\w.-]+':")
"""The name of a jail, in what `fail2ban-client banned` prints."""
_TIMED = re.compile(r"(\S+)\s+\d{4}-\d\d-\d\d [\d:]+ \+ -?\d+ = \d{4}-.*")
"""`fail2ban-client get JAIL banip --with-time`."""
_SINGLE = re.compile(r"[0-9a-fA-F.:/-]+")

_BOTH = (1 << 32) + 1
_OCTETS = [{str(value): (value << shift) * _BOTH for value in range(256)} for shift in (24, 16, 8, 0)]
"""What an octet adds to both ends of a span. No leading zeros: some read those as octal numbers."""
_HOSTS, _HOSTS6 = ({str(length): (1 << bits - length) - 1 for length in range(1, bits + 1)} for bits in BITS.values())
"""The bits of the host under a prefix length."""
_MASKS = {str(IPv4Address(0xFFFF_FFFF ^ host)): host for host in _HOSTS.values()}


class EntryError(ValueError):
    """A line's text is no entry of a list; the message says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that was left out."""

    line: int
    text: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text!r}: {self.why}"


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list says."""

    content: AddressSet
    entries: int
    """Addresses, prefixes and ranges as written."""
    hosts: int
    """Prefixes with bits of a host in them, which were ignored."""
    faulty: int
    """Lines left out."""
    faults: tuple[Fault, ...]
    """The first of them."""


def parse(data: bytes) -> Listed:
    """Read a list. Whatever it is given, it ends in time and memory proportional to the size."""
    # Every octet is some character of latin-1, so a broken encoding spoils its line and no other.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("latin-1").replace("\r\n", "\n")
    lines = _COMMENT.sub("", text).split("\n")
    found: dict[int, Spans] = {4: [], 6: []}
    put = found[4].append
    first, second, third, fourth = _OCTETS
    faults: list[Fault] = []
    faulty = hosts = 0
    for number, line in enumerate(lines, 1):
        # Nearly every line of nearly every list; `entries` would do the same in three times the time.
        address, slash, length = line.partition("/")
        try:
            a, b, c, d = address.split(".", 4)
            both = first[a] + second[b] + third[c] + fourth[d]
            host = _HOSTS[length] if slash else 0
        except (ValueError, KeyError):
            pass
        else:
            if both & host:
                hosts += 1
                both &= ~(host * _BOTH)
            put(both + host)
            continue
        if line and not line.isspace():
            try:
                for version, one, ignored in entries(line):
                    found[version].append(one)
                    hosts += ignored
            except EntryError as error:
                faulty += 1
                if len(faults) < REPORTED:
                    faults.append(Fault(number, line[:_SHOWN].strip(), str(error)))
    count = sum(map(len, found.values()))
    return Listed(AddressSet.merge(found), count, hosts, faulty, tuple(faults))


def entries(line: str) -> list[tuple[int, int, bool]]:
    """A line's entries: version, span, and whether bits of a host were ignored.

    Raises:
        EntryError: it has any part that is none.
    """
    if len(line) > LONGEST:
        raise EntryError(f"longer than {LONGEST} characters")
    line = line.strip()
    if _SINGLE.fullmatch(line):
        return [entry(line)]
    words = _words(line)
    if not words:
        raise EntryError("no address")
    return [entry(word) for word in words]


def _words(line: str) -> list[str]:
    """The entries among what tools write around them."""
    if line.startswith(("create ", "flush ", "destroy ")):  # ipset(8)
        raise EntryError("a command of ipset that adds no address")
    if line.startswith("add "):
        words = line.split()[2:]
        if "nomatch" in words[1:]:
            raise EntryError("an exception, which belongs in allow")
        return words[:1]
    if timed := _TIMED.fullmatch(line):
        return [timed[1]]
    if between := _RANGE.fullmatch(line):
        return [f"{between[1]}-{between[2]}"]
    if line.startswith("[{"):
        line = _JAIL.sub(" ", line)
    elif status := _STATUS.match(line):
        line = line[status.end() :]
    return list(filter(None, _BETWEEN.split(line)))


def entry(word: str) -> tuple[int, int, bool]:
    """One entry: version, span, and whether bits of a host were ignored.

    Raises:
        EntryError: it is none.
    """
    if "-" in word:
        return _from_to(word)
    left, slash, right = word.partition("/")
    version, address = _address(left)
    if not slash:
        return version, address << BITS[version] | address, False
    host = _host(right, version)
    first = address & ~host
    return _sane(version, first, first | host), first << BITS[version] | first | host, first != address


def _from_to(word: str) -> tuple[int, int, bool]:
    left, _, right = word.partition("-")
    version, first = _address(left)
    other, last = _address(right)
    if version != other:
        raise EntryError("a range from one family to the other")
    if first > last:
        raise EntryError("a range that ends before it begins")
    return _sane(version, first, last), span(first, last, BITS[version]), False


def _sane(version: int, first: int, last: int) -> int:
    if last - first == (1 << BITS[version]) - 1:
        raise EntryError("every address there is")
    return version


def _host(length: str, version: int) -> int:
    """The bits of the host under a prefix length or a mask."""
    host = _HOSTS6.get(length) if version == 6 else _HOSTS.get(length, _MASKS.get(length))  # noqa: PLR2004
    if host is None:
        raise EntryError("every address there is" if length == "0" else "no prefix length")
    return host


def _address(word: str) -> tuple[int, int]:
    try:
        if ":" in word:
            return 6, _ip6(word)
        octets = word.split(".", 4)
        first, second, third, fourth = [place[octet] for place, octet in zip(_OCTETS, octets, strict=True)]
        return 4, first + second + third + fourth >> 32
    except (ValueError, KeyError):
        raise EntryError("an address with a zone" if "%" in word else "no address") from None


def _ip6(word: str) -> int:
    """An address as RFC 4291, section 2.2, has it; `ipaddress` takes three times as long.

    Raises:
        ValueError: it is none.
    """
    if "." in word:
        return int(IPv6Address(word))
    head, gap, tail = word.partition("::")
    before = head.split(":", 8) if head else []
    after = tail.split(":", 8) if tail else []
    missing = 8 - len(before) - len(after)
    if missing < 1 if gap else missing:
        raise ValueError(word)
    groups = [*before, *["0"] * missing, *after]
    packed = bytes.fromhex("".join([group.zfill(4) for group in groups]))  # stricter than int, which takes 0x and _
    if "" in groups or max(map(len, groups)) > 4 or len(packed) != 16:  # noqa: PLR2004
        raise ValueError(word)
    return int.from_bytes(packed)


def written(content: AddressSet) -> Iterator[str]:
    """The set as the lines of a list: addresses and ranges, in order."""
    for version, bits in BITS.items():
        kind = IPv4Address if version == 4 else IPv6Address  # noqa: PLR2004
        low = (1 << bits) - 1
        for one in content.spans[version]:
            first, last = one >> bits, one & low
            yield str(kind(first)) if first == last else f"{kind(first)}-{kind(last)}"


def spelled(version: int, one: int) -> str:
    """A span as people write it: an address, a prefix if it is one, else a range."""
    bits = BITS[version]
    kind = IPv4Address if version == 4 else IPv6Address  # noqa: PLR2004
    first, last = ends(one, bits)
    host = (first ^ last).bit_length()
    if first == last:
        return str(kind(first))
    if last - first == (1 << host) - 1:
        return f"{kind(first)}/{bits - host}"
    return f"{kind(first)}-{kind(last)}"
