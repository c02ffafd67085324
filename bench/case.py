"""What is balanced in a measurement: services and their backends, and the packets that a client sends to them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.generator import Flow, dotted, ipv4

SNAT_ADDRESS = "10.127.255.254"
FIRST_SERVICE = ipv4("100.64.0.1")
FIRST_BACKEND = ipv4("10.128.0.1")
FIRST_CLIENT = ipv4("10.64.0.1")
SERVICE_PORT, BACKEND_PORT = 80, 8080
STRIDE = 7919  # a prime: services that follow in time do not follow in the tables


@dataclass(frozen=True)
class Backend:
    """A server; `number` is its mark."""

    number: int
    address: str
    weight: int = 1
    port: int = BACKEND_PORT


@dataclass(frozen=True)
class Service:
    """A virtual address and the servers behind it."""

    name: str
    address: str
    backends: tuple[Backend, ...]
    port: int = SERVICE_PORT


@dataclass(frozen=True)
class Case:
    """Services with equally many backends each."""

    services: tuple[Service, ...]

    @property
    def size(self) -> str:
        """Name the case by its numbers."""
        return f"{len(self.services):,} x {len(self.services[0].backends):,}"

    @property
    def backends(self) -> list[Backend]:
        """All servers, service by service."""
        return [backend for service in self.services for backend in service.backends]

    def flows(self, count: int) -> list[Flow]:
        """Connections from many clients, spread over all services; no source port twice in 60,000."""
        services = [(ipv4(service.address), service.port) for service in self.services]
        return [
            Flow(FIRST_CLIENT + i * 37 % 50021, 1024 + i % 60000, *services[i * STRIDE % len(services)])
            for i in range(count)
        ]

    def direct_flows(self, count: int) -> list[Flow]:
        """The same connections to the servers' own addresses, as routing needs them."""
        servers = [(ipv4(backend.address), backend.port) for backend in self.backends]
        return [Flow(FIRST_CLIENT + i * 37 % 50021, 1024 + i % 60000, *servers[i % len(servers)]) for i in range(count)]


def case(services: int, backends: int) -> Case:
    """Make `services` services with `backends` backends each."""
    return Case(
        tuple(
            Service(
                f"s{index}",
                dotted(FIRST_SERVICE + index),
                tuple(
                    Backend(number + 1, dotted(FIRST_BACKEND + number))
                    for number in range(index * backends, (index + 1) * backends)
                ),
            )
            for index in range(services)
        )
    )
