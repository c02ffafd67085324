"""A service becomes chains, slots, listeners and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from markway.compiler.asking import answer, asked_chain, asked_maps, tagging
from markway.compiler.names import FAMILIES, hexed, service_chain
from markway.compiler.pools import Pool, Server, pools, servers
from markway.compiler.sentence import choice, limits, rate_sets
from markway.config.model import Mode
from markway.program.model import BackendEntry, Fragment, ServiceEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.balance.state import Weights
    from markway.config.model import Listener, Service
    from markway.marks import Block, Field, Registry

Elements: TypeAlias = dict[str, dict[str, str]]

EXPANDED_PORTS = 64
"""Ranges up to this many ports become single keys of the exact map, which is faster to look up."""


def service_fragment(service: Service, registry: Registry, marks: Field, weights: Weights) -> Fragment:
    """All that one service asks of the table."""
    among, choosing = servers(service, registry, marks, weights), pools(service, registry, weights)
    families = tuple(pool.family for pool in choosing)
    queued = service.schedule.queued
    tag = marks.place(registry.numbers[service.name]) if service.persist or queued else 0
    answered = answer(marks) if queued else None
    limited = limits(service, families)
    chains = [limited] if limited else []
    chains += [
        choice(service, pool, registry.blocks[pool.name].offset, tag, limited=limited is not None, answer=answered)
        for pool in choosing
    ]
    chains += [tagging(service, tag, marks)] if queued else []
    elements: Elements = {"slots": {}}
    for pool in choosing:
        _slots(elements, service, among, pool, registry.blocks[pool.name])
        _targets(elements, service, among, pool)
    elements["traffic"] = {server.mark: "" for server in among}
    if service.check and service.check.passive:
        elements["passive"] = {server.mark: "" for server in among}
    if queued:
        elements["undecided"] = {hexed(tag): ""}
    _listeners(elements, service)
    return Fragment(
        owner=service.name,
        chains={chain.name: chain for chain in chains},
        sets={item.name: item for item in rate_sets(service, families)},
        elements=elements,
        entry=_entry(service, among, choosing, registry),
        needs=_needs(service, elements),
    )


def _slots(elements: Elements, service: Service, among: tuple[Server, ...], pool: Pool, block: Block) -> None:
    """Which slot leads to whom; and, where that matters, who may be chosen now and who comes next if one is full."""
    marks = {server.name: server.mark for server in among}
    table = pool.table
    elements["slots"].update((hexed(block.offset + slot), marks[name]) for slot, name in enumerate(table))
    names = sorted(set(table))
    capped = any(server.cap for server in among)
    if service.persist or service.schedule.queued or capped:
        elements.setdefault("up", {}).update((marks[name], "") for name in names)
    if capped:
        ring = zip(names, names[1:] + names[:1], strict=True)
        elements.setdefault("next", {}).update((marks[one], marks[other]) for one, other in ring)
        caps = ((server.mark, f"ct count over {server.cap}") for server in among if server.cap)
        elements.setdefault("capped", {}).update(caps)


def _targets(elements: Elements, service: Service, among: tuple[Server, ...], pool: Pool) -> None:
    """Where each mark is translated to, and from which address if the client is masked."""
    version = pool.family.version
    source = next((str(address) for address in service.source if address.version == version), None)
    for server in among:
        if version not in server.targets:
            continue
        address, port = server.targets[version]
        if port:
            elements.setdefault(f"backends{version}", {})[server.mark] = f"{address} . {port}"
        else:
            elements.setdefault(f"hosts{version}", {})[server.mark] = address
        if service.mode is Mode.DNAT:
            elements.setdefault(f"hairpin{version}", {})[address] = ""
        elif source:
            elements.setdefault(f"sources{version}", {})[server.mark] = source
        else:
            elements.setdefault("masked", {})[server.mark] = ""


def _listeners(elements: Elements, service: Service) -> None:
    for listener in service.listeners:
        family = next(f for f in FAMILIES if f.version == listener.address.version)
        verdict = f"jump {service_chain(service, family)}"
        address = f"{listener.address} . {listener.protocol}"
        for name, port in _ports(listener):
            elements.setdefault(f"{name}{family.version}", {})[f"{address} . {port}"] = verdict
            if service.schedule.queued:
                asked = asked_maps(family)[name == "ranges"]
                elements.setdefault(asked, {})[f"{address} . {port}"] = f"goto {asked_chain(service)}"


def _ports(listener: Listener) -> Iterator[tuple[str, str]]:
    """Which map a listener's ports belong into, and as which keys."""
    for ports in listener.ports:
        if ports.last - ports.first < EXPANDED_PORTS:
            yield from (("listeners", str(port)) for port in range(ports.first, ports.last + 1))
        else:
            yield "ranges", str(ports)


def _needs(service: Service, elements: Elements) -> frozenset[str]:
    """What the base chains must provide for this service: sets in use, protocols, helpers."""
    needs = {*elements, *(f"{item.protocol}{item.address.version}" for item in service.listeners)}
    needs |= {f"helper/{service.helper}"} if service.helper else set()
    if service.persist:
        needs |= {f"sticky{item.address.version}" for item in service.listeners}
    return frozenset(needs)


def _entry(service: Service, among: tuple[Server, ...], choosing: tuple[Pool, ...], registry: Registry) -> ServiceEntry:
    tables = {pool.family.name: pool.table for pool in choosing}
    backends = (
        BackendEntry(
            server.name,
            server.number,
            server.weight,
            server.priority,
            tuple(server.endpoints),
            {family: table.count(server.name) / len(table) for family, table in tables.items() if server.name in table},
        )
        for server in among
    )
    return ServiceEntry(
        service.name,
        service.mode,
        service.schedule,
        tuple(_written(listener) for listener in service.listeners),
        tuple(backends),
        {pool.family.name: (registry.blocks[pool.name].offset, pool.size) for pool in choosing},
    )


def _written(listener: Listener) -> str:
    address = f"[{listener.address}]" if ":" in (text := str(listener.address)) else text
    return f"{address}:{','.join(map(str, listener.ports))}/{listener.protocol}"
