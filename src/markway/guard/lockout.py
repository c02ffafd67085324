"""What a configuration makes of one new TCP connection to this machine, told before the kernel is asked. Pure.

Of the connection its device, addresses and port are known. What a policy asks beyond these cannot be foreseen: such a
policy does not let in, and does refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from markway.config.firewalling import ANY, SELF, Verdict
from markway.config.model import Protocol, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.config.firewalling import Firewalling, Policy
    from markway.config.model import Address, Config, Network, PortRange, Service
    from markway.config.shaping import Match, Origin

_UNKNOWN = ("slowed", "source_port", "dscp", "length", "packet_mark", "raw")
_OF_OTHERS = ("service", "outgoing_device", "icmp_type", "bytes_over", "user", "group", "cgroup")
"""What no packet has that begins a TCP connection to this machine."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A new TCP connection to this machine."""

    device: str
    source: Address
    destination: Address
    port: int

    def __str__(self) -> str:
        """For people."""
        return f"from {self.source} by {self.device} to {self.destination}, port {self.port}"


class Decision(NamedTuple):
    """What becomes of a connection, and the key of the file that says so; empty if none does."""

    verdict: Verdict
    origin: Origin


def decision(config: Config, connection: Connection) -> Decision:
    """What becomes of a connection; of one to a service, whether it is let in there."""
    service = next((one for one in config.services if _listens(one, connection)), None)
    if service:
        return _of_service(service, connection)
    firewalling = config.firewalling
    if not firewalling.closed or connection.device == "lo":
        return Decision(Verdict.ACCEPT, ())
    for policy in firewalling.policies:
        if SELF in policy.targets and _comes(policy, firewalling, connection) and _fits(policy, connection):
            return Decision(policy.verdict, policy.origin)
    return Decision(Verdict.DROP, firewalling.origin)


def _listens(service: Service, connection: Connection) -> bool:
    return any(
        listener.protocol is Protocol.TCP
        and listener.address == connection.destination
        and _among(connection.port, listener.ports)
        for listener in service.listeners
    )


def _of_service(service: Service, connection: Connection) -> Decision:
    refused = Verdict.DROP if service.refuse is Refusal.DROP else Verdict.REJECT
    if _inside(connection.source, service.deny):
        return Decision(refused, ("service", service.name, "deny"))
    if service.allow and not _inside(connection.source, service.allow):
        return Decision(refused, ("service", service.name, "allow"))
    return Decision(Verdict.ACCEPT, ("service", service.name))


def _comes(policy: Policy, firewalling: Firewalling, connection: Connection) -> bool:
    """Whether it is from one of the policy's zones."""
    return ANY in policy.sources or any(
        zone.name in policy.sources
        and (not zone.devices or connection.device in zone.devices)
        and (not zone.networks or _inside(connection.source, zone.networks))
        for zone in firewalling.zones
    )


def _fits(policy: Policy, connection: Connection) -> bool:
    doubtful = policy.verdict is not Verdict.ACCEPT
    found = [_matches(match, connection) for match in policy.matches]
    return not found or any(doubtful if fits is None else fits for fits in found)


def _matches(match: Match, connection: Connection) -> bool | None:
    """Whether a match fits; None if that cannot be foreseen."""
    if any(getattr(match, name) not in (None, ()) for name in _OF_OTHERS):
        return False
    known = (
        match.family in (None, connection.source.version),
        not match.protocol or not {"tcp", "6"}.isdisjoint(match.protocol),
        not match.source or _inside(connection.source, match.source),
        not match.destination or _inside(connection.destination, match.destination),
        not match.destination_port or _among(connection.port, match.destination_port),
        match.incoming_device in (None, connection.device),
        match.tcp_flags is None or set(match.tcp_flags[1]) == {"syn"}.intersection(match.tcp_flags[0]),
        not match.state or "new" in match.state,
    )
    if not all(known):
        return False
    by_source = match.port and not _among(connection.port, match.port)
    return None if by_source or any(getattr(match, name) not in (None, ()) for name in _UNKNOWN) else True


def _inside(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _among(port: int, ranges: Iterable[PortRange]) -> bool:
    return any(first <= port <= last for first, last in ranges)
