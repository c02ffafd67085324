"""A program: all that Markway wants the kernel to hold, by who asked for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import blake2b
from json import dumps
from typing import TYPE_CHECKING, Any, NamedTuple

from markway.program.nft import Chain, Hook, Set, Written
from markway.program.plumbing import part_of, record_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from markway.program.plumbing import Part

TABLE = "inet markway"


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """A backend as the program knows it: its mark, and the share of new connections it was promised.

    `shares` is by family (`ip`, `ip6`), from 0 to 1.
    """

    name: str
    mark: int
    weight: int
    priority: int
    endpoints: tuple[str, ...]
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """What a person wants to know of a service in a program."""

    name: str
    mode: str
    schedule: str
    listeners: tuple[str, ...]
    backends: tuple[BackendEntry, ...]
    tables: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Slot table of each family: offset and size."""

    @property
    def record(self) -> dict[str, Any]:
        """The entry as JSON can hold it."""
        backends = [{name: getattr(backend, name) for name in BackendEntry.__slots__} for backend in self.backends]
        return {name: getattr(self, name) for name in ServiceEntry.__slots__} | {"backends": backends}


@dataclass(frozen=True, slots=True)
class ClassEntry:
    """A class as the program knows it: rates in bits per second. `parent` "" is the shape's top.

    `leaf` is the discipline that holds its packets, empty of a class that has others below it.
    """

    name: str
    parent: str
    classid: str
    rate: int
    ceil: int
    prio: int
    leaf: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True)
class ShapeEntry:
    """What a person wants to know of a shape in a program.

    `device` is what the file names, `acts_on` where the discipline stands: the same, a device of ours, or one on the
    inside. `rate` is in bits per second, 0 for none. `notices` say what this kernel made us choose instead of what was
    asked for.
    """

    name: str
    device: str
    direction: str
    acts_on: str
    discipline: str
    rate: int
    classes: tuple[ClassEntry, ...] = ()
    notices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """The entry as JSON can hold it."""
        classes = [{name: getattr(item, name) for name in ClassEntry.__slots__} for item in self.classes]
        return {name: getattr(self, name) for name in ShapeEntry.__slots__} | {"classes": classes}


@dataclass(frozen=True, slots=True)
class MarkEntry:
    """A marking rule as the program knows it: which class (`shape.class`) and uplink it sets, and its counter."""

    name: str
    class_: str
    uplink: str
    counter: str
    on: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """The entry as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A policy, or another reason to drop, as the program knows it.

    `counter` counts the packets that begin what it decides, `over` those of sources that had too much; empty where
    there is no limit. What is not the file's has a name with a slash.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    verdict: str
    counter: str
    over: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """The entry as JSON can hold it."""
        return asdict(self)


@dataclass(frozen=True)
class Fragment:
    """What one owner (a service, or the program itself) wants in the table.

    `elements` maps a set's name to its elements: key and value as nft writes them, an empty
    value where there is none. An element belongs to one fragment, but in `shared` sets.
    """

    owner: str = ""
    chains: Mapping[str, Chain] = field(default_factory=dict)
    sets: Mapping[str, Set] = field(default_factory=dict)
    elements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    objects: tuple[str, ...] = ()
    plumbing: tuple[Part, ...] = ()
    """What it wants beside the table, in the order in which it is made."""
    entry: ServiceEntry | None = None
    shape: ShapeEntry | None = None
    marks: tuple[MarkEntry, ...] = ()
    policies: tuple[PolicyEntry, ...] = ()
    mask: int = 0
    """The backend field of the mark; only the program's own fragment has it."""
    needs: frozenset[str] = frozenset()
    """What the owner expects of the base chains; known only to the compiler."""

    @property
    def record(self) -> dict[str, Any]:
        """The fragment as JSON can hold it; `from_record` is the inverse."""
        return {
            "owner": self.owner,
            "chains": {
                name: {"hook": chain.hook and asdict(chain.hook), "rules": chain.lines}
                for name, chain in self.chains.items()
            },
            "sets": {name: asdict(item) for name, item in self.sets.items()},
            "elements": self.elements,
            "objects": self.objects,
            "entry": self.entry and self.entry.record,
            "plumbing": [record_of(part) for part in self.plumbing],
            "shape": self.shape and self.shape.record,
            "marks": [entry.record for entry in self.marks],
            "mask": self.mask,
            **({"policies": [entry.record for entry in self.policies]} if self.policies else {}),
        }

    @cached_property
    def text(self) -> str:
        """The record as one line of JSON."""
        return dumps(self.record, separators=(",", ":"))

    @cached_property
    def digest(self) -> int:
        """A number that differs wherever the fragment does."""
        return int.from_bytes(blake2b(self.text.encode(), digest_size=16).digest())

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Fragment:
        """A fragment from what `record` gave."""
        entry, shape = record["entry"], record.get("shape")
        return cls(
            owner=record["owner"],
            chains={
                name: Chain(
                    name,
                    tuple((Written(line),) for line in chain["rules"]),
                    chain["hook"] and Hook(**chain["hook"]),
                )
                for name, chain in record["chains"].items()
            },
            sets={name: _set(item) for name, item in record["sets"].items()},
            elements=record["elements"],
            objects=tuple(record["objects"]),
            entry=entry and _entry(entry),
            plumbing=tuple(part_of(part) for part in record.get("plumbing", ())),
            shape=shape and _shape(shape),
            marks=tuple(MarkEntry(**{**mark, "on": tuple(mark["on"])}) for mark in record.get("marks", ())),
            policies=tuple(_policy(item) for item in record.get("policies", ())),
            mask=record["mask"],
        )


