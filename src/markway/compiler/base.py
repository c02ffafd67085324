"""The chains that every service shares: restore, choose, translate, mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.asking import Asking, asking_chains, asking_sets
from markway.compiler.evidence import evidence, evidence_sets, overheard
from markway.compiler.names import CONNTRACK, FAMILIES, IP6, PACKET, Family, hexed
from markway.program.model import Fragment
from markway.program.nft import (
    And,
    Assign,
    Chain,
    Concat,
    Dispatch,
    Hook,
    Mapped,
    Match,
    Nat,
    Or,
    Rule,
    Set,
    Statement,
    Term,
    Update,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.marks import Field

SPILLS = 8
"""How often a connection may find a backend newly full. The kernel nests chains 16 deep at most."""

SKIPS = 8
"""How many backends known to be full are passed over each time."""

STICKY = 1 << 18
"""Sources remembered for persistence; those beyond are balanced like strangers."""

_SLOTS = 4096
"""Slots that there is room for at least, so that a small file may grow without a new set."""

_PROGRAM = Set("program", ("mark",))

_ZERO = Term("0x00000000")
_RETURN = Written("return")

_SLOT: tuple[Rule, ...] = (
    (Assign(CONNTRACK, Mapped(CONNTRACK, "slots")), _RETURN),
    (Written("drop"),),
)
"""Slot to backend. One rule for all services: the kernel checks each element of a map against
each rule that uses it (nft_add_set_elem in net/netfilter/nf_tables_api.c), and at ten thousand
services with a rule each that takes minutes. A slot leads nowhere only in the instant in which
one program follows another, while the kernel has the new rules and still the old elements:
dropped, the client asks again."""


def bare_fragment(marks: Field) -> Fragment:
    """The program's own part of the table where there was never a service: no packet is looked at."""
    return Fragment(sets={_PROGRAM.name: _PROGRAM}, mask=marks.mask)


def base_fragment(marks: Field, needs: frozenset[str], slots: int, asking: Asking) -> Fragment:
    """The program's own part of the table.

    Args:
        marks: the backend field of the mark.
        needs: sets, protocols (`tcp4`) and helpers (`helper/ftp`) that the services use.
        slots: one more than the greatest slot.
        asking: how packets get to the queue worker.
    """
    chains = [
        Chain("prerouting-mangle", _restored(marks, needs), Hook("filter", "prerouting", "mangle")),
        Chain("output-mangle", _restored(marks, needs, local=True), Hook("filter", "output", "mangle")),
        Chain("prerouting-dstnat", _translation(marks, needs), Hook("nat", "prerouting", "dstnat")),
        Chain("output-dstnat", _translation(marks, needs), Hook("nat", "output", "-100")),
        Chain("postrouting-srcnat", _masking(marks, needs), Hook("nat", "postrouting", "srcnat")),
        Chain("translate", tuple(_destinations(marks, needs))),
        Chain("translate-beside-foreign", ((Written("jump join"),), (Written("goto translate"),))),
        Chain("join", _join(marks)),
        Chain("choose-beside-foreign", _beside_foreign(marks, needs)),
        Chain("slot", _SLOT),
        *_refusals(),
        *(_capped() if "capped" in needs else ()),
        *(asking_chains(marks, needs, asking) if "undecided" in needs else ()),
        *(evidence(marks) if "passive" in needs else ()),
    ]
    helpers = sorted(need.removeprefix("helper/") for need in needs if need.startswith("helper/"))
    return Fragment(
        chains={chain.name: chain for chain in chains},
        sets={item.name: item for item in _sets(marks, needs, slots)},
        objects=tuple(_helper(name) for name in helpers),
        mask=marks.mask,
        needs=needs,
    )


def _restored(marks: Field, needs: frozenset[str], *, local: bool = False) -> tuple[Rule, ...]:
    """Every later packet of a connection gets the connection's mark back and is counted.

    The look-up has no consequence: its element counts. Most packets end in the second rule.
    """
    return (
        (Match(CONNTRACK, "==", _ZERO), _RETURN),
        *(overheard(local=local) if "passive" in needs else ()),
        (*_whole(marks), Match(PACKET, "", Term("@traffic")), _RETURN),
        (_in_field(marks, "=="), _RETURN),
        (Match(_field(CONNTRACK, marks), "", Term("@traffic")),),
        (Written("jump join"),),
    )


def _whole(marks: Field) -> tuple[Statement, ...]:
    """Connection mark to packet mark, where the packet carries nobody else's bits."""
    return (Match(_foreign(PACKET, marks), "==", _ZERO), Assign(PACKET, _field(CONNTRACK, marks)))


