"""What the kernel sees of a dead backend, told to the daemon: a log message that carries the connection's mark.

Only what passes before a connection is established is looked at: of TCP the first packets sent again and their answer,
of UDP the first two seconds (IPS_ASSURED, set in net/netfilter/nf_conntrack_proto_tcp.c and _udp.c). Every other packet
costs one comparison, about 13 ns of 1550 in the bench.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.names import CONNTRACK, hexed
from markway.program.nft import And, Chain, Match, Rule, Set, Term, Update, Written

if TYPE_CHECKING:
    from markway.marks import Field

GROUP = 0x6D77
"""The group of the log messages (NFLOG), in this network namespace."""

PER_SECOND = 10
"""Messages about one mark at most."""

_UNANSWERED = Match(Term("ct status"), "!", Term("assured"))
_TELL = Written("goto evidence/tell")


def overheard(*, local: bool) -> tuple[Rule, ...]:
    """The rules that lead to the chain, from where every packet of a connection with a mark passes.

    What this machine itself sends (`local`) is little, and among it is ICMP about a neighbour that does not answer any
    more, which speaks of old connections too.
    """
    to = Written("jump evidence")
    rules: tuple[Rule, ...] = ((_UNANSWERED, to),)
    return (*rules, (Match(Term("meta l4proto"), "", Term("{ icmp, icmpv6 }")), to)) if local else rules


def evidence(marks: Field) -> tuple[Chain, ...]:
    """The chains that tell a sign of death from the rest, and pass it on.

    The signs: a first packet sent again, a reset instead of an answer, ICMP that says unreachable. `ct direction
    reply` keeps out what is said of the client: ICMP takes the direction in which it goes
    (nf_conntrack_inet_error in net/netfilter/nf_conntrack_proto_icmp.c). That a packet is too large is no sign.
    """
    backend = And(CONNTRACK, Term(hexed(marks.mask)))
    unreachable = "type destination-unreachable"
    signs: tuple[Rule, ...] = (
        # Over lo a packet of our own comes by for the second time, not again.
        (Match(Term("ct state"), "", Term("new")), Match(Term("iifname"), "!=", Term('"lo"')), _TELL),
        (Match(Term("ct direction"), "", Term("original")), Written("return")),
        (Match(And(Term("tcp flags"), Term("rst")), "!=", Term("0")), _TELL),
        (Written(f"icmp {unreachable} icmp code != frag-needed"), _TELL),
        (Written(f"icmpv6 {unreachable}"), _TELL),
    )
    tell: tuple[Rule, ...] = (
        (Match(backend, "!=", Term("@passive")), Written("return")),
        (
            Update("update", "told", backend, over=f"limit rate over {PER_SECOND}/second burst 1 packets"),
            Written("return"),
        ),
        # The message carries the packet's mark; the connection's it cannot carry in every kernel (NETLINK_GLUE_CT).
        (Written("jump join"),),
        (Written(f"log group {GROUP} snaplen 0"),),
    )
    return Chain("evidence", signs), Chain("evidence/tell", tell)


def evidence_sets(numbers: int) -> tuple[Set, ...]:
    """Whose death is asked for, and when each was told of last; `numbers` is how many marks there can be."""
    return (
        Set("passive", ("mark",), size=numbers),
        Set("told", ("mark",), flags=("dynamic",), size=numbers, dynamic=True),
    )
