"""The grammar of what checks and loads are told: paths, names, bytes to send, HTTP statuses, SNMP objects, policies.

Every function takes the operator's text and returns a value, or raises `WrongValue` saying what to write.
"""

from __future__ import annotations

import re
import warnings
from difflib import get_close_matches
from ipaddress import ip_address

from markway.config.model import POLICIES
from markway.config.problems import QUOTED_AT_MOST, WrongValue, did_you_mean, listed, quote

LONGEST_BYTES = 65_507
"""Of what is sent or expected: all that fits a datagram of IPv4, and a little less than is looked at of an answer."""

_URL = re.compile(r"https?://([^/]*)(/.*)?", re.IGNORECASE)
_LABEL, _NAME = 63, 253  # RFC 1035, 2.3.4, as it is written: without the root's dot
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?")
_PORT_END = re.compile(r":[0-9]+$")
_NAMED_BYTES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
_BYTES = re.compile(r"\\(x[0-9a-fA-F]{2}|[\s\S]|$)|[^\\]+")
_STATUSES = re.compile(r"[1-5][0-9][0-9](-[1-5][0-9][0-9])?(,[1-5][0-9][0-9](-[1-5][0-9][0-9])?)*")
_CLASS = re.compile(r"([1-5])xx", re.IGNORECASE)
_OID = re.compile(r"\.?[0-9]+(\.[0-9]+)+")
_LONGEST_OID, _LARGEST_ARC = 128, 0xFFFF_FFFF  # RFC 2578, 3.5
_FIRST_ARCS = ("0", "1", "2")
_AVERAGES = {"laLoad", "laLoadInt"}
_OCTETS = {"ifInOctets", "ifOutOctets"}
_OBJECTS = ["laLoad.1", "laLoadInt.1", "hrProcessorLoad", "ifInOctets.2", "ifOutOctets.2"]  # 1 is lo
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*)", re.ASCII)


def parse_word(text: str) -> str:
    """A name that another program knows, such as a user's."""
    if not text:
        raise WrongValue("an empty text means nothing", "leave it out")
    if not text.isprintable():
        raise WrongValue(f"{quote(text)} has a character that cannot be seen")
    return text


def parse_file(text: str) -> str:
    """Where a file is, from the root."""
    parse_word(text)
    if not text.startswith("/"):
        raise WrongValue(
            f"{quote(text)} depends on where the daemon runs",
            f"for example {quote('/etc/markway/' + text.rpartition('/')[2])}",
        )
    return text


def parse_argument(text: str) -> str:
    """One argument of a program, which may be anything but a NUL."""
    if "\0" in text:
        raise WrongValue("a NUL byte cannot be in an argument")
    return text


def parse_program(text: str) -> str:
    """A program: from the root, or a name to be looked up in PATH."""
    parse_word(text)
    if "/" in text and not text.startswith("/"):
        raise WrongValue(f"{quote(text)} depends on where the daemon runs", "write the whole path, or the name alone")
    if " " in text:
        parts = ", ".join(quote(part) for part in text.split())
        raise WrongValue(f"{quote(text)} is one word, the program's", f"did you mean [{parts}]?")
    return text


def parse_url_path(text: str) -> str:
    """A path of HTTP."""
    url = _URL.fullmatch(text)
    if url is not None:
        raise WrongValue("the backend's address is known: the path is enough", f"did you mean {quote(url[2] or '/')}?")
    if not text.startswith("/"):
        raise WrongValue(f"{quote(text)} is no path: it starts with a /", f"did you mean {quote('/' + text)}?")
    return text


def parse_host(text: str) -> str:
    """A Host of HTTP (RFC 9110, 7.2): a name or an address, and a port if need be."""
    url = _URL.fullmatch(text)
    if url is not None:
        raise WrongValue(f"{quote(text)} is more than a host", f"did you mean {quote(url[1])}?")
    match = _HOST.fullmatch(text)
    if match is None or (not text.startswith("[") and not _is_name(match[1])):
        raise WrongValue(f"{quote(text)} is not a host's name", 'for example "www.example.org"')
    return text


def parse_server_name(text: str) -> str:
    """A name, or an address, as a certificate has it."""
    if _is_name(text) or _is_address(text):
        return text
    bare = _PORT_END.sub("", text)
    hint = f"did you mean {quote(bare)}?" if _is_name(bare) else 'for example "www.example.org"'
    raise WrongValue(f"{quote(text)} is not a server's name", hint)


def parse_question(text: str) -> str:
    """A name to ask a DNS server for; `.` is the root."""
    if text == "." or _is_name(text.removesuffix("."), hosts=False):
        return text
    raise WrongValue(f"{quote(text)} is not a name that can be asked for", 'for example "example.org"')