def _in_field(marks: Field, operator: str) -> Match:
    return Match(_field(CONNTRACK, marks), operator, _ZERO)


def _field(mark: Term, marks: Field) -> And:
    return And(mark, Term(hexed(marks.mask)))


def _foreign(mark: Term, marks: Field) -> And:
    return And(mark, Term(hexed(marks.others)))


def _join(marks: Field) -> tuple[Rule, ...]:
    """Connection mark to packet mark, bit by bit, beside someone else's bits.

    A mark cannot be put together from two variables before Linux 6.13 and nft 1.1.2.
    """
    return ((Assign(PACKET, _foreign(PACKET, marks)),), *_copied_bits(CONNTRACK, PACKET, marks))


def _copied_bits(source: Term, target: Term, marks: Field) -> Iterator[Rule]:
    for bit in marks.bits:
        one = Term(hexed(bit))
        yield (Match(And(source, one), "!=", _ZERO), Assign(target, Or(target, one)))


def _translation(marks: Field, needs: frozenset[str]) -> tuple[Rule, ...]:
    """For the first packet of a connection: choose, mark the packet, translate by the mark.

    A nat chain sees exactly that packet, also of a UDP flow that nobody answers, so the mark
    cannot drift away from the translation (net/netfilter/nf_nat_core.c, nf_nat_inet_fn).
    """
    fresh = Match(CONNTRACK, "==", _ZERO)
    given = (_in_field(marks, "!="), *_whole(marks), Written("goto translate"))
    beside = (_in_field(marks, "!="), Written("goto translate-beside-foreign"))
    return (
        *((fresh, dispatch) for dispatch in _dispatches(needs)),
        given,
        (Match(_foreign(CONNTRACK, marks), "!=", _ZERO), _in_field(marks, "=="), Written("jump choose-beside-foreign")),
        given,
        beside,
    )


def _dispatches(needs: frozenset[str]) -> Iterator[Dispatch]:
    """One look-up finds the service, however many there are."""
    for family in FAMILIES:
        # Not `meta l4proto`: for a key with ranges nft 1.0.6 would have it converted as two bytes, which kernels
        # refuse since early 2026 (nft_byteorder_init in net/netfilter/nft_byteorder.c).
        key = Concat((Term(f"{family.name} daddr"), Term("ct protocol"), Term("th dport")))
        for name in (f"listeners{family.version}", f"ranges{family.version}"):
            if name in needs:
                yield Dispatch(key, name)


def _destinations(marks: Field, needs: frozenset[str]) -> Iterator[Rule]:
    """By family: else one family's connections would be looked up, and counted, in the other's map too."""
    for family in FAMILIES:
        mark = _field(CONNTRACK, marks)
        mine = Match(Term("meta nfproto"), "", Term(family.nfproto))
        if f"backends{family.version}" in needs:
            for protocol in ("tcp", "udp"):
                if f"{protocol}{family.version}" in needs:
                    yield (
                        mine,
                        Match(Term("meta l4proto"), "", Term(protocol)),
                        Nat("dnat", family.name, Mapped(mark, f"backends{family.version}")),
                    )
        if f"hosts{family.version}" in needs:
            yield (mine, Nat("dnat", family.name, Mapped(mark, f"hosts{family.version}")))


def _beside_foreign(marks: Field, needs: frozenset[str]) -> tuple[Rule, ...]:
    """The choice, where someone else has marked the connection already.

    Choosing writes the whole connection mark, so the foreign bits wait in a map under the
    connection's id meanwhile; then the chosen bits join them.
    """
    connection = Term("ct id")
    return (
        (Update("update", "beside", connection, timeout="1s", data=CONNTRACK),),
        *((dispatch,) for dispatch in _dispatches(needs)),
        (_in_field(marks, "=="), _RETURN),
        (Written("jump join"),),
        (Assign(CONNTRACK, Mapped(connection, "beside")),),
        *_copied_bits(PACKET, CONNTRACK, marks),
    )


def _masking(marks: Field, needs: frozenset[str]) -> tuple[Rule, ...]:
    """Source NAT by mark; and for a backend that calls a service which may answer from its own network."""
    mark = _field(CONNTRACK, marks)
    rules: list[Rule] = []
    for family in FAMILIES:
        if f"sources{family.version}" in needs:
            rules.append((Nat("snat", family.name, Mapped(mark, f"sources{family.version}")),))
        if "masked" in needs and _uses(family, needs):
            own: Statement = Nat("snat", family.name, Term(f"ct original {family.name} daddr"))
            rules.append((Match(mark, "", Term("@masked")), own))
        if f"hairpin{family.version}" in needs:
            source = Match(Term(f"{family.name} saddr"), "", Term(f"@hairpin{family.version}"))
            rules.append((source, _in_field(marks, "!="), Written("masquerade")))
    return tuple(rules)


