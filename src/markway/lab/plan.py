"""Derive a lab from a configuration: which hosts, where, and what they serve. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_network,
)
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from markway.config.model import Protocol
from markway.lab.topology import (
    CLIENTS,
    DIRECTOR,
    SWITCH,
    AddressWithPrefix,
    Device,
    Host,
    LabError,
    Role,
    Route,
    Server,
    Topology,
    check_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from markway.config.model import Address, Config, Endpoint, Network, PortRange, Service

MAX_HOSTS = 250
MAX_PORTS = 64
"""Of longer port ranges the servers answer on the first ports and the usual ones only."""

_FIRST_PORTS = 8
_USUAL_PORTS = (80, 443, 8080)
_HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_ANYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

# The documentation networks (RFC 5737, 3849) and, when the file uses those, the benchmarking one (RFC 2544).
_CLIENT_NETWORKS_4 = ("198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24", "198.18.0.0/24", "198.19.0.0/24")
_CLIENT_NETWORKS_6 = tuple(f"2001:db8:c{n:x}::/64" for n in range(1, 16))
_GATEWAY = 1  # host part in the client network

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Backend:
    """A backend, or a sorry server, as the lab sees it."""

    service: str
    name: str
    endpoints: tuple[Endpoint, ...]
    servers: frozenset[Server]

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(endpoint.address for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class _Lan:
    """A bridge behind the director: the hosts on it, its prefixes and the director's addresses there."""

    bridge: str
    hosts: tuple[tuple[str, tuple[_Backend, ...]], ...]
    gateways: dict[Network, Address]


def plan_lab(config: Config, name: str) -> Topology:
    """The lab in which `config` can be tried; LabError when it has no place for what the file names.

    The clients are .11 and .12 (::11 and ::12) of 198.51.100.0/24 and 2001:db8:c1::/64, or of the next
    documentation network if the file uses those itself. So that tests can come from many sources,
    client1 also owns every address of the network's second quarter (.64/26, and the /80 numbered 1),
    client2 those of the third.
    """
    check_name(name)
    own = _own_addresses(config)
    backends = [backend for service in config.services for backend in _backends(service)]
    for backend in backends:
        _check_addresses(backend, own)
    groups = _connected(backends, lambda backend: backend.addresses)
    if len(groups) > MAX_HOSTS:
        raise LabError(f"the file needs {len(groups)} hosts; a lab holds {MAX_HOSTS}")
    taken = own | {address for backend in backends for address in backend.addresses}
    lans = _lans(_named(groups), taken)
    prefixes = [prefix for lan in lans for prefix in lan.gateways]
    outside = (
        _free_network(_CLIENT_NETWORKS_4, taken, prefixes),
        _free_network(_CLIENT_NETWORKS_6, taken, prefixes),
    )
    return Topology(
        name=name,
        hosts=(
            _director(own, lans, outside),
            *(_client(index, outside) for index in range(len(CLIENTS))),
            *(_server_host(host, members, lan) for lan in lans for host, members in lan.hosts),
        ),
        bridges=("clients", *(lan.bridge for lan in lans)),
    )


def _own_addresses(config: Config) -> set[Address]:
    listening = {listener.address for service in config.services for listener in service.listeners}
    masking = {address for service in config.services for address in service.source}
    return {address for address in listening | masking if not address.is_unspecified}


def _backends(service: Service) -> Iterator[_Backend]:
    for backend in service.backends:
        servers = _servers(service, backend.endpoints, backend.name)
        yield _Backend(service.name, backend.name, backend.endpoints, servers)
    if service.sorry:
        name = f"{service.name}-sorry"
        yield _Backend(service.name, name, service.sorry, _servers(service, service.sorry, name))


def _servers(service: Service, endpoints: Sequence[Endpoint], answer: str) -> frozenset[Server]:
    servers: set[Server] = set()
    for listener in service.listeners:
        for endpoint in endpoints:
            ports = _ports(listener.ports) if endpoint.port is None else [endpoint.port]
            ftp = service.helper == "ftp" and listener.protocol is Protocol.TCP
            servers.update(Server(listener.protocol, port, answer, ftp) for port in ports)
    return frozenset(servers)


