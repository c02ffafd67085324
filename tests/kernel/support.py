"""What kernel tests share besides the `lab` fixture."""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.config.model import Config

_numbers = count(1)


def unique_name() -> str:
    """Another process's tests have another pid."""
    return f"t{os.getpid()}_{next(_numbers)}"


def read(text: str) -> Config:
    """The configuration in a TOML text."""
    from markway.config.load import Source, load  # noqa: PLC0415 - tests of a bare lab need no schema

    return load([Source("test.toml", text.encode())]).config


def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Return as soon as the condition holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.005)  # between two looks, not instead of one
