"""Queueing disciplines: which this kernel has, which takes the place of one it lacks, and their numbers."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from markway.compiler.abilities import STAND_INS, CompileError
from markway.config.shaping import Discipline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.compiler.abilities import Abilities
    from markway.config.shaping import Origin

HANDLES: Mapping[str, str] = MappingProxyType(
    {
        "pfifo_fast": "4d56:",
        "htb": "4d57:",
        "tbf": "4d58:",
        "prio": "4d59:",
        "cake": "4d5a:",
        "sfq": "4d5b:",
        "fq_codel": "4d5c:",
        "fq": "4d5d:",
        "pfifo": "4d5e:",
        "bfifo": "4d5f:",
    }
)
"""The handle of a root of each kind, of `plumbing.HANDLES`: the kernel changes no kind under a handle that stays."""

FRAME = 1514
"""Bytes of a full Ethernet frame, without its checksum."""

_LARGEST_QUANTUM = 60000
_R2Q = 10
_BURST_PARTS = 250
_PATIENCE = 2
_QUEUES = range(16, 1001)


class Chosen(NamedTuple):
    """The discipline that stands for what was asked for; the notice says so if it is another."""

    discipline: Discipline
    notice: str = ""


def chosen(wanted: Discipline, abilities: Abilities, origin: Origin, rate: int, *, strict: bool) -> Chosen:
    """The discipline itself if the kernel has it, else the nearest, with its own defaults but for pfifo's length.

    Args:
        wanted: what the file asks for.
        abilities: what the kernel has.
        origin: the key of the file.
        rate: bits per second that it may send at most; 0 if nothing bounds it.
        strict: whether only what was asked for will do.

    Raises:
        CompileError: the kernel has nothing near, or may not take it.
    """
    if wanted.kind in abilities.disciplines:
        return Chosen(wanted)
    found = next((kind for kind in STAND_INS.get(wanted.kind, ()) if kind in abilities.disciplines), None)
    if found is None or strict or wanted.strict:
        raise lacking(wanted.kind, origin, found)
    limit = (("limit", str(queue(rate))),) if found == "pfifo" and rate else ()
    return Chosen(Discipline(found, limit), f"this kernel has no {wanted.kind}; {found} is the nearest")


def lacking(kind: str, origin: Origin, nearest: str | None = None) -> CompileError:
    """What is said of a discipline that this kernel has not."""
    load = f"load its module (modprobe sch_{kind})"
    hint = f"{load}, or leave out strict = true: {nearest} is the nearest" if nearest else load
    return CompileError(origin, f"this kernel has no {kind}", hint)


def options(discipline: Discipline) -> str:
    """What tc reads behind the kind."""
    return " ".join(word for pair in discipline.options for word in pair if word)


def quantum(rate: int, mtu: int | None, whole: int) -> int:
    """Bytes that a class may borrow in one turn, in proportion to its rate; `whole` is the rate of all.

    A tenth of a second's, as with tc's own r2q of 10, but the whole would have 60,000 bytes at most: else all classes
    of a fast link had that, and equal turns. Less than a packet would cost the kernel idle turns, more than 60,000
    make the others wait (htb_change_class in net/sched/sch_htb.c warns of either).
    """
    parts = max(_R2Q, -(-whole // 8 // _LARGEST_QUANTUM))
    return max(mtu or FRAME, min(rate // 8 // parts, _LARGEST_QUANTUM))


def queue(rate: int) -> int:
    """Packets that a plain queue may hold: what goes in half a second, 16 at least.

    By itself pfifo takes the device's length (net/sched/sch_fifo.c), mostly 1000 packets: 12 s of 1 Mbit/s.
    """
    return min(max(rate // 8 // FRAME // _PATIENCE, _QUEUES[0]), _QUEUES[-1])


def burst(rate: int, mtu: int | None) -> int:
    """Bytes that may go at once: what the rate brings in 4 ms, two packets at least.

    tc's own default is one packet (tc_core.c, for a clock of nanoseconds). A virtual machine's timers, or a kernel
    of HZ=250 without fine ones, are later than that is used up, and at 100 Mbit the rate would not be reached.
    """
    return max(2 * (mtu or FRAME), rate // 8 // _BURST_PARTS)