def _ports(ranges: Sequence[PortRange]) -> list[int]:
    if sum(last - first + 1 for first, last in ranges) <= MAX_PORTS:
        return sorted({port for first, last in ranges for port in range(first, last + 1)})
    some: set[int] = set()
    for first, last in ranges:
        some.update(range(first, min(last + 1, first + _FIRST_PORTS)))
        some.update(port for port in _USUAL_PORTS if first <= port <= last)
    return sorted(some)


def _check_addresses(backend: _Backend, own: AbstractSet[Address]) -> None:
    for address in backend.addresses:
        where = f"service {backend.service}, {backend.name}: {address}"
        if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
            raise LabError(f"{where} cannot be the address of a host in the lab")
        if address in own:
            raise LabError(f"{where} is the director's own address; in the lab a backend is another host")


def _connected(items: Iterable[_Item], keys: Callable[[_Item], Iterable[Hashable]]) -> list[list[_Item]]:
    """Group the items that share a key, directly or through others; groups and items stay in order."""
    group_of: dict[Hashable, int] = {}
    groups: dict[int, list[_Item]] = {}
    for number, item in enumerate(items):
        own_keys = list(keys(item))
        met = sorted({group_of[key] for key in own_keys if key in group_of})
        home = met[0] if met else number
        for other in met[1:]:
            groups[home] += groups.pop(other)
            group_of.update({key: home for key, group in group_of.items() if group == other})
        groups.setdefault(home, []).append(item)
        group_of.update(dict.fromkeys(own_keys, home))
    return list(groups.values())


def _named(groups: Sequence[Sequence[_Backend]]) -> dict[str, tuple[_Backend, ...]]:
    """Name each host after its first backend, with the service before it where that is ambiguous."""
    uses = Counter(name for group in groups for name in {backend.name for backend in group})
    hosts: dict[str, tuple[_Backend, ...]] = {}
    for group in groups:
        first = group[0]
        plain = uses[first.name] == 1 and first.name not in {DIRECTOR, SWITCH, *CLIENTS}
        name = first.name if plain else f"{first.service}-{first.name}"
        if name in hosts or not _HOST_NAME.fullmatch(name):
            raise LabError(f'service {first.service}: "{name}" cannot name a host of the lab; rename {first.name}')
        hosts[name] = tuple(group)
    return hosts


def _lans(hosts: dict[str, tuple[_Backend, ...]], taken: set[Address]) -> list[_Lan]:
    """One LAN for each set of prefixes that meet on a host; the director's addresses there become taken."""
    prefixes = {
        name: sorted({_prefix(address) for address in _addresses(members)}, key=str) for name, members in hosts.items()
    }
    lans = []
    for number, group in enumerate(_connected(hosts.items(), lambda host: prefixes[host[0]]), start=1):
        gateways = {}
        for prefix in sorted({prefix for name, _ in group for prefix in prefixes[name]}, key=_order):
            gateways[prefix] = _first_free(prefix, taken)
            taken.add(gateways[prefix])
        lans.append(_Lan(f"lan{number}", tuple(group), gateways))
    return lans


def _first_free(prefix: Network, taken: AbstractSet[Address]) -> Address:
    for address in prefix.hosts():
        if address not in taken:
            return address
    raise LabError(f"{prefix}: the file uses every address; the director needs one there")


def _free_network(candidates: Sequence[str], taken: Iterable[Address], prefixes: Sequence[Network]) -> Network:
    used = {_prefix(address) for address in taken} | set(prefixes)
    for candidate in map(ip_network, candidates):
        if candidate not in used:
            return candidate
    raise LabError(f"the file uses all of {', '.join(candidates)}; the lab's clients need one of them")


