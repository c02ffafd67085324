"""Config and registry in, program out. Pure: the same input gives the same program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markway.compiler.balance import mark_names, service_fragment, table_sizes
from markway.compiler.base import base_fragment
from markway.marks import Registry, assign, reserve
from markway.program.model import Fragment, Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.config.model import Config, Service

__all__ = ["Compiled", "compile_config"]


@dataclass(frozen=True)
class Compiled:
    """A program with what it was made from, so that the next one costs what changed."""

    config: Config
    registry: Registry
    program: Program


def compile_config(config: Config, registry: Registry, before: Compiled | None = None) -> Compiled:
    """Compile a configuration.

    Args:
        config: what the operator asked for.
        registry: numbers and slots given so far.
        before: an earlier result; services unchanged since then are not compiled again.

    Raises:
        markway.marks.MarksError: the mask is too small for the file.
    """
    known = _services(before)
    changed = [s for s in config.services if not _same(s, known.get(s.name))]
    same_names = len(known) == len(config.services) and all(
        s.name in known and mark_names(s) == mark_names(known[s.name]) for s in changed
    )
    if not same_names:
        registry = assign(registry, (name for s in config.services for name in mark_names(s)), config.mask)
    registry = reserve(registry, {pool: size for s in changed for pool, size in table_sizes(s, registry).items()})
    marks = registry.backend_field(config.mask)
    if before is not None and before.registry.backend_field(before.config.mask) != marks:
        changed = list(config.services)
    fresh = {s.name for s in changed}
    kept = before.program.fragments if before else {}
    fragments: dict[str, Fragment] = {
        s.name: service_fragment(s, registry, marks) if s.name in fresh else kept[s.name] for s in config.services
    }
    needs = frozenset[str]().union(*(fragment.needs for fragment in fragments.values()))
    return Compiled(config, registry, Program({"": base_fragment(marks, needs), **fragments}))


def _services(before: Compiled | None) -> Mapping[str, Service]:
    return {service.name: service for service in before.config.services} if before else {}


def _same(service: Service, other: Service | None) -> bool:
    return service is other or service == other
