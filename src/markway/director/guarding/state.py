"""What the counter is told of a guard, as JSON can hold it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from markway.config.guarding import Ban, Guard, Guarded, Window, listeners_of
from markway.config.model import PortRange, Protocol

if TYPE_CHECKING:
    from markway.config.model import Config


class Tally(NamedTuple):
    """What a guard has counted."""

    attempts: int = 0
    bans: int = 0

    def plus(self, more: Tally) -> Tally:
        """Both."""
        return Tally(self.attempts + more.attempts, self.bans + more.bans)


def records_of(config: Config) -> list[dict[str, Any]]:
    """The guards of a configuration; `guard_from` is the inverse. Their services' listeners are theirs."""
    services = {service.name: service for service in config.services}
    return [
        {
            "name": guard.name,
            "listeners": [
                [one.protocol, [[*ports] for ports in one.ports], str(one.address) if one.address else None]
                for one in (listeners_of(guard, services) if guard.connections else ())
            ],
            "windows": [[window.count, window.seconds] for window in guard.windows],
            "ban": [guard.ban.seconds, guard.ban.until_quiet, guard.ban.factor, guard.ban.longest, guard.ban.memory],
            "slow": guard.slow,
            "prefixes": [guard.prefix, guard.prefix6],
            "allow": [str(network) for network in guard.allow],
        }
        for guard in config.guards
    ]


def guard_from(record: dict[str, Any]) -> Guard:
    """A guard from what `records_of` made of it."""
    seconds, until_quiet, factor, longest, memory = record["ban"]
    return Guard(
        name=record["name"],
        listeners=tuple(
            Guarded(
                Protocol(protocol),
                tuple(PortRange(*each) for each in ports),
                ip_address(address) if address else None,
            )
            for protocol, ports, address in record["listeners"]
        ),
        windows=tuple(Window(*window) for window in record["windows"]),
        ban=Ban(seconds, until_quiet, factor, longest, memory),
        slow=record["slow"],
        prefix=record["prefixes"][0],
        prefix6=record["prefixes"][1],
        allow=tuple(map(ip_network, record["allow"])),
    )
