"""Asking the queue worker which backend a new connection is given to.

A nat chain cannot ask: the packet would come back behind the translation (nf_reinject in net/netfilter/nf_queue.c
goes on with the next hook). So a filter chain in front of it gives the packet the mark of its service, the tag, and
hands it to the worker, which puts a backend's mark in the tag's place. The service's chain takes the answer if that
backend is up; if not, or if nobody has answered, it draws a slot as for `round-robin`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from markway.compiler.names import CONNTRACK, FAMILIES, PACKET, Family, hexed
from markway.program.nft import And, Assign, Chain, Concat, Dispatch, Hook, Match, Or, Rule, Set, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.model import Service
    from markway.marks import Field
    from markway.program.model import Program

QUEUE = 26997
"""The number of the queue, in this network namespace."""

UNDECIDED = Match(CONNTRACK, "", Term("@undecided"))
"""Counts a connection that still has its service's tag; whether it has decides nothing."""

_BETWEEN = "-125"
"""The priority behind the chains that restore marks (-150) and in front of those that translate (-100)."""


class Asking(StrEnum):
    """How a packet gets to the worker in this kernel."""

    QUEUE = "nft queue"
    TARGET = "the NFQUEUE target of xtables"
    """By nft_compat. The target belongs to no family, so a chain of family inet takes it."""
    NOT = "not at all"


def asked_chain(service: Service) -> str:
    """The chain that tags the packets of a service."""
    return f"service/{service.name}/ask"


def tagging(service: Service, tag: int, marks: Field) -> Chain:
    """The chain that writes a service's tag beside other people's bits."""
    others = And(PACKET, Term(hexed(marks.others)))
    return Chain(asked_chain(service), ((Assign(PACKET, Or(others, Term(hexed(tag)))), Written("goto ask")),))


def answer(marks: Field) -> Assign:
    """Takes the worker's answer, or the tag if there is none, for the connection."""
    return Assign(CONNTRACK, And(PACKET, Term(hexed(marks.mask))))


def asking_chains(marks: Field, needs: frozenset[str], asking: Asking) -> tuple[Chain, ...]:
    """The chains that all services share."""
    asked = tuple(_asked(marks, needs))
    question: dict[Asking, tuple[Rule, ...]] = {
        Asking.QUEUE: ((Written(f"queue flags bypass to {QUEUE}"),),),
        Asking.TARGET: ((Written(f"xt target NFQUEUE {QUEUE} bypass"),),),
        Asking.NOT: (),
    }
    return (
        Chain("prerouting-ask", asked, Hook("filter", "prerouting", _BETWEEN)),
        Chain("output-ask", asked, Hook("filter", "output", _BETWEEN)),
        Chain("ask", question[asking]),
    )


def asking_of(program: Program) -> Asking | None:
    """How a program asks; None if no service of it wants to."""
    return asking_by(program.fragments[""].chains.get("ask") if "" in program.fragments else None)


def asking_by(chain: Chain | None) -> Asking | None:
    """How a chain hands packets to a queue; None if there is no such chain."""
    if chain is None:
        return None
    [line] = chain.lines or ("",)
    return Asking.QUEUE if line.startswith("queue") else Asking.TARGET if line else Asking.NOT


def _asked(marks: Field, needs: frozenset[str]) -> Iterator[Rule]:
    """First packets only: a flow that a service came too late for has no translation any more (`ct status`)."""
    for family in FAMILIES:
        key = Concat((Term(f"{family.name} daddr"), Term("ct protocol"), Term("th dport")))
        for name in asked_maps(family):
            if name in needs:
                yield (
                    Match(Term("ct status"), "!", Term("confirmed")),
                    Match(Term("ct state"), "", Term("new")),
                    Match(And(CONNTRACK, Term(hexed(marks.mask))), "==", Term("0x00000000")),
                    Dispatch(key, name),
                )


def asked_maps(family: Family) -> tuple[str, str]:
    """The maps that find the service of a packet: of single ports, and of ranges."""
    return f"asked{family.version}", f"asked-ranges{family.version}"


def asking_sets(numbers: int, needs: frozenset[str]) -> Iterator[Set]:
    """The sets that are in use; `numbers` is how many marks there can be."""
    for family in FAMILIES:
        key = (family.kind, "inet_proto", "inet_service")
        single, ranges = asked_maps(family)
        sets = (Set(single, key, ("verdict",)), Set(ranges, key, ("verdict",), flags=("interval",)))
        yield from (item for item in sets if item.name in needs)
    yield Set("undecided", ("mark",), size=numbers, each="counter")
