"""A service becomes a chain that reads like a sentence: limits, persistence, choice, refusal."""

from __future__ import annotations

from ipaddress import IPv4Address, collapse_addresses
from typing import TYPE_CHECKING

from markway.balance.slots import exact_size, hash_size, interleave, maglev
from markway.compiler.names import (
    CONNTRACK,
    FAMILIES,
    UP,
    Family,
    hexed,
    pool_name,
    refusal_chain,
    service_chain,
)
from markway.config.model import Mode, Schedule
from markway.program.model import BackendEntry, Fragment, ServiceEntry
from markway.program.nft import (
    And,
    Assign,
    Chain,
    Concat,
    Jhash,
    Mapped,
    Match,
    Numgen,
    Rule,
    Set,
    Term,
    Update,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.config.model import Address, Endpoint, Listener, Network, Service
    from markway.marks import Field, Registry

HASH_SEED = 0x6D77
"""Fixed, so that two directors with one file choose alike."""

EXPANDED_PORTS = 64
"""Ranges up to this many ports become single keys of the exact map, which is faster to look up."""

SOURCES = 65536
"""Sources remembered by a rate limit; those beyond are not limited until others are forgotten."""

SECONDS = {"second": 1, "minute": 60, "hour": 3600}

SORRY = "sorry"


def mark_names(service: Service) -> tuple[str, ...]:
    """Names that need a number: each backend, the fallback server, and the service if it persists."""
    names = [f"{service.name}/{backend.name}" for backend in service.backends]
    names += [f"{service.name}//{SORRY}"] if service.sorry else []
    names += [service.name] if service.persist else []
    return tuple(names)


def table_sizes(service: Service, registry: Registry) -> dict[str, int]:
    """Slots that each of the service's tables needs, by pool."""
    sizes = {}
    for family in _families(service):
        pool = pool_name(service, family)
        if service.schedule.hashed:
            block = registry.blocks.get(pool)
            among = [backend for backend in service.backends if _endpoint(backend.endpoints, family)]
            sizes[pool] = hash_size(len(among), block and block.size)
        else:
            sizes[pool] = exact_size(_candidates(service, family))
    return sizes


def service_fragment(service: Service, registry: Registry, marks: Field) -> Fragment:
    """All that one service asks of the table."""
    numbers = registry.numbers
    placed = {b.name: marks.place(numbers[f"{service.name}/{b.name}"]) for b in service.backends}
    if service.sorry:
        placed[SORRY] = marks.place(numbers[f"{service.name}//{SORRY}"])
    tag = marks.place(numbers[service.name]) if service.persist else 0
    chains: dict[str, Chain] = {}
    elements: dict[str, dict[str, str]] = {}
    tables: dict[str, tuple[int, int]] = {}
    shares: dict[str, dict[str, float]] = {}
    sizes = table_sizes(service, registry)
    for family in _families(service):
        pool = pool_name(service, family)
        offset, size = registry.blocks[pool].offset, sizes[pool]
        table = _table(service, family, size)
        tables[family.name] = (offset, size)
        shares[family.name] = {name: table.count(name) / size for name in set(table)}
        slots = elements.setdefault("slots", {})
        slots |= {hexed(offset + slot): hexed(placed[name]) for slot, name in enumerate(table)}
        chain = _chain(service, family, offset, size, tag)
        chains[chain.name] = chain
        _live(elements, service, table, placed)
    if limits := _limits(service):
        chains[limits.name] = limits
    _listeners(elements, service)
    _targets(elements, service, placed)
    return Fragment(
        owner=service.name,
        chains=chains,
        sets={item.name: item for item in _rate_sets(service)},
        elements=elements,
        entry=_entry(service, placed, shares, tables),
        needs=_needs(service, elements),
    )


def _families(service: Service) -> tuple[Family, ...]:
    versions = {listener.address.version for listener in service.listeners}
    return tuple(family for family in FAMILIES if family.version in versions)


def _endpoint(endpoints: tuple[Endpoint, ...], family: Family) -> Endpoint | None:
    return next((e for e in endpoints if e.address.version == family.version), None)


def _candidates(service: Service, family: Family) -> dict[str, int]:
    """Weights of the best priority that has a backend left; of the fallback server if none has."""
    able = [b for b in service.backends if b.weight and _endpoint(b.endpoints, family)]
    best = min((backend.priority for backend in able), default=0)
    weights = {backend.name: backend.weight for backend in able if backend.priority == best}
    if not weights and _endpoint(service.sorry, family):
        return {SORRY: 1}
    return weights


def _table(service: Service, family: Family, size: int) -> tuple[str, ...]:
    weights = _candidates(service, family)
    return maglev(weights, size) if service.schedule.hashed else interleave(weights, size)


def _chain(service: Service, family: Family, offset: int, size: int, tag: int) -> Chain:
    """The sentence. `tag` keeps the persistence of services apart in one shared map."""
    capped = any(backend.max_connections for backend in service.backends)
    draw = Assign(CONNTRACK, _draw(service.schedule, family, offset, size))
    refuse = Written(f"goto {refusal_chain(service.fallback)}")
    leave = Written("return")
    rules: list[Rule] = []
    if service.helper:
        rules.append((Written(f'ct helper set "{service.helper}"'),))
    if _limits(service):
        rules.append((Written(f"jump service/{service.name}/limits"),))
    if not _candidates(service, family):
        rules.append((refuse,))
    elif not service.persist and not capped:
        rules.append((draw, Written("goto slot")))
    elif not service.persist:
        rules += [(draw, Written("jump slot")), (Written("jump capped"),), (UP, leave), (refuse,)]
    else:
        source = _source(family, family.choose(service.persist.prefix4, service.persist.prefix6))
        sticky = f"sticky{family.version}"
        key = Concat((Term(hexed(tag)), source))
        timeout = f"{service.persist.timeout}s"
        rules += [
            (Assign(CONNTRACK, Term(hexed(tag))),),
            (Assign(CONNTRACK, Mapped(Concat((CONNTRACK, source)), sticky)),),
            (Match(CONNTRACK, "!=", Term("@up")), draw, Written("jump slot")),
            *([(Written("jump capped"),)] if capped else []),
            (UP, Update("update", sticky, key, timeout=timeout, data=CONNTRACK), leave),
            (UP, leave),
            (refuse,),
        ]
    return Chain(service_chain(service, family), tuple(rules))


def _draw(schedule: Schedule, family: Family, offset: int, size: int) -> Numgen | Jhash:
    if schedule is Schedule.RANDOM:
        return Numgen("random", size, offset)
    if schedule is Schedule.ROUND_ROBIN:
        return Numgen("inc", size, offset)
    source = Term(f"{family.name} saddr")
    if schedule is Schedule.SOURCE_HASH:
        return Jhash(source, size, HASH_SEED, offset)
    flow = Concat((source, Term(f"{family.name} daddr"), Term("th sport"), Term("th dport")))
    return Jhash(flow, size, HASH_SEED, offset)


def _source(family: Family, prefix: int) -> Term | And:
    """The client's address, or its network of this prefix length."""
    source = Term(f"{family.name} saddr")
    if prefix == family.bits:
        return source
    return And(source, Term(family.netmask(prefix)))


def _limits(service: Service) -> Chain | None:
    """A chain that ends in the refusal for a connection that the service will not have."""
    refuse = Written(f"goto {refusal_chain(service.refuse)}")
    rules: list[Rule] = []
    for family in _families(service):
        source = Term(f"{family.name} saddr")
        denied, allowed = _networks(service.deny, family), _networks(service.allow, family)
        if denied:
            rules.append((Match(source, "", Term(denied)), refuse))
        if allowed:
            rules.append((Match(source, "!=", Term(allowed)), refuse))
        elif service.allow:
            rules.append((Match(Term("meta nfproto"), "", Term(family.nfproto)), refuse))
    for item, family in zip(_rate_sets(service), _families(service), strict=False):
        rate = service.source_rate
        assert rate is not None  # noqa: S101  (a set is there only for a rate)
        over = f"limit rate over {rate.count}/{rate.unit} burst {rate.burst} packets"
        key = _source(family, family.choose(32, 64))
        rules.append((Update("update", item.name, key, over=over), refuse))
    if service.max_connections is not None:
        rules.append((Written(f"ct count over {service.max_connections}"), refuse))
    return Chain(f"service/{service.name}/limits", tuple(rules)) if rules else None


def _networks(networks: tuple[Network, ...], family: Family) -> str:
    """An anonymous set of networks, without the overlaps that nft refuses; empty if none is of the family."""
    mine = [network for network in networks if network.version == family.version]
    merged = collapse_addresses(mine)  # type: ignore[type-var]
    text = ", ".join(str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in merged)
    return f"{{ {text} }}" if text else ""


def _rate_sets(service: Service) -> Iterator[Set]:
    """A set each for the families; its name holds the rate, since elements keep the limit they began with."""
    rate = service.source_rate
    if rate is None:
        return
    for family in _families(service):
        name = f"rate{family.version}/{service.name}/{rate.count}-{rate.unit}-{rate.burst}"
        refilled = -(-rate.burst * SECONDS[rate.unit] // rate.count)
        yield Set(
            name,
            (family.kind,),
            flags=("dynamic", "timeout"),
            timeout=f"{max(60, refilled)}s",
            size=SOURCES,
            dynamic=True,
        )


def _live(
    elements: dict[str, dict[str, str]],
    service: Service,
    table: tuple[str, ...],
    placed: Mapping[str, int],
) -> None:
    """Marks that may be given now, and what keeps full backends out."""
    names = sorted(set(table))
    caps = {b.name: b.max_connections for b in service.backends if b.max_connections}
    if service.persist or caps:
        elements.setdefault("up", {}).update((hexed(placed[name]), "") for name in names)
    if not caps:
        return
    ring = zip(names, names[1:] + names[:1], strict=True)
    elements.setdefault("next", {}).update((hexed(placed[a]), hexed(placed[b])) for a, b in ring)
    elements.setdefault("capped", {}).update(
        (hexed(placed[name]), f"ct count over {cap}") for name, cap in caps.items()
    )


def _listeners(elements: dict[str, dict[str, str]], service: Service) -> None:
    for listener in service.listeners:
        family = next(f for f in FAMILIES if f.version == listener.address.version)
        verdict = f"jump {service_chain(service, family)}"
        for name, port in _ports(listener):
            key = f"{listener.address} . {listener.protocol} . {port}"
            elements.setdefault(f"{name}{family.version}", {})[key] = verdict


def _ports(listener: Listener) -> Iterator[tuple[str, str]]:
    """Which map a listener's ports belong into, and as which keys."""
    for ports in listener.ports:
        if ports.last - ports.first < EXPANDED_PORTS:
            yield from (("listeners", str(port)) for port in range(ports.first, ports.last + 1))
        else:
            yield "ranges", str(ports)


def _targets(elements: dict[str, dict[str, str]], service: Service, placed: Mapping[str, int]) -> None:
    """Where each mark is translated to, and from which address if the client is masked."""
    servers = [(backend.name, backend.endpoints) for backend in service.backends]
    servers += [(SORRY, service.sorry)] if service.sorry else []
    for name, endpoints in servers:
        mark = hexed(placed[name])
        elements.setdefault("traffic", {})[mark] = ""
        for family in _families(service):
            endpoint = _endpoint(endpoints, family)
            if endpoint is None:
                continue
            version = family.version
            if endpoint.port is None:
                elements.setdefault(f"hosts{version}", {})[mark] = str(endpoint.address)
            else:
                elements.setdefault(f"backends{version}", {})[mark] = f"{endpoint.address} . {endpoint.port}"
            if service.mode is Mode.DNAT:
                elements.setdefault(f"hairpin{version}", {})[str(endpoint.address)] = ""
                continue
            source = next((a for a in service.source if a.version == version), None)
            if source:
                elements.setdefault(f"sources{version}", {})[mark] = str(source)
            else:
                elements.setdefault("masked", {})[mark] = ""


def _needs(service: Service, elements: Mapping[str, Mapping[str, str]]) -> frozenset[str]:
    """What the base chains must provide for this service: sets in use, protocols, helpers."""
    needs = {*elements, *(f"{item.protocol}{item.address.version}" for item in service.listeners)}
    needs |= {f"helper/{service.helper}"} if service.helper else set()
    needs |= {f"sticky{family.version}" for family in _families(service)} if service.persist else set()
    return frozenset(needs)


def _entry(
    service: Service,
    placed: Mapping[str, int],
    shares: Mapping[str, Mapping[str, float]],
    tables: Mapping[str, tuple[int, int]],
) -> ServiceEntry:
    def entry(name: str, weight: int, priority: int, endpoints: tuple[Endpoint, ...]) -> BackendEntry:
        given = {family: share[name] for family, share in shares.items() if name in share}
        return BackendEntry(name, placed[name], weight, priority, tuple(map(_written, endpoints)), given)

    backends = [entry(b.name, b.weight, b.priority, b.endpoints) for b in service.backends]
    backends += [entry(SORRY, 0, 0, service.sorry)] if service.sorry else []
    return ServiceEntry(
        service.name,
        service.mode,
        service.schedule,
        tuple(_listener(listener) for listener in service.listeners),
        tuple(backends),
        tables,
    )


def _written(endpoint: Endpoint) -> str:
    return f"{_bracketed(endpoint.address)}:{endpoint.port}" if endpoint.port else str(endpoint.address)


def _listener(listener: Listener) -> str:
    return f"{_bracketed(listener.address)}:{','.join(map(str, listener.ports))}/{listener.protocol}"


def _bracketed(address: Address) -> str:
    return str(address) if isinstance(address, IPv4Address) else f"[{address}]"
