"""Lists as they are found in the world, and lines that are none."""

from __future__ import annotations

import os
import random
import re
from ipaddress import ip_address, ip_network

import pytest

from markway.guard.lists import LONGEST, REPORTED, EntryError, entries, parse, written
from markway.guard.prefixes import BITS, span

FUZZ = int(os.environ.get("MARKWAY_FUZZ_LINES", "20000"))


def lines(text: str | bytes) -> list[str]:
    return list(written(parse(text.encode() if isinstance(text, str) else text).content))


SPAMHAUS = """; Spamhaus DROP List 2024/02/01 - (c) 2024 The Spamhaus Project SLU
; Last-Modified: Thu, 01 Feb 2024 10:50:23 GMT
1.10.16.0/20 ; SBL256894
1.19.0.0/16 ; SBL434604
2a06:5280::/29 ; SBL625465
"""
IPSET = """create drones hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x9d6e1d1c
add drones 192.0.2.0/25
add drones 198.51.100.7 timeout 3599 packets 3 bytes 180 comment "seen at night"
flush other
add drones 2001:db8::/32
"""
STATUS = """Status for the jail: sshd
|- Filter
`- Actions
   `- Banned IP list:	192.0.2.7 198.51.100.9 2001:db8::5
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            SPAMHAUS,
            ["1.10.16.0-1.10.31.255", "1.19.0.0-1.19.255.255", "2a06:5280::-2a06:5287:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
        (IPSET, ["192.0.2.0-192.0.2.127", "198.51.100.7", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"]),
        (STATUS, ["192.0.2.7", "198.51.100.9", "2001:db8::5"]),
        ("[{'sshd': ['192.0.2.7', '2001:db8::5']}, {'nginx-auth': []}]", ["192.0.2.7", "2001:db8::5"]),
        ("192.0.2.7 \t2024-01-01 10:00:00 + 600 = 2024-01-01 10:10:00", ["192.0.2.7"]),
        ("\ufeff192.0.2.7\r\n\r\n  192.0.2.9  \r\n", ["192.0.2.7", "192.0.2.9"]),
        ("192.0.2.0/255.255.255.252", ["192.0.2.0-192.0.2.3"]),
        ("192.0.2.0-192.0.2.3\n192.0.2.4 - 192.0.2.5", ["192.0.2.0-192.0.2.5"]),
        ("192.0.2.1 192.0.2.4, 192.0.2.6", ["192.0.2.1", "192.0.2.4", "192.0.2.6"]),
        (
            "192.0.2.1#a\n192.0.2.3 ; b\n192.0.2.5// c\n# 192.0.2.7\n//192.0.2.9",
            ["192.0.2.1", "192.0.2.3", "192.0.2.5"],
        ),
        ("::ffff:192.0.2.1\n2001:DB8::1", ["::ffff:192.0.2.1", "2001:db8::1"]),
        ("", []),
    ],
)
def test_a_list_from_the_world(text, wanted):
    assert [str(text) for text in lines(text)] == [
        line.replace("::ffff:192.0.2.1", "::ffff:c000:201") for line in wanted
    ]


def test_bits_of_a_host_are_ignored_and_counted():
    found = parse(b"192.0.2.1/24\n 2001:db8::1/32\n192.0.2.0/24\n198.51.100.1/255.255.255.0")
    assert (found.entries, found.hosts, found.faulty) == (4, 3, 0)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("192.0.2.256", "no address"),
        ("192.0.2.07", "no address"),
        ("192.0.2", "no address"),
        ("192.0.2.1.1", "no address"),
        ("1:2:3:4:5:6:7:8:9", "no address"),
        ("1::2::3", "no address"),
        (":::", "no address"),
        ("12345::", "no address"),
        ("1_0::", "no address"),
        ("+1::", "no address"),
        ("0x11::", "no address"),
        ("fe80::1%eth0", "an address with a zone"),
        ("192.0.2.0/33", "no prefix length"),
        ("192.0.2.0/", "no prefix length"),
        ("192.0.2.0/255.0.255.0", "no prefix length"),
        ("2001:db8::/129", "no prefix length"),
        ("0.0.0.0/0", "every address there is"),
        ("::/0", "every address there is"),
        ("0.0.0.0-255.255.255.255", "every address there is"),
        ("192.0.2.9-192.0.2.1", "a range that ends before it begins"),
        ("192.0.2.1-::1", "a range from one family to the other"),
        ("127.0.0.1 localhost", "no address"),
        ("45.148.10.0\t45.148.10.255\t24\t9", "no address"),
        ("add drones 192.0.2.0/25 nomatch", "an exception, which belongs in allow"),
        ("add drones 192.0.2.1,tcp:80", "no address"),
        ("add", "no address"),
        ("<html>", "no address"),
        ("1" * 5000, "no address"),
        (" " * LONGEST + "::1", f"longer than {LONGEST} characters"),
    ],
)
def test_a_line_that_is_no_entry_is_left_out_and_reported(line, why):
    found = parse(f"192.0.2.1\n{line}\n192.0.2.3".encode())
    assert found.entries == 2
    assert found.faulty == 1
    fault = found.faults[0]
    assert (fault.line, fault.why) == (2, why)
    assert str(fault).startswith("line 2: ")
    assert len(fault.text) <= 60


def test_all_faults_are_counted_and_some_shown():
    found = parse(b"x\n" * 1000)
    assert found.faulty == 1000
    assert len(found.faults) == REPORTED


PIECES = [
    "192.0.2.",
    "1",
    "255",
    "256",
    "/",
    "24",
    "/24",
    "-",
    ":",
    "::",
    "2001:db8",
    "ffff",
    "%",
    " ",
    "\t",
    "\r",
    ",",
    "#",
    "//",
    ";",
]
PIECES += [
    "add x ",
    "create ",
    "'a':",
    "[",
    "]",
    "IP list:",
    "0x1",
    "\0",
    "\x1b[31m",
    "٣",
    "\xff",
    "nomatch",
    "0.0.0.0",
    "e",
    "_",
    "+",
]


def hostile(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        return chance.randbytes(chance.randrange(40)).replace(b"\n", b"")
    if kind < 0.11:
        return chance.choice(PIECES).encode() * chance.randrange(2000)
    return "".join(chance.choices(PIECES, k=chance.randrange(1, 12))).encode("utf-8")


def test_hostile_lines_never_crash_nor_add_what_they_do_not_say():
    chance = random.Random(f"lists {FUZZ}")
    accepted = 0
    for _ in range(FUZZ // 1000):
        batch = [hostile(chance) for _ in range(1000)]
        found = parse(b"\n".join(batch))
        assert found.entries == sum(len(said(line)) for line in batch)
        accepted += found.entries
    assert accepted > FUZZ // 100


def said(line: bytes) -> list[tuple[int, int]]:
    """What one line adds, after a check against ipaddress that it is written there."""
    text = re.split(r"[#;]|//", line.decode("latin-1"), maxsplit=1)[0]
    try:
        found = entries(text)
    except EntryError:
        return []
    for version, one, _ in found:
        assert one in {span for word in words(text) for span in meanings(word)}, (version, text)
    return [(version, one) for version, one, _ in found]


def words(text: str) -> list[str]:
    """What may count as one entry: with fail2ban's labels taken away, or as a range with blanks about the hyphen."""
    bare = re.sub(r"'[\w.-]+':|^[\s|`-]*(Banned )?IP list:", " ", text)
    return [*re.split(r"[\s,\[\](){}'\"]+", f"{text} {bare}"), re.sub(r"\s", "", text)]


def meanings(word: str) -> list[int]:
    """The spans that ipaddress makes of a word, if any."""
    found = []
    try:
        network = ip_network(word, strict=False)
        found.append(span(int(network[0]), int(network[-1]), BITS[network.version]))
    except ValueError:
        pass
    left, dash, right = word.partition("-")
    if dash:
        try:
            first, last = ip_address(left), ip_address(right)
            found.append(span(int(first), int(last), BITS[first.version]))
        except ValueError:
            pass
    return found
