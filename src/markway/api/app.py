"""The application: every noun and verb of the command line under /v1."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastapi import FastAPI

from markway import __version__
from markway.api import bans, entries, nouns, verbs
from markway.api.looking import Looking
from markway.api.problems import answer_in_words
from markway.api.stream import Stream

if TYPE_CHECKING:
    from markway.director.daemon import Director


def create_app(director: Director) -> FastAPI:
    """The application of a director; all of it runs on the director's event loop.

    Its `state.stream` must be ended before the server waits for its readers.
    """
    app = FastAPI(
        title="Markway",
        version=__version__,
        summary="What a traffic director does, and what it is to do.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these pages would be loaded from elsewhere
        redoc_url=None,
    )
    app.state.director = director
    app.state.looking = Looking(director)
    app.state.stream = Stream(director.events, int(time.time()))
    app.include_router(nouns.router, prefix="/v1")
    app.include_router(verbs.router, prefix="/v1")
    app.include_router(bans.router, prefix="/v1")
    app.include_router(entries.router, prefix="/v1")
    app.add_api_route("/metrics", nouns.get_metrics, include_in_schema=False)
    answer_in_words(app)
    return app
