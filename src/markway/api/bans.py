"""Whom guards keep out: read, made and ended. The same as `markway bans`, `ban` and `unban`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from markway.api.nouns import Record, director_of
from markway.api.problems import UnknownError, unknown
from markway.api.verbs import Seconds, seconds_of
from markway.api.view import ban as viewed
from markway.apply.banning import Desk
from markway.kernel.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Callable

router = APIRouter()

T = TypeVar("T")


class Ban(BaseModel):
    """Whom to keep out, and for how long."""

    model_config = ConfigDict(extra="forbid")
    address: str = Field(description="An address, or a network that is one source of the guard.")
    length: Seconds | None = Field(default=None, alias="for", description="Default: as the guard bans.")


@router.get("/bans", summary="Whom guards keep out, and for how long", tags=["nouns"])
async def get_bans(
    request: Request, guard: Annotated[str | None, Query(description="Only this one's.")] = None
) -> list[Record]:
    """What `markway bans --json` prints."""
    return await _at_desk(request, guard, lambda desk: [viewed(one, time.time()) for one in desk.everybody()])


@router.get("/guards/{guard}/bans", summary="Whom one guard keeps out, and for how long", tags=["nouns"])
async def get_guards_bans(request: Request, guard: str) -> list[Record]:
    """The bans of this guard."""
    return await get_bans(request, guard)


@router.post("/guards/{guard}/bans", summary="Keep a source out", tags=["verbs"])
async def ban(request: Request, guard: str, what: Ban) -> Record:
    """A ban until the source is quiet begins anew with each attempt."""
    length = 0.0 if what.length is None else seconds_of(what.length)
    return await _at_desk(
        request, guard, lambda desk: viewed(desk.ban(desk.guard(guard), what.address, length), time.time())
    )


@router.delete("/guards/{guard}/bans/{address:path}", summary="Let a source in again", tags=["verbs"])
async def unban(request: Request, guard: str, address: str) -> Record:
    """What it did before is forgotten with the ban."""
    if not await _at_desk(request, guard, lambda desk: desk.free(desk.guard(guard), address)):
        raise UnknownError(f"{address} is not banned")
    return {"guard": guard, "source": address}


async def _at_desk(request: Request, name: str | None, work: Callable[[Desk], T]) -> T:
    """Do this in another thread with the guards in force, or with the one of this name."""
    director = director_of(request)
    config = director.farm.config
    guards = {guard.name: guard for guard in config.guards} if config else {}
    if name is not None and name not in guards:
        raise unknown("guard", name, guards)

    def done() -> T:
        with Netlink() as netlink:
            return work(Desk(director.store, netlink, guards if name is None else {name: guards[name]}))

    return await asyncio.to_thread(done)
