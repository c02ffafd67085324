"""Rules as the kernel holds them, for the few that change often; nft's text serves the rest.

libnftables reads all chains and sets of the namespace before it writes one rule: tens of
milliseconds at ten thousand services, against a fraction of one. Layouts: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from markway.kernel.netlink import CREATE, Message, attribute, nested, text
from markway.program.nft import UNWRITTEN, Assign, Chain, Numgen, Rule, Term, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NEW_RULE, _DELETE_RULE = 10 << 8 | 6, 10 << 8 | 8
_INET, _APPEND = 1, 0x800
_REGISTER = 1
_MARK = 3  # NFT_CT_MARK
_BYPASS = 1  # NFQ_FLAG_BYPASS
_GOTO = -4 & 0xFFFF_FFFF
_KINDS = {"inc": 0, "random": 1}


def writable(rule: Rule) -> bool:
    """Whether this module can write a rule: a slot drawn by number, then `goto`."""
    return (
        len(rule) == 2  # noqa: PLR2004
        and isinstance(rule[0], Assign)
        and rule[0].target == Term("ct mark")
        and isinstance(rule[0].value, Numgen)
        and isinstance(rule[1], Written)
        and rule[1].text.startswith("goto ")
    )


def rewrite_messages(chain: Chain, table: str) -> Iterator[Message]:
    """Messages that empty a chain and give it its rules, all of them `writable`."""
    place = text(1, table) + text(2, chain.name)
    yield Message(_DELETE_RULE, 0, _INET, place)
    for rule in chain.rules:
        yield Message(_NEW_RULE, CREATE | _APPEND, _INET, place + nested(4, *_expressions(rule)))


def target_messages(chains: Iterable[Chain], table: str) -> Iterator[Message]:
    """Messages that append the rules which nft's text cannot express: packets handed to a queue by a target of xtables.

    The target is of any family (net/netfilter/xt_NFQUEUE.c), so nft_compat finds it for a chain of family inet too.
    """
    for chain in chains:
        for line in chain.lines:
            if line.startswith(UNWRITTEN):
                number = int(line.split()[3])
                info = struct.pack("=HHHxx", number, 1, _BYPASS)  # xt_NFQ_info_v3; nobody there: the packet goes on
                target = _expression("target", text(1, "NFQUEUE"), _word(2, 3), attribute(3, info))
                place = text(1, table) + text(2, chain.name)
                yield Message(_NEW_RULE, CREATE | _APPEND, _INET, place + nested(4, target))


def _expressions(rule: Rule) -> Iterator[bytes]:
    draw, leave = rule
    assert isinstance(draw, Assign)  # noqa: S101  (the rule is writable)
    assert isinstance(draw.value, Numgen)  # noqa: S101
    assert isinstance(leave, Written)  # noqa: S101
    number = draw.value
    yield _expression(
        "numgen", _word(1, _REGISTER), _word(2, number.modulus), _word(3, _KINDS[number.kind]), _word(4, number.offset)
    )
    yield _expression("ct", _word(2, _MARK), _word(4, _REGISTER))
    verdict = nested(2, _word(1, _GOTO), text(2, leave.text.removeprefix("goto ")))
    yield _expression("immediate", _word(1, 0), nested(2, verdict))


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *data))


def _word(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))
