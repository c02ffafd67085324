"""The grammar of nftables objects that Markway writes, and its text.

Each class is one construct of nft(8); `str()` is the construct as nft reads it, so what
`plan` prints is what the kernel is given. Only what the compilers use is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence


UNWRITTEN = "xt target "
"""How a rule begins that nft lists but cannot read; it goes to the kernel over netlink."""


@dataclass(frozen=True, slots=True)
class Term:
    """A selector or a constant, as nft spells it: `ct mark`, `ip saddr`, `0x00000011`."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class And:
    """Some bits of a selector: `ct mark & 0x000000ff`."""

    left: Term
    mask: Term

    def __str__(self) -> str:
        return f"{self.left} & {self.mask}"


@dataclass(frozen=True, slots=True)
class Or:
    """A selector with some bits set: `meta mark | 0x00000001`."""

    left: Term | And
    bits: Term

    def __str__(self) -> str:
        return f"{self.left} | {self.bits}"


@dataclass(frozen=True, slots=True)
class Concat:
    """Several selectors looked up as one key: `ip daddr . ct protocol . th dport`."""

    parts: Sequence[Term | And | Jhash]

    def __str__(self) -> str:
        return " . ".join(f"({part})" if isinstance(part, And) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Numgen:
    """A number drawn in turn (`inc`) or by chance (`random`), from `offset` on."""

    kind: str
    modulus: int
    offset: int

    def __str__(self) -> str:
        return f"numgen {self.kind} mod {self.modulus} offset {self.offset}"


@dataclass(frozen=True, slots=True)
class Jhash:
    """A number that the hashed selectors decide, from `offset` on.

    The kernel scales the hash into the modulus (`reciprocal_scale` in net/netfilter/nft_hash.c).
    """

    key: Concat | And | Term
    modulus: int
    seed: int
    offset: int

    def __str__(self) -> str:
        return f"jhash {self.key} mod {self.modulus} seed {self.seed:#x} offset {self.offset}"


Key: TypeAlias = Term | And | Concat | Numgen | Jhash


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a named map holds under a key; a rule ends where the map has nothing."""

    key: Key
    name: str

    def __str__(self) -> str:
        return f"{self.key} map @{self.name}"


@dataclass(frozen=True, slots=True)
class Match:
    """Goes on only if the comparison holds; `right` may be `@set` or `{ a, b }`."""

    left: Key
    operator: str
    right: Term

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}" if self.operator else f"{self.left} {self.right}"


@dataclass(frozen=True, slots=True)
class Assign:
    """Writes a mark: `ct mark set ...`."""

    target: Term
    value: Term | And | Or | Mapped | Numgen | Jhash

    def __str__(self) -> str:
        return f"{self.target} set {self.value}"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Goes where a verdict map says: a named one, or one that is written out, as `{ "eth0" : goto x }`."""

    key: Key
    name: str

    def __str__(self) -> str:
        return f"{self.key} vmap {'' if self.name.startswith('{') else '@'}{self.name}"


@dataclass(frozen=True, slots=True)
class Update:
    """Adds an element to a dynamic set from the packet, or renews it (`update`), or takes it out (`delete`).

    Goes on only if the set took it; with `over`, only if the element's own limit is exceeded.
    """

    verb: str
    name: str
    key: Key
    timeout: str | None = None
    over: str | None = None
    data: Term | None = None

    def __str__(self) -> str:
        parts = [str(self.key)]
        parts += [f"timeout {self.timeout}"] if self.timeout else []
        parts += [self.over] if self.over else []
        parts += [f": {self.data}"] if self.data else []
        return f"{self.verb} @{self.name} {{ {' '.join(parts)} }}"


@dataclass(frozen=True, slots=True)
class Nat:
    """Translates: `dnat ip to ct mark & 0xff map @backends4`."""

    kind: str
    family: str
    target: Term | Mapped

    def __str__(self) -> str:
        return f"{self.kind} {self.family} to {self.target}"


@dataclass(frozen=True, slots=True)
class Written:
    """A statement without operands of ours: `return`, `goto x`, `masquerade`, `ct count over 5`."""

    text: str

    def __str__(self) -> str:
        return self.text


Statement: TypeAlias = Match | Assign | Dispatch | Update | Nat | Written
Rule: TypeAlias = tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain sees packets: nft(8), "CHAINS"."""

    kind: str
    point: str
    priority: str

    def __str__(self) -> str:
        return f"type {self.kind} hook {self.point} priority {self.priority}; policy accept;"


@dataclass(frozen=True, slots=True)
class Chain:
    """A named list of rules; with a `hook`, one that the kernel calls."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """Each rule as nft reads it."""
        return tuple(" ".join(map(str, rule)) for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Set:
    """A named set, or a map if it has `data`.

    `key` and `data` are nft type names. `typeof` replaces both in the text, where a type has
    no name. `each` is a statement that every element carries, as `counter`. A set with
    `dynamic` belongs to the packets: its elements are never written by a program.
    """

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    typeof: str | None = None
    flags: tuple[str, ...] = ()
    timeout: str | None = None
    size: int | None = None
    each: str | None = None
    dynamic: bool = False
    shared: bool = False
    """Whether several services may ask for one and the same element."""

    @property
    def noun(self) -> str:
        """`set` or `map`."""
        return "map" if self.data else "set"

    def element(self, key: str, value: str) -> str:
        """One element with its data, or with a statement of its own."""
        return f"{key} : {value}" if self.data else f"{key} {value}".rstrip()

    @property
    def definition(self) -> str:
        """The body between braces."""
        types = " . ".join(self.key) + (f" : {' . '.join(self.data)}" if self.data else "")
        parts = [f"typeof {self.typeof};" if self.typeof else f"type {types};"]
        parts += [f"flags {','.join(self.flags)};"] if self.flags else []
        parts += [f"timeout {self.timeout};"] if self.timeout else []
        parts += [f"size {self.size};"] if self.size else []
        parts += [f"{self.each};"] if self.each else []
        return " ".join(parts)