def _uses(family: Family, needs: frozenset[str]) -> bool:
    return not needs.isdisjoint({f"tcp{family.version}", f"udp{family.version}"})


def _refusals() -> tuple[Chain, Chain]:
    reset: tuple[Rule, ...] = (
        (Match(Term("meta l4proto"), "", Term("tcp")), Written("reject with tcp reset")),
        (Written("reject with icmpx type port-unreachable"),),
    )
    return Chain("refuse/reset", reset), Chain("refuse/drop", ((Written("drop"),),))


def _capped() -> Iterator[Chain]:
    """Moves a connection on while the chosen backend is full; leaves mark 0 if all are.

    Asking whether a backend is full counts the connection there (net/netfilter/nf_conncount.c),
    so a full one is not asked again for a second.
    """
    full = Match(CONNTRACK, "", Term("@full"))
    over = (
        Match(CONNTRACK, "", Term("@capped")),
        Update("update", "full", CONNTRACK, timeout="1s"),
    )
    onward = Assign(CONNTRACK, Mapped(CONNTRACK, "next"))
    for step in range(SPILLS + 1):
        name, following = f"capped/{step}" if step else "capped", Written(f"goto capped/{step + 1}")
        moves: list[Rule] = [(onward,), *[(full, onward)] * SKIPS] if step else []
        yield Chain(name, (*moves, (full, following), (*over, following)))
    yield Chain(f"capped/{SPILLS + 1}", ((Assign(CONNTRACK, _ZERO),),))


def _helper(name: str) -> str:
    protocol = {"ftp": "tcp", "tftp": "udp"}[name]
    return f'ct helper {name} {{ type "{name}" protocol {protocol}; }}'


def _sticky(family: Family) -> Set:
    """Service and source to mark. Hashes of an IPv6 source have no type with a name: a connection's id is like them."""
    hashed = family is IP6
    return Set(
        f"sticky{family.version}",
        ("mark", "integer", "integer") if hashed else ("mark", family.kind),
        ("mark",),
        typeof="ct mark . ct id . ct id : ct mark" if hashed else None,
        flags=("dynamic", "timeout"),
        size=STICKY,
        dynamic=True,
    )


def _sets(marks: Field, needs: frozenset[str], slots: int) -> Iterator[Set]:
    """Every named set; those of a feature are there once a service uses it.

    A set whose elements are bounded says so: the kernel then has a faster hash for keys of four
    bytes (nft_hash_fast_lookup in net/netfilter/nft_set_hash.c). Marks are bounded by their field.
    """
    numbers = 1 << len(marks.bits)
    yield _PROGRAM
    yield Set("slots", ("mark",), ("mark",), size=max(_SLOTS, 1 << slots.bit_length()))
    yield Set(
        "beside",
        ("integer",),
        ("mark",),
        typeof="ct id : ct mark",
        flags=("dynamic", "timeout"),
        size=65536,
        dynamic=True,
    )
    yield Set("traffic", ("mark",), size=numbers, each="counter")
    for family in FAMILIES:
        yield from (item for item in _family_sets(family, numbers) if item.name in needs)
    others = (
        Set("masked", ("mark",), size=numbers),
        Set("up", ("mark",), size=numbers),
        Set("next", ("mark",), ("mark",), size=numbers),
        # Not dynamic: in a dynamic set the kernel removes a limit that has no connection, and it is gone
        # (nft_rhash_expr_needs_gc_run in net/netfilter/nft_set_hash.c).
        Set("capped", ("mark",), each="ct count over 1"),
        Set("full", ("mark",), flags=("dynamic", "timeout"), size=65536, dynamic=True),
    )
    yield from asking_sets(numbers, needs) if "undecided" in needs else ()
    yield from evidence_sets(numbers) if "passive" in needs else ()
    yield from (item for item in others if item.name in needs or (item.name == "full" and "capped" in needs))


def _family_sets(family: Family, numbers: int) -> Iterator[Set]:
    version, address = family.version, family.kind
    listener = (address, "inet_proto", "inet_service")
    target = (address, "inet_service")
    yield Set(f"listeners{version}", listener, ("verdict",), each="counter")
    yield Set(f"ranges{version}", listener, ("verdict",), flags=("interval",), each="counter")
    yield Set(f"backends{version}", ("mark",), target, size=numbers, each="counter")
    yield Set(f"hosts{version}", ("mark",), (address,), size=numbers, each="counter")
    yield Set(f"sources{version}", ("mark",), (address,), size=numbers)
    yield Set(f"hairpin{version}", (address,), size=numbers, shared=True)
    yield _sticky(family)
