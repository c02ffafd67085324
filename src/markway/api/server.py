"""The API's server, beside the director in one process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from markway.director.daemon import Director


@asynccontextmanager
async def beside(director: Director) -> AsyncIterator[None]:
    """Serve while the block lasts."""
    del director
    yield