def _director(own: Iterable[Address], lans: Sequence[_Lan], outside: Sequence[Network]) -> Host:
    # A neighbour asks for an address on its own link, and IPv6 answers only for the device's own: so a
    # listener in a LAN's prefix goes on that LAN's device and not on lo.
    local: dict[str, list[AddressWithPrefix]] = defaultdict(list)
    loopback = []
    bridge_of = {prefix: lan.bridge for lan in lans for prefix in lan.gateways}
    for address in sorted(own, key=_order_address):
        bridge = bridge_of.get(_prefix(address))
        if bridge is None:
            loopback.append(address)
        else:
            local[bridge].append(_interface(address, address.max_prefixlen))
    inside = (
        Device(
            f"eth{number}",
            lan.bridge,
            (
                *(_interface(gateway, net.prefixlen) for net, gateway in lan.gateways.items()),
                *local[lan.bridge],
            ),
        )
        for number, lan in enumerate(lans, start=1)
    )
    gateways = tuple(_interface(network[_GATEWAY], network.prefixlen) for network in outside)
    routes = (
        Route(_sources(network, index), _client_address(network, index))
        for index in range(len(CLIENTS))
        for network in outside
    )
    return Host(
        DIRECTOR,
        Role.DIRECTOR,
        (Device("eth0", "clients", gateways), *inside),
        tuple(loopback),
        tuple(routes),
    )


def _client(index: int, outside: Sequence[Network]) -> Host:
    addresses = tuple(_interface(_client_address(network, index), network.prefixlen) for network in outside)
    return Host(
        CLIENTS[index],
        Role.CLIENT,
        (Device("eth0", "clients", addresses),),
        routes=(
            *(Route(_everywhere(network), network[_GATEWAY]) for network in outside),
            *(Route(_sources(network, index), None) for network in outside),
        ),
    )


def _server_host(name: str, members: Sequence[_Backend], lan: _Lan) -> Host:
    addresses = sorted(_addresses(members), key=_order_address)
    routes = {_everywhere(prefix): lan.gateways[prefix] for prefix in map(_prefix, addresses)}
    named = {server for member in members for server in member.servers}
    askable = Counter((server.protocol, server.port) for server in named)
    # Two backends on one address and port are one server: it goes by the host's name.
    web = {(server.protocol, server.port) for server in named if not server.ftp}
    servers = {
        server
        if askable[server.protocol, server.port] == 1
        else Server(server.protocol, server.port, name, (server.protocol, server.port) not in web)
        for server in named
    }
    return Host(
        name,
        Role.SERVER,
        (Device("eth0", lan.bridge, tuple(_interface(a, _prefix(a).prefixlen) for a in addresses)),),
        routes=tuple(Route(to, via) for to, via in routes.items()),
        servers=tuple(sorted(servers, key=lambda server: (server.protocol, server.port))),
    )


def _client_address(network: Network, index: int) -> Address:
    first = 11 if isinstance(network, IPv4Network) else 0x11  # so that both are written .11 and ::11
    return network[first + index]


def _sources(network: Network, index: int) -> Network:
    """The part of the client network that belongs to one client as a whole, to make connections from."""
    # The second and third quarter of a /24, the /80 number 1 and 2 of a /64.
    if isinstance(network, IPv4Network):
        return tuple(network.subnets(2))[index + 1]
    return IPv6Network((network[(index + 1) << 48], 80))


def _addresses(members: Iterable[_Backend]) -> set[Address]:
    return set(chain.from_iterable(member.addresses for member in members))


def _prefix(address: Address) -> Network:
    if isinstance(address, IPv4Address):
        return IPv4Network((address, 24), strict=False)
    return IPv6Network((address, 64), strict=False)


def _interface(address: Address, length: int) -> AddressWithPrefix:
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, length))
    return IPv6Interface((address, length))


def _everywhere(network: Network) -> Network:
    return _ANYWHERE[isinstance(network, IPv6Network)]


def _order(network: Network) -> tuple[int, int]:
    return network.version, int(network.network_address)


def _order_address(address: Address) -> tuple[int, int]:
    return address.version, int(address)