class Origin(NamedTuple):
    """The id of the program that one came from, and the owners of the fragments that it has anew."""

    program: str
    owners: frozenset[str]


@dataclass(frozen=True)
class Program:
    """One table's whole content. `fragments` is by owner; the program's own is under ``""``."""

    fragments: Mapping[str, Fragment] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Names this program: equal programs have equal ids. 32 hexadecimal digits.

        A sum over the fragments, so that a change costs what changed.
        """
        return f"{sum(fragment.digest for fragment in self.fragments.values()) % (1 << 128):032x}"

    def evolved(self, fresh: Mapping[str, Fragment]) -> Program:
        """This program with some fragments replaced by others with the same sets; costs what they are."""
        following = Program({**self.fragments, **fresh})
        step = sum(new.digest - self.fragments[owner].digest for owner, new in fresh.items())
        following.__dict__["id"] = f"{(int(self.id, 16) + step) % (1 << 128):032x}"
        following.__dict__["sets"] = self.sets
        following.__dict__["origin"] = Origin(self.id, frozenset(fresh))
        return following

    @cached_property
    def origin(self) -> Origin | None:
        """What this program is evolved from; None if it was made anew."""
        return None

    def differing(self, old: Program) -> Collection[str]:
        """Owners whose fragments may differ from those of another program; all others are the same."""
        if self.origin and self.origin.program == old.id:
            return self.origin.owners
        before, after = old.fragments, self.fragments
        owners = [owner for owner, fragment in after.items() if before.get(owner) is not fragment]
        return [*owners, *(before.keys() - after.keys())]

    @property
    def mask(self) -> int:
        """The backend field of the mark."""
        return self.fragments[""].mask if "" in self.fragments else 0

    @cached_property
    def sets(self) -> dict[str, Set]:
        """Every set by name."""
        return {name: item for fragment in self.fragments.values() for name, item in fragment.sets.items()}

    @property
    def plumbing(self) -> list[Part]:
        """What is wanted beside the table, in the order in which it is made."""
        return [part for owner in sorted(self.fragments) for part in self.fragments[owner].plumbing]

    @property
    def services(self) -> tuple[ServiceEntry, ...]:
        """Every service, by name."""
        entries = (self.fragments[owner].entry for owner in sorted(self.fragments))
        return tuple(entry for entry in entries if entry)

    @property
    def shapes(self) -> tuple[ShapeEntry, ...]:
        """Every shape, by name."""
        entries = (self.fragments[owner].shape for owner in sorted(self.fragments))
        return tuple(entry for entry in entries if entry)

    @property
    def marks(self) -> tuple[MarkEntry, ...]:
        """Every marking rule, in the order in which they are tried."""
        return tuple(entry for fragment in self.fragments.values() for entry in fragment.marks)

    @property
    def policies(self) -> tuple[PolicyEntry, ...]:
        """Every policy in the order in which they are tried, then the other reasons to drop."""
        return tuple(entry for fragment in self.fragments.values() for entry in fragment.policies)


def _policy(record: Mapping[str, Any]) -> PolicyEntry:
    return PolicyEntry(**{**record, "sources": tuple(record["sources"]), "targets": tuple(record["targets"])})


def _set(record: Mapping[str, Any]) -> Set:
    tuples = {name: tuple(record[name]) for name in ("key", "data", "flags")}
    return Set(**{**record, **tuples})


def _entry(record: Mapping[str, Any]) -> ServiceEntry:
    backends = tuple(
        BackendEntry(**{**backend, "endpoints": tuple(backend["endpoints"])}) for backend in record["backends"]
    )
    tables = {family: tuple(table) for family, table in record["tables"].items()}
    listeners = tuple(record["listeners"])
    return ServiceEntry(**{**record, "backends": backends, "tables": tables, "listeners": listeners})


def _shape(record: Mapping[str, Any]) -> ShapeEntry:
    classes = tuple(ClassEntry(**each) for each in record["classes"])
    return ShapeEntry(**{**record, "classes": classes, "notices": tuple(record["notices"])})
