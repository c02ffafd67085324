"""Changes of lists by hand. The same as `markway blocklist add` and `remove`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from markway.api.nouns import Record, director_of
from markway.guard.overlays import entries_of

router = APIRouter(tags=["verbs"])


class Entries(BaseModel):
    """Addresses, prefixes and ranges."""

    model_config = ConfigDict(extra="forbid")
    add: list[str] = Field(default=[], description="Refused from now on.", examples=[["198.51.100.7"]])
    remove: list[str] = Field(default=[], description="No longer refused by this list.", examples=[["192.0.2.0/24"]])


@router.post("/blocklists/{blocklist}/entries", summary="Add to a list by hand, or take out of it")
async def edit(request: Request, blocklist: str, what: Entries) -> Record:
    """At once, and over all that its source says later. The answer has all such changes of the list."""
    added, removed = entries_of(what.add), entries_of(what.remove)
    return (await director_of(request).lists.edit(blocklist, added, removed)).record
