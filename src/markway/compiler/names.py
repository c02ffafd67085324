"""Names and selectors that the compilers share."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

from markway.program.nft import And, Match, Term

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.config.model import Network, Refusal, Service

CONNTRACK = Term("ct mark")
PACKET = Term("meta mark")
UP = Match(CONNTRACK, "", Term("@up"))
GONE = Match(CONNTRACK, "!=", Term("@up"))


@dataclass(frozen=True, slots=True)
class Family:
    """An address family as nft names it."""

    name: str
    version: int
    bits: int

    @property
    def kind(self) -> str:
        """Nft's type of its addresses."""
        return f"ipv{self.version}_addr"

    @property
    def nfproto(self) -> str:
        """Nft's name of the protocol family."""
        return f"ipv{self.version}"

    def choose(self, for4: int, for6: int) -> int:
        """The number for this family."""
        return for4 if self is IP else for6

    def network(self, side: str, length: int) -> Term | And:
        """The network of so many bits that a packet's `saddr` or `daddr` is in."""
        address = Term(f"{self.name} {side}")
        return address if length == self.bits else And(address, Term(self.netmask(length)))

    def netmask(self, prefix: int) -> str:
        """The mask of a prefix length, as nft writes it."""
        kind = IPv4Network if self is IP else IPv6Network
        return str(kind((0, prefix)).netmask)


IP, IP6 = Family("ip", 4, 32), Family("ip6", 6, 128)
FAMILIES = (IP, IP6)


def hexed(mark: int) -> str:
    """A mark as nft lists it."""
    return f"0x{mark:08x}"


def service_chain(service: Service, family: Family) -> str:
    """The chain that chooses for a service; a prefix keeps it apart from nft's keywords."""
    return f"service/{service.name}/{family.name}"


def pool_name(service: Service, family: Family) -> str:
    """Under which name the service's slots are kept; hash tables are sized apart."""
    return f"{service.name}/{family.name}{'/hash' if service.schedule.hashed else ''}"


def refusal_chain(refusal: Refusal) -> str:
    """The shared chain that answers a refused connection."""
    return f"refuse/{refusal}"


def merged(networks: Iterable[Network], family: Family) -> tuple[str, ...]:
    """The networks of a family as nft writes them, without the overlaps that it refuses."""
    mine = [network for network in networks if network.version == family.version]
    whole = collapse_addresses(mine)  # type: ignore[type-var]
    return tuple(str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in whole)


def networks(among: Iterable[Network], family: Family) -> str:
    """An anonymous set of networks; empty if none is of the family."""
    texts = merged(among, family)
    return f"{{ {', '.join(texts)} }}" if texts else ""
