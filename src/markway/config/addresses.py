"""The grammar of addresses, networks, endpoints and listeners, as the file writes them.

Every function takes the operator's text and returns a value, or raises `WrongValue` saying what to write.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise

from markway.config.model import ALL_PORTS, Address, Endpoint, Listener, Network, PortRange, Protocol
from markway.config.problems import WrongValue, did_you_mean, quote

LAST_PORT = 65535
PORT_NAMES = {  # what people write where a number belongs; /etc/services is the machine's, so not read
    "dns": 53, "domain": 53, "ftp": 21, "http": 80, "https": 443, "imap": 143, "imaps": 993, "ldap": 389,
    "mysql": 3306, "ntp": 123, "pop3": 110, "postgresql": 5432, "redis": 6379, "smtp": 25, "snmp": 161, "ssh": 22,
    "tftp": 69,
}  # fmt: skip
PROTOCOLS = {
    "tcp": (Protocol.TCP,),
    "udp": (Protocol.UDP,),
    "tcp+udp": (Protocol.TCP, Protocol.UDP),
}

_OCTETS = {str(number): number for number in range(256)}
_PLAIN4 = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})")
_LISTEN = re.compile(r"(?:\[([^\[\]]*)\]|([^:/\[\]]+)):([^/:]*)(?:/(.*))?", re.DOTALL)
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_UNBRACKETED = re.compile(r"([0-9a-fA-F:.]*:[0-9a-fA-F:.]*):([0-9*][0-9,*-]*)((?:/.*)?)", re.DOTALL)


def parse_address(text: str) -> Address:
    """One IPv4 or IPv6 address, without port, prefix or zone."""
    try:  # four numbers, in a third of the time of ipaddress's own parser
        one, two, three, four = text.split(".")
        return IPv4Address(_OCTETS[one] << 24 | _OCTETS[two] << 16 | _OCTETS[three] << 8 | _OCTETS[four])
    except (KeyError, ValueError):
        return _parse_other_address(text)


def _parse_other_address(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise _not_an_address(text) from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise WrongValue(f"{quote(text)} names an interface: a zone cannot be balanced")
        if address.ipv4_mapped is not None:
            raise WrongValue(
                f"{quote(text)} is an IPv4 address inside an IPv6 one, which is never on the wire",
                f"did you mean {quote(str(address.ipv4_mapped))}?",
            )
    return address


def _not_an_address(text: str) -> WrongValue:
    what = f"{quote(text)} is not an IP address"
    octets = _PLAIN4.fullmatch(text)
    if octets is not None:
        trimmed = ".".join(str(int(octet)) for octet in octets.groups())
        if trimmed != text and _is_address(trimmed):
            return WrongValue(
                f"{quote(text)} has a number that starts with 0, which some programs read as octal",
                f"did you mean {quote(trimmed)}?",
            )
        return WrongValue(what, "each of the four numbers is 0 to 255")
    if text.strip() != text and _is_address(text.strip()):
        return WrongValue(what, f"did you mean {quote(text.strip())}, without the blanks?")
    if "/" in text:
        return WrongValue(f"{what}: one address is needed, not a network", None)
    if re.fullmatch(r"[A-Za-z0-9_.-]*[A-Za-z][A-Za-z0-9_.-]*", text):
        return WrongValue(f"{what}: names are not looked up", "write the address itself")
    return WrongValue(what, 'for example "192.0.2.10" or "2001:db8::10"')


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1 << 12)
def parse_network(text: str) -> Network:
    """A network as address/prefix, without host bits, or one address."""
    address, slash, prefix = text.partition("/")
    if not slash:
        return ip_network(parse_address(text))
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        parse_address(address)
        longest = 128 if ":" in address else 32
        raise WrongValue(f"{quote(text)} has no valid prefix length", f"0 to {longest} follows the slash") from None
    if not (prefix.isascii() and prefix.isdigit()):
        raise WrongValue(f"{quote(text)} has a netmask", f"did you mean {quote(str(loose))}?")
    if isinstance(loose, IPv6Network):
        _check_not_mapped(text, loose)
    if loose.network_address != parse_address(address):
        raise WrongValue(
            f"{quote(text)} has bits set beyond its prefix",
            f"did you mean the network {quote(str(loose))} or the address {quote(address)}?",
        )
    return loose


def _check_not_mapped(text: str, network: IPv6Network) -> None:
    mapped, length = network.network_address.ipv4_mapped, network.prefixlen - 96  # RFC 4291, 2.5.5.2
    if mapped is not None and length >= 0:
        raise WrongValue(
            f"{quote(text)} is an IPv4 network inside an IPv6 one, which is never on the wire",
            f"did you mean {quote(f'{mapped}/{length}')}?",
        )


@lru_cache(maxsize=1 << 10)
def parse_port(text: str) -> int:
    """One port, 1 to 65535."""
    if text in PORT_NAMES:
        raise WrongValue(f"{quote(text)} is not a port number", f"did you mean {PORT_NAMES[text]}?")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LAST_PORT))):
        raise WrongValue(f"{quote(text)} is not a port number", f"a port is 1 to {LAST_PORT}")
    if not 1 <= int(text) <= LAST_PORT:
        raise WrongValue(f"there is no port {text}", f"a port is 1 to {LAST_PORT}")
    return int(text)


def _parse_range(text: str) -> PortRange:
    match = _PORTS.fullmatch(text)
    if match is None:
        return PortRange(parse_port(text), LAST_PORT) if text in PORT_NAMES else _not_ports(text)
    first = parse_port(match[1])
    last = parse_port(match[2]) if match[2] else first
    if last < first:
        raise WrongValue(f"the port range {quote(text)} runs backwards", f"did you mean {quote(f'{last}-{first}')}?")
    return PortRange(first, last)


def _not_ports(text: str) -> PortRange:
    raise WrongValue(
        f"{quote(text)} is not a port", "write 80, 8000-8010, 80,443 or * for all of them after the address"
    )


@lru_cache(maxsize=1 << 10)
def parse_ports(text: str) -> tuple[PortRange, ...]:
    """`80`, `8000-8010`, `80,443,8000-8010`, or `*` for all; sorted, none twice."""
    if text == "*":
        return (ALL_PORTS,)
    ranges = tuple(sorted(_parse_range(part) for part in text.split(",")))
    for before, after in pairwise(ranges):
        if after.first <= before.last:
            raise WrongValue(f"the ports {before} and {after} overlap", f"write each port once in {quote(text)}")
    return ranges


@lru_cache(maxsize=1 << 6)
def _parse_protocols(text: str) -> tuple[Protocol, ...]:
    if text not in PROTOCOLS:
        hint = 'did you mean "tcp+udp"?' if text.lower() == "udp+tcp" else did_you_mean(text, [*PROTOCOLS])
        raise WrongValue(f"{quote(text)} is not a protocol that can be balanced", hint or "tcp, udp or tcp+udp")
    return PROTOCOLS[text]


def parse_listen(text: str) -> tuple[Listener, ...]:
    """`ADDRESS:PORTS[/PROTOCOL]`, IPv6 in brackets; one listener for each protocol, TCP by default."""
    match = _LISTEN.fullmatch(text)
    if match is None:
        raise _not_a_listener(text)
    address = parse_address(match[1] or match[2] or "")
    if match[1] is not None and isinstance(address, IPv4Address):
        raise WrongValue(
            f"{quote(text)}: brackets are for IPv6",
            f"did you mean {quote(text.replace('[', '').replace(']', ''))}?",
        )
    if not match[3]:
        raise WrongValue(f"{quote(text)} has no port", f"for example {quote(join(address, 80))}")
    ports = parse_ports(match[3])
    protocols = (Protocol.TCP,) if match[4] is None else _parse_protocols(match[4])
    return tuple(Listener(address, protocol, ports) for protocol in protocols)


def join(address: Address, port: int | PortRange) -> str:
    """An address and its port, an IPv6 address in brackets."""
    return f"{address}:{port}" if isinstance(address, IPv4Address) else f"[{address}]:{port}"


def _not_a_listener(text: str) -> WrongValue:
    unbracketed = _UNBRACKETED.fullmatch(text)
    if unbracketed is not None and _is_address(unbracketed[1]):
        right = f"[{unbracketed[1]}]:{unbracketed[2]}{unbracketed[3]}"
        return WrongValue(f"{quote(text)}: an IPv6 address needs brackets", f"did you mean {quote(right)}?")
    if _is_address(text.strip("[]")):
        right = join(ip_address(text.strip("[]")), 80)
        return WrongValue(f"{quote(text)} has no port", f"for example {quote(right)}")
    if re.fullmatch(r":?[0-9*][0-9,*-]*(/.*)?", text):
        return WrongValue(f"{quote(text)} has no address", f"for example {quote('192.0.2.10:' + text.lstrip(':'))}")
    return WrongValue(
        f"{quote(text)} is not an address and a port",
        'for example "192.0.2.10:443/tcp" or "[2001:db8::10]:443"',
    )


def parse_endpoint(text: str) -> Endpoint:
    """`192.168.1.10:8443`, `[fd00::10]:80`, or an address alone, which keeps the port asked for."""
    host, colon, port = text.partition(":")
    if colon and port.isdigit():
        return Endpoint(parse_address(host), parse_port(port))
    if text.startswith("["):
        match = _BRACKETED.fullmatch(text)
        if match is None:
            raise WrongValue(f"{quote(text)} is not an address and a port", 'for example "[fd00::10]:80"')
        address = parse_address(match[1])
        if isinstance(address, IPv4Address):
            raise WrongValue(
                f"{quote(text)}: brackets are for IPv6",
                f"did you mean {quote(text.replace('[', '').replace(']', ''))}?",
            )
        return Endpoint(address, None if match[2] is None else _endpoint_port(match[2]))
    if colon and ":" not in port:
        return Endpoint(parse_address(host), _endpoint_port(port))
    return Endpoint(parse_address(text), None)


def _endpoint_port(text: str) -> int:
    before, slash, _ = text.partition("/")
    if slash and before.isdigit():
        raise WrongValue(
            f"{quote(text)} names a protocol: a backend is asked by the one its client used",
            f"write the port alone: {before}",
        )
    if "-" in text or "," in text or text == "*":
        raise WrongValue(
            f"{quote(text)} is more than one port",
            "write the address alone to keep the port that the client asked for",
        )
    return parse_port(text)


_ORDINARY = range(0x0100_0000, 0x7F00_0000)  # as numbers; nothing of IPv6 in it is unusable
_UNUSABLE4 = (  # first, last, what it is
    (0, 0, "the unspecified address"),
    (1, 0x00FF_FFFF, "an address of 0.0.0.0/8, which the kernel does not route"),
    (0x7F00_0000, 0x7FFF_FFFF, "a loopback address, which the kernel does not route between interfaces"),
    (0xE000_0000, 0xEFFF_FFFF, "a multicast address, which is many hosts"),
    (0xFFFF_FFFF, 0xFFFF_FFFF, "the broadcast address, which is many hosts"),
)
_UNUSABLE6 = (
    (0, 0, "the unspecified address"),
    (1, 1, "a loopback address, which the kernel does not route between interfaces"),
    (0xFE80 << 112, (0xFEC0 << 112) - 1, "a link-local address, which the kernel does not forward"),
    (0xFF00 << 112, (1 << 128) - 1, "a multicast address, which is many hosts"),
)


def check_usable(address: Address) -> None:
    """Refuse an address that can be neither balanced nor be a backend.

    Loopback: martian in the kernel's routing unless route_localnet is set (net/ipv4/route.c,
    ip_route_input_slow), which Markway does not set. IPv6 scopes: RFC 4007.
    """
    number = int(address)
    if number in _ORDINARY:
        return
    for first, last, what in _UNUSABLE4 if isinstance(address, IPv4Address) else _UNUSABLE6:
        if first <= number <= last:
            raise WrongValue(f"{address} is {what}", "an address of an interface is needed")
