"""What can be done: `POST` and `PUT`. The same as the verbs of the command line."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from markway.api.nouns import Record, backend_record, director_of, known_backend
from markway.api.plans import applied, planned, todo
from markway.api.view import brief
from markway.apply.confirm import confirmed, otherwise, roll_back
from markway.apply.transaction import changes_to, compiled_for, present
from markway.balance.state import Hold
from markway.config.load import Loaded, Source, load
from markway.config.units import parse_timeout
from markway.kernel.conntrack import connections_by_mark
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from markway.apply.store import Store
    from markway.balance.state import BackendState

router = APIRouter(tags=["verbs"])

_LOCK = 30.0
"""Seconds to wait for a command that holds the lock."""

Seconds = Annotated[float | str, Field(description="Seconds, or a text such as 90s or 5m.", examples=["5m", 300])]


class Drain(BaseModel):
    """How a backend is to be emptied."""

    model_config = ConfigDict(extra="forbid")
    deadline: Seconds | None = Field(default=None, description="When it ends at the latest. Default: never.")
    cut: bool = Field(default=False, description="Whether connections left at the deadline are cut.")


class Held(Drain):
    """What is wanted of several backends at once."""

    backends: list[str] = Field(description="Each as SERVICE/BACKEND.", min_length=1, examples=[["web/a", "web/b"]])
    hold: Hold = Field(description="`drain`, `disable`, or `none` to enable them.")


class Disable(BaseModel):
    """How a backend is to be taken out."""

    model_config = ConfigDict(extra="forbid")
    cut: bool = Field(default=False, description="Whether its connections are cut.")


class Weight(BaseModel):
    """What a backend is worth."""

    model_config = ConfigDict(extra="forbid")
    weight: int | None = Field(ge=0, le=65535, description="The weight; null for the file's again.", examples=[5])


class File(BaseModel):
    """One file of a configuration."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(default="markway.toml", description="The name that problems are reported with.")
    text: str = Field(description="What it says: TOML.")


_PLACE = "/services/{service}/backends/{backend}"
_CONFIG = {
    "requestBody": {
        "required": True,
        "description": "One file's text, or a list of files.",
        "content": {
            "application/toml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": File.model_json_schema()}},
        },
    }
}


@router.post(f"{_PLACE}/drain", summary="Give a backend no new connections, until its last has ended")
async def drain(request: Request, service: str, backend: str, how: Drain | None = None) -> Record:
    """Returns at once; follow it at /v1/drains or by its events `drain` and `drained`."""
    how = how or Drain()
    deadline = None if how.deadline is None else seconds_of(how.deadline)
    return await _held(request, service, backend, Hold.DRAIN, deadline=deadline, cut=how.cut)


@router.post(f"{_PLACE}/enable", summary="Let a backend take new connections again")
async def enable(request: Request, service: str, backend: str) -> Record:
    """It takes them as soon as its checks allow."""
    return await _held(request, service, backend, Hold.NONE)


@router.post(f"{_PLACE}/disable", summary="Take a backend out")
async def disable(request: Request, service: str, backend: str, how: Disable | None = None) -> Record:
    """It gets no new connections until it is enabled."""
    return await _held(request, service, backend, Hold.DISABLE, cut=how is not None and how.cut)


@router.put(f"{_PLACE}/weight", summary="Give a backend another weight than the file's")
async def weigh(request: Request, service: str, backend: str, worth: Weight) -> Record:
    """It stays until it is taken back, over restarts and changes of the file too."""
    name = known_backend(request, service, backend)
    await director_of(request).weigh(name, worth.weight)
    return await _done(request, service, backend)


@router.post("/hold", summary="Drain, disable or enable several backends")
async def hold(request: Request, what: Held) -> list[Record]:
    """All of them, or none if one is unknown. `in_force` is False while the kernel has not taken it yet."""
    director = director_of(request)
    deadline = None if what.deadline is None else seconds_of(what.deadline)
    await director.hold(what.backends, what.hold, deadline=deadline, cut=what.cut)
    farm = director.farm
    members = (farm.members[name] for name in dict.fromkeys(what.backends))
    return [{**brief(member, director.now), "in_force": member.service not in farm.dirty} for member in members]


