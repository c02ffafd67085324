"""A shape becomes a tree of traffic control, and the chain or the filters that give packets to its classes."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from markway.compiler.abilities import Abilities, CompileError
from markway.compiler.filters import said_by_nft, tc_filters, u32_filters
from markway.compiler.lookups import PRIORITY, Lookups
from markway.compiler.marking import without_owners
from markway.compiler.matches import Marks, alternatives
from markway.compiler.names import PACKET, hexed
from markway.compiler.selectors import refusal, u32_keys, unsayable
from markway.compiler.tree import Tree
from markway.config.shaping import Direction, FilterKind
from markway.program.model import Fragment, ShapeEntry
from markway.program.nft import And, Assign, Chain, Match, Term, Written
from markway.program.plumbing import ARRIVING, REDIRECT, Filter, Link, Qdisc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.config import shaping
    from markway.config.shaping import Shape
    from markway.marks import Field
    from markway.program.plumbing import Part

_LONGEST_NAME = 15
_OUR_PREFERENCES = {"ip": 1, "ipv6": 2}
"""Of the filters that stand for matches on what arrives; the file's own come behind them."""

_LAST_PREFERENCE = 0xFFFF


@dataclass(frozen=True)
class Ground:
    """What shapes are compiled with: numbers, marks and what the kernel can do."""

    classes: Mapping[str, int]
    class_field: Field
    marked: Mapping[str, int]
    marks: Marks
    abilities: Abilities


def owner_of(name: str) -> str:
    """What a shape's own are called: its fragment, the chain that fills its classes, and how its maps begin."""
    return f"shape/{name}"


def place_of(shape: Shape, ground: Ground) -> tuple[str, str]:
    """The device on which a shape stands, and what is to be said of it.

    What arrives is shaped behind an IFB, where all headers can be asked, or else on its way out of the one inner
    device that all of it leaves by.

    Raises:
        CompileError: neither will do.
    """
    if shape.direction is Direction.EGRESS:
        return shape.device, ""
    reason = _against_ifb(shape, ground)
    if not reason:
        return ifb_name(shape.name), ""
    if len(shape.inside) == 1:
        [inside] = shape.inside
        notice = f"what arrives at {shape.device} is shaped where it leaves {inside}: {reason}"
        return inside, f"{notice}; what is for this machine itself is not"
    needed = next((m for item in shape.classes for m in item.matches if unsayable(m)), None)
    if not shape.inside and needed and ground.abilities.ifb:
        raise refusal(needed, shape.device)
    several = f", and {len(shape.inside)} inner devices would have the rate each" if shape.inside else ""
    hint = 'name the one device behind which the receivers are, as inside = "lan0"'
    raise CompileError((*shape.origin, "direction"), f"{reason}{several}", hint)


def _against_ifb(shape: Shape, ground: Ground) -> str:
    if not ground.abilities.ifb:
        return "this kernel has no IFB"
    needed = next((word for item in shape.classes for m in item.matches if (word := unsayable(m))), "")
    if needed:
        return f"`{needed}` can be asked only there"
    if any(aim.startswith(f"{shape.name}/") for aim in ground.marked):
        return "packets have no mark before"
    kinds = {item.kind for item in shape.filters} - {FilterKind.U32}
    return f"a filter {min(kinds)} knows nothing before" if kinds else ""


def ifb_name(name: str) -> str:
    """The device of ours that what arrives is sent through; a long name is made short (IFNAMSIZ in linux/if.h)."""
    plain = f"mw-{name}"
    return plain if len(plain) <= _LONGEST_NAME else f"mw-{blake2b(name.encode(), digest_size=6).hexdigest()}"


def shape_fragment(shape: Shape, ground: Ground) -> Fragment:
    """All that one shape asks of the kernel.

    Raises:
        CompileError: it asks for what cannot be had.
    """
    device, notice = place_of(shape, ground)
    tree = Tree(shape, device, ground.classes, ground.abilities)
    chains: tuple[Chain, ...] = ()
    before_netfilter = shape.direction is Direction.INGRESS and device == ifb_name(shape.name)
    notices = [notice] if notice else []
    if before_netfilter:
        lookups = Lookups()
        plumbing: tuple[Part, ...] = tuple(_behind_ifb(shape, tree, ground.abilities))
        if any(m.destination or m.destination_port or m.port for item in shape.classes for m in item.matches):
            notices.append(f"destinations are those with which packets arrive at {shape.device}, before translation")
    else:
        chains, lookups, said = _classified(shape, tree, ground)
        notices += said
        plumbing = (*tree.parts(), *tc_filters(tree, shape.filters, ground.abilities))
    entry = ShapeEntry(
        name=shape.name,
        device=shape.device,
        direction=shape.direction.value,
        acts_on=device,
        discipline=tree.root.kind,
        rate=shape.rate,
        classes=tree.entries(),
        notices=(*notices, *tree.notices),
        optional=shape.optional,
    )
    return Fragment(
        owner=owner_of(shape.name),
        chains={chain.name: chain for chain in chains},
        sets=lookups.sets,
        elements=lookups.elements,
        plumbing=plumbing,
        shape=entry,
    )


