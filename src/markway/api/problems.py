"""What went wrong, as an answer: the right status, and one sentence in plain words."""

from __future__ import annotations

from difflib import get_close_matches
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from markway.apply.confirm import AwaitedError, NothingAwaitedError, NothingToUndoError
from markway.apply.folder import BusyError, StoreError
from markway.apply.transaction import ApplyError
from markway.config.problems import ConfigError, WrongValue
from markway.director.blocklists import NoSuchListError, NotNowError
from markway.director.farm import NoSuchBackendError
from markway.kernel.netlink import NetlinkError
from markway.kernel.nft import NftError, NftMissingError
from markway.marks import MarksError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI
    from starlette.requests import Request


class UnknownError(LookupError):
    """There is nothing of this name; the text says so."""


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownError:
    """The error for a name that nobody has, with the likeliest that somebody has."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f', did you mean "{close[0]}"?' if close else ""
    return UnknownError(f'there is no {what} "{name}"{hint}')


_CONFLICT = (BusyError, AwaitedError, NothingAwaitedError, NothingToUndoError)
_STATUS: dict[type[Exception], HTTPStatus] = {
    UnknownError: HTTPStatus.NOT_FOUND,
    **dict.fromkeys(_CONFLICT, HTTPStatus.CONFLICT),
    WrongValue: HTTPStatus.UNPROCESSABLE_ENTITY,
    MarksError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NoSuchListError: HTTPStatus.NOT_FOUND,
    NotNowError: HTTPStatus.SERVICE_UNAVAILABLE,
    ApplyError: HTTPStatus.INTERNAL_SERVER_ERROR,
    StoreError: HTTPStatus.INTERNAL_SERVER_ERROR,
    NftError: HTTPStatus.INTERNAL_SERVER_ERROR,
    NftMissingError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def answer_in_words(app: FastAPI) -> None:
    """Let an application answer every error with `{"error": …}`."""
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _say(status))
    app.add_exception_handler(NoSuchBackendError, _no_such_backend)
    app.add_exception_handler(ConfigError, _config)
    app.add_exception_handler(NetlinkError, _netlink)
    app.add_exception_handler(RequestValidationError, _request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _say(HTTPStatus.INTERNAL_SERVER_ERROR))


def wrong(status: int, message: str, **more: Any) -> JSONResponse:
    """An answer that says what is wrong."""
    return JSONResponse({"error": message, **more}, status)


def _say(status: HTTPStatus) -> Any:
    async def answer(_: Request, error: Exception) -> JSONResponse:
        hint = getattr(error, "suggestion", None)
        return wrong(status, f"{error} ({hint})" if hint else str(error))

    return answer


async def _no_such_backend(request: Request, error: Exception) -> JSONResponse:
    members = request.app.state.director.farm.members
    return wrong(HTTPStatus.NOT_FOUND, str(unknown("backend", str(error), members)))


async def _config(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ConfigError)  # noqa: S101  (it is registered for this)
    count = len(error.problems)
    problems = [problem.as_dict() for problem in error.problems]
    message = f"{count} problem{'s' if count > 1 else ''}; nothing was changed"
    return wrong(HTTPStatus.UNPROCESSABLE_ENTITY, message, problems=problems)


async def _netlink(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NetlinkError)  # noqa: S101  (it is registered for this)
    return wrong(HTTPStatus.INTERNAL_SERVER_ERROR, f"the kernel refused: {error.strerror}")


async def _request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (it is registered for this)
    said = []
    for found in error.errors():
        where = ".".join(str(part) for part in found["loc"][1:])
        message = "there is no such field" if found["type"] == "extra_forbidden" else found["msg"]
        said.append(f"{where}: {message}" if where else message)
    return wrong(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(said))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (it is registered for this)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return wrong(
            error.status_code, f"there is nothing at {request.url.path}; GET /v1/openapi.json says what there is"
        )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return wrong(error.status_code, f"{request.method} is not for {request.url.path}")
    return wrong(error.status_code, str(error.detail))