@router.post("/apply", summary="Bring a configuration into force", openapi_extra=_CONFIG)
async def apply(
    request: Request,
    dry_run: Annotated[bool, Query(description="Only say what it would change, as /v1/plan does.")] = False,
    confirm: Annotated[str | None, Query(description="Undo it after this time unless confirmed.")] = None,
) -> Record:
    """All of it or nothing. Established connections keep their backend."""
    if dry_run:
        return await plan(request)
    loaded = await _loaded(request)
    seconds = None if confirm is None else seconds_of(confirm)
    begun = time.perf_counter()
    director = director_of(request)
    changes = await director.apply(loaded, "apply by the API", seconds)
    warnings = [problem.as_dict() for problem in loaded.warnings]
    awaited = confirm if director.store.pending() else None
    return {**applied(changes, time.perf_counter() - begun, awaited), "warnings": warnings}


@router.post("/plan", summary="Say what a configuration would change", openapi_extra=_CONFIG)
async def plan(request: Request) -> Record:
    """In the kernel's own language, and whom it touches. Changes nothing."""
    loaded, director = await _loaded(request), director_of(request)
    states = director.farm.expected(loaded.config)
    return await asyncio.to_thread(_plan, director.store, loaded, states)


@router.post("/check", summary="Say what is wrong with a configuration", openapi_extra=_CONFIG)
async def check(request: Request) -> Record:
    """An answer of 422 has every problem at once."""
    loaded = await _loaded(request)
    return {"services": len(loaded.config.services), "warnings": [problem.as_dict() for problem in loaded.warnings]}


@router.post("/confirm", summary="Keep what was applied with confirm")
async def confirm(request: Request) -> Record:
    """In time."""
    store = director_of(request).store
    return {"confirmed": await director_of(request).in_kernel(_confirm, store)}


@router.post("/rollback", summary="Go back to the configuration before the present one")
async def rollback(request: Request) -> Record:
    """Twice in a row returns to where you were."""
    director = director_of(request)
    done = await director.in_kernel(_roll_back, director.store)
    await director.adopt()
    return done


@router.post("/adopt", summary="Take over what another command has brought into force")
async def adopt(request: Request) -> Record:
    """The daemon finds it within a second anyway."""
    return {"adopted": await director_of(request).adopt()}


async def _held(request: Request, service: str, backend: str, hold: Hold, **how: Any) -> Record:
    name = known_backend(request, service, backend)
    await director_of(request).hold([name], hold, **how)
    return await _done(request, service, backend)


async def _done(request: Request, service: str, backend: str) -> Record:
    """The backend as it is now, and whether the kernel has it so already."""
    dirty = director_of(request).farm.dirty
    return {**await backend_record(request, service, backend), "in_force": service not in dirty}


async def _loaded(request: Request) -> Loaded:
    """The configuration in a request's body."""
    body = await request.body()
    if request.headers.get("content-type", "").partition(";")[0] == "application/json":
        sources = [Source(file.name, file.text.encode()) for file in _files(body)]
    else:
        sources = [Source("markway.toml", body)]
    return await asyncio.to_thread(load, sources)


def _files(body: bytes) -> list[File]:
    try:
        return TypeAdapter(list[File]).validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**found, "loc": ("body", *found["loc"])} for found in error.errors()]) from error


def seconds_of(given: float | str) -> float:
    """A time in a request; WrongValue if it is none."""
    if isinstance(given, str):
        return float(parse_timeout(given))
    return max(given, 0.0)


def _plan(store: Store, loaded: Loaded, states: dict[str, BackendState]) -> Record:
    with Netlink() as netlink:
        compiled = compiled_for(store, loaded.config, states, loaded.sources)
        now = present(store, netlink)
        flows = connections_by_mark(netlink, compiled.registry.backend_field(loaded.config.mask).mask)
        changes = changes_to(now, compiled.program)
        differs = otherwise(store, now, changes, loaded.config)
        return planned(now, changes, todo(store, now, changes), flows, otherwise=differs)


def _confirm(store: Store) -> str:
    with store.locked(_LOCK):
        return confirmed(store).program


def _roll_back(store: Store) -> Record:
    with store.locked(_LOCK), Netlink() as netlink:
        now = present(store, netlink)
        changes = roll_back(store, netlink, now, "rollback by the API")
        store.set_pending(None)
    return {"from": now.marker, "program": changes.new.id}
