"""One look at everything that is in force: what the kernel counted, what the daemon knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from markway.api.lists import blocklists
from markway.apply.confirm import awaited
from markway.apply.observe import observe
from markway.apply.observe_guards import observe_guards
from markway.apply.observe_policies import observe_policies
from markway.apply.observe_shapes import observe_marks, observe_shapes
from markway.apply.transaction import present
from markway.config.load import load
from markway.config.problems import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markway.api.lists import Record
    from markway.apply.observe import ServiceSeen
    from markway.apply.observe_guards import GuardSeen
    from markway.apply.observe_policies import PolicySeen
    from markway.apply.observe_shapes import MarkSeen, ShapeSeen
    from markway.apply.store import Pending, Store
    from markway.apply.transaction import Present
    from markway.balance.state import BackendState
    from markway.config.model import Config
    from markway.director.farm import Member
    from markway.director.guarding.state import Tally
    from markway.kernel.netlink import Netlink


class Counter(NamedTuple):
    """The counter of attempts: whether it counts, what it has counted of each guard, and what is in its way."""

    ready: bool
    tallies: Mapping[str, Tally]
    problems: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Live:
    """What only the daemon knows. `now` is its clock in seconds, `pid` its process."""

    pid: int
    now: float
    members: Mapping[str, Member]
    counter: Counter
    load_reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What is in force, and how it fares. `config` is None if it cannot be read; `live` if no daemon runs."""

    present: Present
    services: list[ServiceSeen]
    pending: Pending | None
    config: Config | None
    states: Mapping[str, BackendState]
    live: Live | None = None
    shapes: Sequence[ShapeSeen] = ()
    marks: Sequence[MarkSeen] = ()
    policies: Sequence[PolicySeen] = ()
    guards: Sequence[GuardSeen] = ()
    blocklists: Sequence[Record] = ()


def look(store: Store, netlink: Netlink) -> Look:
    """Look without the daemon.

    Raises:
        StoreError: the state folder is broken.
        NetlinkError: the kernel refused.
    """
    now = present(store, netlink)
    config = None
    if now.program and now.config:
        try:
            config = load(store.config(now.config)).config
        except ConfigError:
            config = None  # of another version; what the kernel does can be told all the same
    counts = counted(store, netlink, now, config)
    return Look(now, pending=awaited(store, now), config=config, states=store.states(), **counts)


class Counted(TypedDict):
    """What the kernel counted for all that is in force."""

    services: list[ServiceSeen]
    shapes: list[ShapeSeen]
    marks: list[MarkSeen]
    policies: list[PolicySeen]
    guards: list[GuardSeen]
    blocklists: list[Record]


def counted(store: Store, netlink: Netlink, now: Present, config: Config | None) -> Counted:
    """All of it; nothing where none is in force. Guards and lists are those of `config`."""
    if now.program is None:
        return Counted(services=[], shapes=[], marks=[], policies=[], guards=[], blocklists=[])
    return Counted(
        services=observe(netlink, now.program, store.baseline()),
        shapes=observe_shapes(now.program),
        marks=observe_marks(netlink, now.program),
        policies=observe_policies(netlink, now.program),
        guards=observe_guards(netlink, config.guards) if config else [],
        blocklists=blocklists(store, netlink, config.blocklisting.lists) if config else [],
    )
