"""Which policies can fit a packet, by its devices and addresses: a chain for all devices of the same zones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from markway.compiler.names import FAMILIES, Family, networks
from markway.config.firewalling import ANY
from markway.program.nft import Chain, Dispatch, Match, Rule, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markway.config.firewalling import Policy, Zone
    from markway.config.model import Network

Group: TypeAlias = frozenset[str]
"""The zones that a device is of."""

Decide: TypeAlias = Callable[["Policy", Family | None], Iterable[Rule]]
"""The rules of a policy, behind the conditions for its zones; those may be of one family only."""

_NOWHERE: Group = frozenset()


class End(NamedTuple):
    """One end of a packet's way: nft's words for its device and address, and the policies' attribute for its zones."""

    device: str
    address: str
    zones: str


IN, OUT = End("iifname", "saddr", "sources"), End("oifname", "daddr", "targets")


@dataclass
class Zoning:
    """Makes the chains; `chains` has them in the order in which they can be made.

    `decide` gives a policy's rules, `last` is for what no policy fits. Chains that would be alike are one.
    """

    zones: Sequence[Zone]
    decide: Decide
    last: tuple[Rule, ...] = ()
    chains: dict[str, Chain] = field(default_factory=dict)
    _named: dict[tuple[Rule, ...], str] = field(default_factory=dict)

    def rules(
        self, name: str, policies: Sequence[Policy], ends: Sequence[End], settled: tuple[tuple[End, Group], ...] = ()
    ) -> tuple[Rule, ...]:
        """The rules of a chain, and the chains below it.

        Args:
            name: how the names of the chains below begin.
            policies: those that are asked, in order.
            ends: what is still to be looked up.
            settled: the zones of the devices that are known.
        """
        if not ends:
            return tuple(self._policies(policies, settled))
        end, *rest = ends
        here = self.rules(name, policies, rest, (*settled, (end, _NOWHERE)))
        found: list[str] = []
        for group, devices in self._groups().items():
            below = f"{name}/{next(zone.name for zone in self.zones if zone.name in group)}"
            there = self.rules(below, policies, rest, (*settled, (end, group)))
            if there != here:
                found += [f'"{device}" : goto {self._chain(below, there)}' for device in devices]
        lead: tuple[Rule, ...] = ((Dispatch(Term(end.device), f"{{ {', '.join(found)} }}"),),) if found else ()
        return (*lead, *here)

    def _groups(self) -> dict[Group, list[str]]:
        """The devices that zones name, by the zones that they are of."""
        devices = dict.fromkeys(device for zone in self.zones for device in zone.devices)
        groups: dict[Group, list[str]] = {}
        for device in devices:
            groups.setdefault(frozenset(zone.name for zone in self.zones if device in zone.devices), []).append(device)
        return groups

    def _chain(self, stem: str, rules: tuple[Rule, ...]) -> str:
        if rules not in self._named:
            name, count = stem, 1
            while name in self.chains:
                count += 1
                name = f"{stem}/{count}"
            self._named[rules] = name
            self.chains[name] = Chain(name, rules)
        return self._named[rules]

    def _policies(self, policies: Sequence[Policy], settled: Sequence[tuple[End, Group]]) -> Iterator[Rule]:
        for policy in policies:
            sides = [(end, self.asked(getattr(policy, end.zones), group)) for end, group in settled]
            if any(asked is None for _, asked in sides):
                continue
            for rule in self._asked([(end.address, asked) for end, asked in sides if asked], policy):
                yield rule
                if len(rule) == 1 and isinstance(rule[0], Written) and rule[0].text.startswith("goto "):
                    return  # it takes all that come here
        yield from self.last

    def asked(self, names: Iterable[str], group: Group) -> tuple[Network, ...] | None:
        """In which networks an address behind a device of these zones has to be; none if in any, None if it cannot."""
        fitting = [zone for zone in self.zones if zone.name in names and (not zone.devices or zone.name in group)]
        if ANY in names or any(not zone.networks for zone in fitting):
            return ()
        return tuple(network for zone in fitting for network in zone.networks) or None

    def _asked(self, sides: Sequence[tuple[str, tuple[Network, ...] | None]], policy: Policy) -> Iterator[Rule]:
        if not sides:
            yield from self.decide(policy, None)
            return
        for family in FAMILIES:
            texts = [(side, networks(asked or (), family)) for side, asked in sides]
            if all(text for _, text in texts):
                lead = (Match(Term(f"{family.name} {side}"), "", Term(text)) for side, text in texts)
                conditions = tuple(lead)
                yield from ((*conditions, *rule) for rule in self.decide(policy, family))