def _classified(shape: Shape, tree: Tree, ground: Ground) -> tuple[tuple[Chain, ...], Lookups, list[str]]:
    """The chain of a shape: marks first, then the classes' matches in the file's order, then stand-ins for filters."""
    name, lookups = owner_of(shape.name), Lookups()
    aimed = {
        hexed(ground.class_field.place(number)): tree.classids[class_name]
        for aim, number in ground.marked.items()
        for shape_name, _, class_name in [aim.partition("/")]
        if shape_name == shape.name
    }
    if aimed:
        field = And(PACKET, Term(hexed(ground.class_field.mask)))
        lookups.look_up(f"{name}/marks", [field], ("mark",), aimed)
    stand_ins, notice = said_by_nft(shape.filters, ground.abilities)
    wanted = [(item.name, match) for item in shape.classes for match in without_owners(item.matches)]
    lookups.add(
        name,
        (
            (alternative, tree.classids[class_name])
            for class_name, match in (*wanted, *stand_ins)
            for alternative in alternatives(match, ground.marks)
        ),
    )
    said = [notice] if notice else []
    chain = Chain(name, tuple(lookups.rules))
    if shape.direction is Direction.EGRESS:
        return (chain,) if lookups.rules else (), lookups, said
    if tree.root.kind != "htb":
        said.append(
            f"whatever leaves {tree.device} is shaped, wherever it comes from: {tree.root.kind} lets nothing by"
        )
        return (chain,) if lookups.rules else (), lookups, said
    return (chain, _only_from(shape, tree, chain)), lookups, said


def _only_from(shape: Shape, tree: Tree, chain: Chain) -> Chain:
    """In front of an inner device: what came from elsewhere passes at once, its class being the root (htb_classify)."""
    arrived = Match(Term("iifname"), "", Term(f'"{shape.device}"'))
    past = Assign(PRIORITY, Term(f"{tree.handle}0"))
    return Chain(f"{chain.name}/inside", ((arrived, Written(f"goto {chain.name}")), (past,)))


def entry_chain(fragment: Fragment) -> str:
    """The chain that packets leaving a shape's device go to; empty if none has to."""
    assert fragment.shape  # noqa: S101  (only shapes are asked)
    name = owner_of(fragment.shape.name)
    return next((found for found in (f"{name}/inside", name) if found in fragment.chains), "")


def _behind_ifb(shape: Shape, tree: Tree, abilities: Abilities) -> Iterator[Part]:
    """A device of ours with the tree, and then what sends packets to it."""
    yield Link(tree.device, origin=shape.origin)
    yield from tree.parts()
    for version, (protocol, preference) in zip((4, 6), _OUR_PREFERENCES.items(), strict=True):
        each = [
            (keys, tree.classids[item.name], match.origin)
            for item in shape.classes
            for match in item.matches
            for keys in u32_keys(match, version)
        ]
        if each:
            yield from u32_filters(tree.device, tree.handle, preference, protocol, each)
    yield from tc_filters(tree, _bounded(shape.filters), abilities, shift=len(_OUR_PREFERENCES))
    yield Qdisc(shape.device, "ingress", "ingress", origin=shape.origin)
    redirect = f"match u32 0x00000000 0x00000000 at 0 action mirred egress redirect dev {tree.device}"
    yield Filter(shape.device, ARRIVING, REDIRECT, "all", "u32", redirect, "::1", origin=shape.origin)


def _bounded(filters: tuple[shaping.Filter, ...]) -> tuple[shaping.Filter, ...]:
    for item in filters:
        if item.preference > _LAST_PREFERENCE - len(_OUR_PREFERENCES):
            raise CompileError(
                item.origin, f"priority {item.preference} is too much for what arrives", "65533 is the last"
            )
    return filters
