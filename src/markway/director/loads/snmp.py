"""A load that an SNMP agent tells: which objects, and what their values mean.

Sources: UCD-SNMP-MIB (laTable), HOST-RESOURCES-MIB (RFC 2790), IF-MIB (RFC 2863).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from markway.director.loads.value import number
from markway.director.model import LoadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from markway.config.model import Load
    from markway.director.model import Target

Value: TypeAlias = str | bytes | int | float | None

PROCESSORS = "hrProcessorLoad"
_OBJECTS = {
    "laLoad": "1.3.6.1.4.1.2021.10.1.3",
    "laLoadInt": "1.3.6.1.4.1.2021.10.1.5",
    PROCESSORS: "1.3.6.1.2.1.25.3.3.1.2",
}
_COUNTERS = {
    "ifInOctets": ("1.3.6.1.2.1.31.1.1.1.6", "1.3.6.1.2.1.2.2.1.10"),
    "ifOutOctets": ("1.3.6.1.2.1.31.1.1.1.10", "1.3.6.1.2.1.2.2.1.16"),
}
"""Of 64 bits if the agent has them, else of 32: those go round in half a minute at 1 Gbit/s."""
_UPTIME = "1.3.6.1.2.1.1.3.0"

_WINDOW = 15.0
"""Seconds that a rate is taken over: net-snmp's counters are up to 3 s old (if-mib/data_access/interface.c)."""
_WORN = 100.0
"""Seconds after which an SNMP 3 session is opened anew: an agent's clock is trusted for 150 (RFC 3414, 2.2.3)."""


class Session(Protocol):
    """An agent that can be asked. Its methods raise LoadError, TimeoutError or OSError."""

    async def get(self, oids: Sequence[str]) -> Mapping[str, Value]:
        """The values of those objects that the agent has."""

    async def column(self, oid: str) -> Sequence[Value]:
        """All values below an object."""


Connect: TypeAlias = "Callable[[Load, Target], Awaitable[Session]]"


async def connect(load: Load, target: Target) -> Session:
    """A session by gufo-snmp; LoadError, TimeoutError or OSError if there can be none."""
    from markway.director.loads.gufo import open_session  # noqa: PLC0415 - only who asks SNMP needs the library

    return await open_session(load, target)


class Count(NamedTuple):
    """A counter at a time of the agent's clock (`ticks` of 10 ms since it started)."""

    octets: int
    ticks: int
    bits: int


@dataclass(slots=True)
class _Known:
    session: Session
    load: Load
    used: float
    counts: deque[Count] = field(default_factory=deque)


class Sessions:
    """One session for each target, opened when it is first asked and after every failure."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._known: dict[Target, _Known] = {}

    async def read(self, load: Load, target: Target) -> float:
        """The value of the object `load.target`; LoadError, TimeoutError or OSError if there is none."""
        now = asyncio.get_running_loop().time()
        known = self._known.pop(target, None)
        if known is None or known.load != load:
            known = _Known(await self._connect(load, target), load, now)
        elif load.version == "3" and now - known.used > _WORN:
            known = _Known(await self._connect(load, target), load, now, known.counts)
        known.used = now
        if load.target == PROCESSORS:
            values = await known.session.column(_OBJECTS[PROCESSORS])
            self._known[target] = known  # not after a failure: a late answer would be taken for the next one's
            return _mean(values)
        found = await known.session.get(wanted(load.target))
        self._known[target] = known
        return _meaning(load.target, found, known.counts)

    def forget(self, target: Target) -> None:
        """Close the session of a target."""
        self._known.pop(target, None)

    def close(self) -> None:
        """Close all sessions."""
        self._known.clear()


def wanted(name: str) -> list[str]:
    """The objects to ask for, by number: `laLoadInt.1` is 1.3.6.1.4.1.2021.10.1.5.1.

    LoadError if the name is of none that is known here.
    """
    if re.fullmatch(r"\.?\d+(\.\d+)+", name):
        return [name.lstrip(".")]
    word, _, index = name.partition(".")
    if word in _COUNTERS and index:
        return [*(f"{oid}.{index}" for oid in _COUNTERS[word]), _UPTIME]
    if word in _OBJECTS and index:
        return [f"{_OBJECTS[word]}.{index}"]
    raise LoadError(f"no SNMP object is called {name} here: write its number")


def _mean(values: Sequence[Value]) -> float:
    if not values:
        raise LoadError(f"the agent has no {PROCESSORS}")
    return fmean(number(value) for value in values)


def _meaning(name: str, found: Mapping[str, Value], counts: deque[Count]) -> float:
    oids = wanted(name)
    if len(oids) == 1:
        if found.get(oids[0]) is None:
            raise LoadError(f"the agent has no {name}")
        return number(found[oids[0]])
    ticks = found.get(_UPTIME)
    for oid, bits in zip(oids, (64, 32), strict=False):
        octets = found.get(oid)
        if isinstance(octets, int) and isinstance(ticks, int):
            counts.append(Count(octets, ticks, bits))
            return rate(counts)
    raise LoadError(f"the agent has no {name}")


def rate(counts: deque[Count]) -> float:
    """Octets a second over the last 15 s or so, from readings in their order; forgets what is too old for that.

    A counter that went round is followed; one that began anew, with its agent, is not: LoadError until it has
    been read twice.
    """
    newest = counts[-1]
    if any(late.ticks < early.ticks or late.bits != early.bits for early, late in pairwise(counts)):
        counts.clear()
        counts.append(newest)
    while len(counts) > 2 and (newest.ticks - counts[1].ticks) / 100 >= _WINDOW:  # noqa: PLR2004 - two make a rate
        counts.popleft()
    seconds = (newest.ticks - counts[0].ticks) / 100
    if not seconds:
        raise LoadError("a rate needs two readings")
    octets = sum((late.octets - early.octets) % (1 << late.bits) for early, late in pairwise(counts))
    return octets / seconds