def _is_name(text: str, *, hosts: bool = True) -> bool:
    """Whether the text can be a name in the DNS: RFC 1035, 2.3.4; a host's has fewer characters."""
    if not text.isascii() and not hosts:
        try:
            text = text.encode("idna").decode()
        except UnicodeError:
            return False
    allowed = r"[A-Za-z0-9_-]+" if hosts else r"[!-~]+"
    labels = text.split(".")
    return len(text) <= _NAME and all(len(label) <= _LABEL and re.fullmatch(allowed, label) for label in labels)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def parse_bytes(text: str) -> bytes:
    r"""A text as bytes: UTF-8, in which \xHH, \r, \n, \t, \0 and \\ stand for one byte each.

    TOML's own `\xHH` is a character. From 0x80 on UTF-8 makes two bytes of it, which is not what was meant: refused.
    """
    if not text:
        raise WrongValue("an empty text is nothing", "leave it out")
    found = []
    for match in _BYTES.finditer(text):
        escaped = match[1]
        if escaped is None:
            found.append(_utf8(match[0]))
        elif escaped in _NAMED_BYTES:
            found.append(_NAMED_BYTES[escaped])
        elif escaped.startswith("x") and escaped != "x":
            found.append(bytes.fromhex(escaped[1:]))
        else:
            raise WrongValue(f"{_shown(match[0])} means nothing", r"there are \xHH, \r, \n, \t, \0 and \\")
    data = b"".join(found)
    if len(data) > LONGEST_BYTES:
        raise WrongValue(f"{len(data)} bytes are too many", f"at most {LONGEST_BYTES} are looked at")
    return data


def _utf8(text: str) -> bytes:
    for character in text:
        if "\x80" <= character <= "\xff":
            both = "".join(f"\\x{byte:02x}" for byte in character.encode())
            raise WrongValue(
                f"{quote(character)} could be one byte or two",
                rf"in single quotes: '\x{ord(character):02x}' or '{both}'",
            )
    return text.encode()


def _shown(text: str) -> str:
    return f"'{text}'" if text.isprintable() else quote(text)


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """`200`, `200-299,401`: statuses of HTTP and ranges of them."""
    if _STATUSES.fullmatch(text) is None:
        right = _CLASS.sub(r"\g<1>00-\g<1>99", re.sub(r"\s", "", text))
        hint = f"did you mean {quote(right)}?" if _STATUSES.fullmatch(right) else 'for example "200-299,401"'
        raise WrongValue(f"{quote(text)} is no HTTP status", hint)
    ranges = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if last and last < first:
            raise WrongValue(f"the range {quote(part)} runs backwards", f'did you mean "{last}-{first}"?')
        ranges.append((int(first), int(last or first)))
    return tuple(ranges)


def parse_pattern(text: str) -> str:
    """A regular expression of Python."""
    if not text:
        raise WrongValue("an empty pattern is in every body", "leave it out")
    try:
        with warnings.catch_warnings():  # of what may mean something else one day
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise WrongValue(f"{quote(text)} is no regular expression: {error}") from None
    return text


def parse_object(text: str) -> str:
    """An SNMP object whose meaning is known, or the number of any."""
    if _OID.fullmatch(text):
        return _numeric(text)
    name = text.rpartition("::")[2]  # of the module that defines it nothing need be said
    word, dot, index = name.partition(".")
    if dot and not re.fullmatch(r"[0-9]{1,9}", index):
        raise WrongValue(f"{quote(text)} has no number behind its dot", _object_hint(name))
    if word in _AVERAGES and dot and index not in {"1", "2", "3"}:
        raise WrongValue(f"there is no {name}", f"{word}.1 is of 1 minute, {word}.2 of 5 and {word}.3 of 15")
    if name != text or not (word == "hrProcessorLoad" or (dot and word in _AVERAGES | _OCTETS)):
        raise WrongValue(f"no SNMP object is called {quote(text)} here", _object_hint(name))
    return text


def _object_hint(name: str) -> str:
    word, _, index = name.partition(".")
    plain = word.replace("HC", "")
    if plain != word and plain in _OCTETS:
        return f"did you mean {quote(f'{plain}.{index or 1}')}? It takes the counter of 64 bits if there is one"
    known_by = {known.partition(".")[0].lower(): known for known in _OBJECTS}
    close = get_close_matches(word[:QUOTED_AT_MOST].lower(), known_by, n=1)
    if not close:
        return (
            f"there are {listed([known.replace('.1', '.N') for known in _OBJECTS], 'and')}; of any other write the OID"
        )
    known, dot, one = known_by[close[0]].partition(".")
    return f"did you mean {quote(f'{known}.{index if index.isdecimal() else one}' if dot else known)}?"


def _numeric(text: str) -> str:
    arcs = text.removeprefix(".").split(".")
    large = any(len(arc) > len(str(_LARGEST_ARC)) or int(arc) > _LARGEST_ARC for arc in arcs)
    if arcs[0] not in _FIRST_ARCS or len(arcs) > _LONGEST_OID or large:
        rule = f"it begins with 0, 1 or 2 and has up to {_LONGEST_OID} numbers up to {_LARGEST_ARC}"
        raise WrongValue(f"{quote(text)} is no object identifier", rule)
    return text.removeprefix(".")


def parse_field(text: str) -> tuple[str, ...]:
    """Keys that lead to a value in JSON, with dots between them."""
    keys = tuple(text.split("."))
    if not all(keys):
        raise WrongValue(f"{quote(text)} has an empty key", 'for example "system.load"')
    return keys


def parse_policy(text: str) -> str:
    """One of Markway's own policies, or a callable of the operator's."""
    if text in POLICIES or _CALLABLE.fullmatch(text):
        return text
    dotted = _DOTTED.fullmatch(text)
    hint = did_you_mean(text, POLICIES) or (
        f"did you mean {quote(f'{dotted[1]}:{dotted[2]}')}?"
        if dotted
        else f'{listed([quote(name) for name in POLICIES])}, or your own such as "shop.balance:by_customer"'
    )
    raise WrongValue(f"{quote(text)} is no policy", hint)
