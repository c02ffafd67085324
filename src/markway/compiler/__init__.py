"""Config and registry in, program out. Pure: the same input gives the same program."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from markway.compiler.abilities import Abilities, CompileError
from markway.compiler.asking import Asking
from markway.compiler.balance import service_fragment
from markway.compiler.base import bare_fragment, base_fragment
from markway.compiler.blocklists import blocklists_of
from markway.compiler.firewall import firewall_of
from markway.compiler.guarding import guard_of
from markway.compiler.pools import mark_names, pools
from markway.compiler.shaping import basis_of, fragments_of, numbered
from markway.config.model import Config
from markway.marks import Registry, assign, release, reserve
from markway.program.model import Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.balance.state import Weights
    from markway.compiler.blocklists import Layouts
    from markway.compiler.shaping import Basis
    from markway.config.model import Service
    from markway.marks import Field
    from markway.program.model import Fragment

__all__ = ["Abilities", "Asking", "CompileError", "Compiled", "compile_config", "reweigh"]


@dataclass(frozen=True)
class Compiled:
    """A program with what it was made from, so that the next one costs what changed."""

    config: Config
    registry: Registry
    program: Program
    weights: Weights = field(default_factory=dict)
    abilities: Abilities = field(default_factory=Abilities)
    basis: Basis | None = None
    """What shaping was compiled from; None if the file says nothing of it."""
    layouts: Mapping[str, Layouts] = field(default_factory=dict)
    """The sets of each list."""

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """The services by name."""
        return {service.name: service for service in self.config.services}

    @property
    def marks(self) -> Field:
        """The backend field of the mark."""
        return self.registry.backend_field(self.config.mask)


_AS_CONFIGURED: Weights = {}
_NOTHING = Compiled(Config(), Registry(), Program())


def compile_config(
    config: Config,
    registry: Registry,
    before: Compiled = _NOTHING,
    weights: Weights = _AS_CONFIGURED,
    abilities: Abilities | None = None,
    *,
    layouts: Mapping[str, Layouts] | None = None,
) -> Compiled:
    """Compile a configuration.

    Args:
        config: what the operator asked for.
        registry: numbers and slots given so far.
        before: an earlier result; services unchanged since then are not compiled again.
        weights: of the services whose backends are not worth what the file says.
        abilities: what this kernel can do; as before, if it is not given.
        layouts: the sets of each list; as before, if they are not given.

    Raises:
        markway.marks.MarksError: the mask is too small for the file.
        CompileError: the file asks for what cannot be had together, or from this kernel.
    """
    abilities = abilities or before.abilities
    layouts = before.layouts if layouts is None else layouts
    known = before.services
    reweighed = {
        name for name in weights.keys() | before.weights.keys() if weights.get(name) != before.weights.get(name)
    }
    changed = [s for s in config.services if s.name in reweighed or ((old := known.get(s.name)) is not s and old != s)]
    same_names = (
        bool(known)
        and len(known) == len(config.services)
        and all(s.name in known and mark_names(s) == mark_names(known[s.name]) for s in changed)
    )
    if not same_names:
        registry = release(assign(registry, (n for s in config.services for n in mark_names(s)), config.mask))
    registry = reserve(registry, {pool.name: pool.size for s in changed for pool in pools(s, registry, weights)})
    registry = numbered(registry, config.shaping)
    marks = registry.backend_field(config.mask)
    if marks != before.marks:
        changed = list(config.services)
    fresh = {s.name: service_fragment(s, registry, marks, weights) for s in changed}
    services = {s.name: s for s in config.services}
    basis = basis_of(config.shaping, services, registry, config.mask, abilities)
    shaped = fragments_of(basis, before.basis, before.program.fragments)
    held = before.program.fragments
    fragments = {owner: held[owner] for owner in held if owner in services or not owner} | fresh | shaped
    fragments |= firewall_of(config, marks, abilities) | guard_of(config, abilities.asking)
    fragments |= blocklists_of(config, layouts)
    base = fragments.get("")
    needs = base.needs if base and same_names and _same_needs(fresh, before.program) else _needs(fragments)
    same = (marks, needs, _room(registry), abilities.asking) == (
        before.marks,
        base.needs if base else None,
        _room(before.registry),
        before.abilities.asking,
    )
    if not config.services and not registry.numbers:
        fragments[""] = bare_fragment(marks)
    elif not same or base is None or not base.chains:
        fragments[""] = base_fragment(marks, needs, registry.next_offset, abilities.asking)
    return Compiled(config, registry, Program(fragments), weights, abilities, basis, layouts)


def reweigh(before: Compiled, changed: Mapping[str, Mapping[str, int] | None]) -> Compiled:
    """The same configuration with other weights of some services; None for the file's. Costs what changes."""
    weights = {**before.weights, **{name: found for name, found in changed.items() if found is not None}}
    for name in changed:
        if changed[name] is None:
            weights.pop(name, None)
    services = [before.services[name] for name in changed]
    sizes = {pool.name: pool.size for s in services for pool in pools(s, before.registry, weights)}
    registry = reserve(before.registry, sizes)
    fresh = {s.name: service_fragment(s, registry, before.marks, weights) for s in services}
    same_sets = all(item.sets.keys() == before.program.fragments[name].sets.keys() for name, item in fresh.items())
    if not same_sets or not _same_needs(fresh, before.program) or _room(registry) != _room(before.registry):
        return compile_config(before.config, before.registry, before, weights)
    following = replace(before, registry=registry, program=before.program.evolved(fresh), weights=weights)
    following.__dict__["services"] = before.services
    return following


def _same_needs(fresh: Mapping[str, Fragment], before: Program) -> bool:
    return all(fragment.needs == before.fragments[name].needs for name, fragment in fresh.items())


def _needs(fragments: Mapping[str, Fragment]) -> frozenset[str]:
    return frozenset[str]().union(*(fragment.needs for owner, fragment in fragments.items() if owner))


def _room(registry: Registry) -> int:
    return registry.next_offset.bit_length()
