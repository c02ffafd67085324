"""The grammar of what a packet has: protocols, DSCP, TCP flags, lengths, marks, devices, and expressions of nft.

Every function takes the operator's text and returns a value, or raises `WrongValue` saying what to write.
"""

from __future__ import annotations

import re
from functools import lru_cache

from markway.config.problems import WrongValue, did_you_mean, listed, quote

PROTOCOLS = {
    "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "sctp": 132,
    "udplite": 136,
}  # fmt: skip
"""The transport protocols that have a name here, with IANA's numbers."""
WITH_PORTS = ("tcp", "udp", "dccp", "sctp", "udplite")
"""Those whose header begins with two ports."""
ICMP = {"icmp": 4, "icmpv6": 6}
"""Which family's messages they are."""
_BOTH_ICMP = ("destination-unreachable", "echo-request", "echo-reply", "parameter-problem", "time-exceeded")
ICMP_TYPES = {
    "icmp": (
        *_BOTH_ICMP, "source-quench", "redirect", "router-advertisement", "router-solicitation", "timestamp-request",
        "timestamp-reply", "info-request", "info-reply", "address-mask-request", "address-mask-reply",
    ),
    "icmpv6": (
        *_BOTH_ICMP, "packet-too-big", "mld-listener-query", "mld-listener-report", "mld-listener-done",
        "nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert", "nd-redirect",
        "router-renumbering", "ind-neighbor-solicit", "ind-neighbor-advert", "mld2-listener-report",
    ),
}  # fmt: skip
"""The names of nft(8), "ICMP HEADER EXPRESSION" and "ICMPV6 HEADER EXPRESSION"."""
STATES = ("new", "established", "related", "invalid", "untracked")
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr")
LARGEST_MARK = 0xFFFF_FFFF
LONGEST_DEVICE = 15  # IFNAMSIZ of linux/if.h, less its NUL

_DSCP = {
    "cs0": 0, "be": 0, "le": 1, "cs1": 8, "af11": 10, "af12": 12, "af13": 14, "cs2": 16, "af21": 18, "af22": 20,
    "af23": 22, "cs3": 24, "af31": 26, "af32": 28, "af33": 30, "cs4": 32, "af41": 34, "af42": 36, "af43": 38,
    "cs5": 40, "va": 44, "ef": 46, "cs6": 48, "cs7": 56,
}  # fmt: skip
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+~=-]*")
_MARK = re.compile(r"(0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,18})(?:/(0[xX][0-9a-fA-F]{1,16}|[1-9][0-9]{0,18}))?")
_LENGTH = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_LONGEST_PACKET = 65_535 + 40  # a payload of IPv6 behind its header
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10}")
_CGROUP = re.compile(r"[^/\s\"\\{};$#@*]+(?:/[^/\s\"\\{};$#@*]+)*")
_DECIDING = frozenset(
    [
        "accept",
        "drop",
        "reject",
        "jump",
        "goto",
        "return",
        "queue",
        "continue",
        "set",
        "counter",
        "log",
        "limit",
        "meter",
        "update",
        "add",
        "delete",
        "dup",
        "fwd",
        "notrack",
        "masquerade",
        "snat",
        "dnat",
        "redirect",
        "tproxy",
        "synproxy",
        "quota",
        "comment",
    ]
)
_NFT_PART = re.compile(r'"[^"]*"|[A-Za-z_][\w-]*|.', re.DOTALL)
_BRACKETS = {")": "(", "}": "{", "]": "["}


def _one_of(text: str, known: tuple[str, ...], what: str) -> str:
    if text in known:
        return text
    raise WrongValue(f"{quote(text)} is no {what}", did_you_mean(text, known) or f"there are {listed(known, 'and')}")


def parse_protocol(text: str) -> str:
    """A transport protocol by name, or by number if it has none here."""
    if text.isascii() and text.isdecimal() and int(text[:4]) in range(256):
        return next((name for name, number in PROTOCOLS.items() if number == int(text)), str(int(text)))
    aliases = {"ipv6-icmp": "icmpv6", "icmp6": "icmpv6"}
    return _one_of(aliases.get(text.lower(), text.lower()), (*PROTOCOLS,), "protocol")


def parse_dscp(text: str) -> int:
    """A DSCP by its name (RFC 2474, 2597, 3246, 8622) or number."""
    if text.lower() in _DSCP:
        return _DSCP[text.lower()]
    number = text.removeprefix("0x")
    if re.fullmatch(r"[0-9a-fA-F]{1,2}" if number != text else r"[0-9]{1,2}", number):
        value = int(number, 16 if number != text else 10)
        if value in range(1 << 6):
            return value
    raise WrongValue(
        f"{quote(text)} is no DSCP", did_you_mean(text, [*_DSCP]) or "a name such as ef or cs1, or 0 to 63"
    )


