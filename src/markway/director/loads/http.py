"""A load in a JSON document that the backend serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from markway.director.checks.http import authority, body, head, request
from markway.director.checks.link import connect
from markway.director.loads.value import number
from markway.director.model import LoadError

if TYPE_CHECKING:
    from markway.config.model import Load
    from markway.director.model import Target

_OK = 200


async def read(load: Load, target: Target) -> float:
    """Get the document and take the number at `load.field`; a key that is a number leads into a list too.

    LoadError if the answer is not 200, not JSON in its first 64 KiB, has no such field or no number there; Unwell
    if it is no HTTP; OSError of the connection.
    """
    port = load.port or target.port
    if port is None:
        raise LoadError("there is no port to ask")
    with await connect(target, port) as link:
        await link.send(request(load.target, authority(target.address, port)))
        answer = await head(link)
        if answer.status != _OK:
            raise LoadError(f"HTTP {answer.status}")
        document = await body(link, answer)
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise LoadError("the answer is no JSON") from error
    return number(field(parsed, load.field))


def field(document: object, keys: tuple[str, ...]) -> object:
    """What is at the end of the keys; LoadError, which names the way so far, if there is nothing."""
    here = document
    for depth, key in enumerate(keys):
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
            here = here[int(key)]
        else:
            raise LoadError(f"no field {'.'.join(keys[: depth + 1])} in the answer")
    return here
