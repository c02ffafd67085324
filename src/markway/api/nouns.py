"""What can be read: `GET`. The same answers as the nouns of the command line with `--json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from markway.api.metrics import exposition
from markway.api.problems import unknown
from markway.api.view import drains, guards, marks, policies, services, shapes, status
from markway.config.reference import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markway.api.look import Look
    from markway.director.daemon import Director

router = APIRouter(tags=["nouns"])

Record = dict[str, Any]


@router.get("/status", summary="Everything that is in force, and how it fares")
async def get_status(request: Request) -> Record:
    """What `markway status --json` prints."""
    return status(await _look(request))


@router.get("/services", summary="Every service")
async def get_services(request: Request) -> list[Record]:
    """The services of the status."""
    return list(services(await _look(request)))


@router.get("/services/{service}", summary="One service")
async def get_service(request: Request, service: str) -> Record:
    """One service of the status."""
    known_service(request, service)
    for found in services(await _look(request)):
        if found["name"] == service:
            return found
    raise unknown("service", service, ())


@router.get("/services/{service}/backends/{backend}", summary="One backend")
async def get_backend(request: Request, service: str, backend: str) -> Record:
    """One backend of the status."""
    known_backend(request, service, backend)
    return await backend_record(request, service, backend)


@router.get("/shapes", summary="Every shape")
async def get_shapes(request: Request) -> list[Record]:
    """The shapes of the status."""
    return list(shapes(await _look(request)))


@router.get("/shapes/{shape}", summary="One shape")
async def get_shape(request: Request, shape: str) -> Record:
    """One shape of the status."""
    return _named("shape", shape, shapes(await _look(request)))


@router.get("/marks", summary="Every marking rule, and how many packets it marked")
async def get_marks(request: Request) -> list[Record]:
    """The marking rules of the status."""
    return list(marks(await _look(request)))


@router.get("/policies", summary="Every policy and other reason to drop, and how many packets it took")
async def get_policies(request: Request) -> list[Record]:
    """In the order in which they are tried."""
    return list(policies(await _look(request)))


@router.get("/guards", summary="Every guard, how many it keeps out, and what it counted")
async def get_guards(request: Request) -> list[Record]:
    """The guards of the status."""
    return list(guards(await _look(request)))


@router.get("/guards/{guard}", summary="One guard")
async def get_guard(request: Request, guard: str) -> Record:
    """One guard of the status."""
    return _named("guard", guard, guards(await _look(request)))


@router.get("/blocklists", summary="Every list, whether it is in force, and what it refused")
async def get_blocklists(request: Request) -> list[Record]:
    """What `markway blocklist status --json` prints."""
    return list((await _look(request)).blocklists)


@router.get("/blocklists/{blocklist}", summary="One list")
async def get_blocklist(request: Request, blocklist: str) -> Record:
    """One list of the status."""
    return _named("blocklist", blocklist, (await _look(request)).blocklists)


@router.get("/drains", summary="Backends that are emptied, and what is left of their connections")
async def get_drains(request: Request) -> dict[str, Record]:
    """How far each is, by `service/backend`; counted once a second."""
    director = director_of(request)
    return drains(director.farm.members, director.now)


@router.get("/events", summary="What happened, and what happens", response_model=None)
async def get_events(
    request: Request,
    follow: Annotated[bool, Query(description="Go on as a stream of server-sent events.")] = True,
    after: Annotated[str | None, Query(description="Only what came after the event with this id.")] = None,
    last: Annotated[int | None, Query(ge=1, description="Of those kept, only so many.")] = None,
    last_event_id: Annotated[str | None, Header(description="The same, as browsers say it.")] = None,
) -> StreamingResponse | list[Record]:
    """The last 1000 events, then each as it happens; with `follow=false` those that are kept, as a list."""
    stream = request.app.state.stream
    seen = last_event_id or after
    if not follow:
        kept = stream.kept(seen)
        return [{**noted.record, "id": stream.id(noted)} for noted in kept[-(last or len(kept)) :]]
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(stream.follow(seen), media_type="text/event-stream", headers=headers)


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def get_metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
    """The text format of Prometheus, or OpenMetrics if that is asked for."""
    body, kind = await exposition(director_of(request), await _look(request), accept)
    return Response(body, headers={"Content-Type": kind})


@router.get("/schema", summary="What a configuration file may say")
async def get_schema() -> Record:
    """The JSON Schema of the file, as `markway schema` prints it."""
    return json_schema()


def director_of(request: Request) -> Director:
    """The director that this application is of."""
    director: Director = request.app.state.director
    return director


async def _look(request: Request) -> Look:
    found: Look = await request.app.state.looking()
    return found


def _named(what: str, name: str, records: Iterable[Record]) -> Record:
    """The record of this name; UnknownError if there is none."""
    found = {one["name"]: one for one in records}
    if name not in found:
        raise unknown(what, name, found)
    return found[name]


def known_service(request: Request, service: str) -> None:
    """Raise UnknownError if there is no such service."""
    farm = director_of(request).farm
    if service not in farm.services:
        raise unknown("service", service, farm.services)


def known_backend(request: Request, service: str, backend: str) -> str:
    """The backend's name among all services; UnknownError if there is none."""
    known_service(request, service)
    farm = director_of(request).farm
    mine = [b.name for b in farm.services[service].backends]
    if backend not in mine:
        raise unknown(f"backend of {service}", backend, mine)
    return f"{service}/{backend}"


async def backend_record(request: Request, service: str, backend: str) -> Record:
    """One backend of the status."""
    for found in services(await _look(request)):
        for record in found["backends"] if found["name"] == service else ():
            if record["name"] == backend:
                return {"service": service, **record}
    raise unknown(f"backend of {service}", backend, ())