def parse_icmp_type(text: str) -> str:
    """A message of ICMP or ICMPv6."""
    return _one_of(text, tuple(dict.fromkeys((*ICMP_TYPES["icmp"], *ICMP_TYPES["icmpv6"]))), "ICMP message")


def parse_state(text: str) -> str:
    """A state of a connection."""
    return _one_of(text, STATES, "state of a connection")


def parse_flags(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`ack`, `syn/syn,ack`: the flags that are looked at, and those of them that are set."""
    given, slash, mask = text.replace(" ", "").partition("/")
    wanted = tuple(_one_of(word, FLAGS, "TCP flag") for word in given.lower().split(",") if word or not slash)
    looked = tuple(_one_of(word, FLAGS, "TCP flag") for word in mask.lower().split(",")) if slash else wanted
    strange = [word for word in wanted if word not in looked]
    if strange:
        hint = f"did you mean {quote(f'{given}/{mask},{strange[0]}')}?"
        raise WrongValue(f"{strange[0]} is not among the flags that are looked at: nothing could match", hint)
    return tuple(sorted(set(looked), key=FLAGS.index)), tuple(sorted(set(wanted), key=FLAGS.index))


def parse_length(text: str) -> tuple[int, int]:
    """A packet's length in bytes, or a range of lengths."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise WrongValue(f"{quote(text)} is no length", 'for example "0-128"')
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise WrongValue(f"the range {quote(text)} runs backwards", f'did you mean "{last}-{first}"?')
    if last > _LONGEST_PACKET:
        raise WrongValue(f"no packet has {last} bytes", f"up to {_LONGEST_PACKET}")
    return first, last


@lru_cache(maxsize=1 << 10)
def parse_mark(text: str) -> tuple[int, int]:
    """`0x50/0xff`, `80`: the value of a mark and its mask."""
    match = _MARK.fullmatch(text)
    if match is None:
        raise WrongValue(f"{quote(text)} is no mark", 'for example "0x50/0xff" or 80')
    value, mask = int(match[1], 0), int(match[2], 0) if match[2] else LARGEST_MARK
    if value > LARGEST_MARK or mask > LARGEST_MARK:
        raise WrongValue(f"{quote(text)} is wider than a mark, which has 32 bits", "up to 0xffffffff")
    if value & ~mask:
        hint = f"did you mean {quote(f'{value:#x}/{mask | value:#x}')} or {quote(f'{value & mask:#x}/{mask:#x}')}?"
        raise WrongValue(f"{quote(text)} has bits outside its mask: nothing could match", hint)
    return value, mask


def parse_device(text: str) -> str:
    """The name of a network device, as the kernel allows it (dev_valid_name in net/core/dev.c) and nft takes it."""
    if len(text) > LONGEST_DEVICE:
        raise WrongValue(f"{quote(text)} is longer than a device's name can be", f"up to {LONGEST_DEVICE} characters")
    if "*" in text or "%" in text:
        raise WrongValue(f"{quote(text)} is a pattern, and one device is needed", 'for example "eth0"')
    if _DEVICE.fullmatch(text) is None:
        raise WrongValue(f"{quote(text)} cannot be the name of a device", 'for example "eth0"')
    return text


def parse_owner(text: str) -> str:
    """A user or a group, by name or by number."""
    if _USER.fullmatch(text) is None or (text.isdecimal() and int(text) >= LARGEST_MARK):
        raise WrongValue(f"{quote(text)} is no user or group", 'for example "backup" or 1000')
    return text


def parse_cgroup(text: str) -> str:
    """The path of a control group below the root of version 2."""
    below = text.removeprefix("/sys/fs/cgroup").strip("/")
    if text != below:
        raise WrongValue(f"{quote(text)} is a path from the root", f"did you mean {quote(below)}?" if below else None)
    if _CGROUP.fullmatch(text) is None or any(part in {".", ".."} for part in text.split("/")):
        raise WrongValue(f"{quote(text)} is no control group", 'for example "system.slice/backup.service"')
    return text


def parse_nft(text: str) -> str:
    """An expression of nft(8) that looks at a packet and does nothing."""
    words = [part for part in _NFT_PART.findall(text) if part not in {" ", "\t"}]
    if not words:
        raise WrongValue("an empty expression means nothing", 'for example nft = "ip dscp ef"')
    open_: list[str] = []
    for word in words:
        if word in {";", "#", "\\"} or not word.isprintable():
            raise WrongValue(f"{quote(word)} could begin something else: one expression is needed")
        if word == '"':
            raise WrongValue("a string is never closed", 'a " is missing')
        if word in _BRACKETS.values():
            open_.append(word)
        elif word in _BRACKETS and (not open_ or open_.pop() != _BRACKETS[word]):
            raise WrongValue(f"{quote(word)} closes nothing")
        if word in _DECIDING:
            raise WrongValue(f"{quote(word)} does something: a match only looks", "the class says what becomes of it")
    if open_:
        raise WrongValue(f"{quote(open_[-1])} is never closed")
    return text.strip()
