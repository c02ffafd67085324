"""What is known of backends while they run, and the weights that follow from it. Pure.

The file says what each backend is worth; checks, load and operators say what that comes to now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from markway.balance.feedback import effective

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from markway.config.model import Backend, Config, Service

Weights: TypeAlias = "Mapping[str, Mapping[str, int]]"
"""By service and backend; a service that is not in it has the weights of the file."""


class Hold(StrEnum):
    """What an operator wants of a backend."""

    NONE = "none"
    DRAIN = "drain"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class BackendState:
    """One backend at run time.

    `up` is what checks say, `hold` and `weight` what an operator said (None: the file's), `out` whether its agent
    wants no new connections. `factor` is what is left of the weight under the present load, `ramp` while it comes
    back slowly; both 0 to 1.
    """

    up: bool = True
    hold: Hold = Hold.NONE
    weight: int | None = None
    out: bool = False
    factor: float = 1.0
    ramp: float = 1.0

    @property
    def takes(self) -> bool:
        """Whether new connections may come."""
        return self.up and not self.out and self.hold is Hold.NONE


UNTOUCHED = BackendState()

States: TypeAlias = "Mapping[str, BackendState]"
"""By `service/backend`; who is not in it is `UNTOUCHED`."""


def weights(service: Service, states: States) -> dict[str, int] | None:
    """The weights of a service's backends now, in `SCALE`-ths; None if they are those of the file."""
    found = {backend.name: states.get(f"{service.name}/{backend.name}", UNTOUCHED) for backend in service.backends}
    if all(state == UNTOUCHED for state in found.values()):
        return None
    return {backend.name: _weight(backend, found[backend.name]) for backend in service.backends}


def all_weights(services: Iterable[Service], states: States) -> dict[str, dict[str, int]]:
    """The weights of every service that differs from its file."""
    if not states:
        return {}
    return {service.name: found for service in services if (found := weights(service, states)) is not None}


def unproved(config: Config, known: Container[str], states: States) -> dict[str, BackendState]:
    """Backends that nobody has asked yet, of services that are checked: they get no connection before that.

    What is remembered of them in `states`, as what an operator said, holds besides.
    """
    names = (f"{service.name}/{b.name}" for service in config.services if service.check for b in service.backends)
    return {name: replace(states.get(name, UNTOUCHED), up=False) for name in names if name not in known}


def _weight(backend: Backend, state: BackendState) -> int:
    configured = backend.weight if state.weight is None else state.weight
    return effective(configured, state.factor, state.ramp) if state.takes else 0
