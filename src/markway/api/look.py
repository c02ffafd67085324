"""One look at everything that is in force: what the kernel counted, what the daemon knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markway.apply.confirm import awaited
from markway.apply.observe import observe
from markway.apply.observe_shapes import observe_shapes
from markway.apply.transaction import present
from markway.config.load import load
from markway.config.problems import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markway.apply.observe import ServiceSeen
    from markway.apply.observe_shapes import ShapeSeen
    from markway.apply.store import Pending, Store
    from markway.apply.transaction import Present
    from markway.balance.state import BackendState
    from markway.config.model import Config
    from markway.director.farm import Member
    from markway.kernel.netlink import Netlink


@dataclass(frozen=True, slots=True)
class Live:
    """What only the daemon knows. `now` is its clock in seconds, `pid` its process."""

    pid: int
    now: float
    members: Mapping[str, Member]
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
    services, shapes = counted(store, netlink, now)
    return Look(now, services, awaited(store, now), config, store.states(), shapes=shapes)


def counted(store: Store, netlink: Netlink, now: Present) -> tuple[list[ServiceSeen], list[ShapeSeen]]:
    """What the kernel counted for every service and shape of the program in force; nothing where none is."""
    if now.program is None:
        return [], []
    return observe(netlink, now.program, store.baseline()), observe_shapes(now.program)
