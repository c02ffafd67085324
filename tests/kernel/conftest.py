"""Labs for the tests: each test gets its own network and leaves nothing behind.

A test asks for `lab` and calls it with a configuration (a `Config` or TOML text). The topology is the
one drawn in `markway.lab.topology`. Wait for conditions with `support.eventually`, never for a time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from tests.kernel.support import read, unique_name

from markway.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.model import Config

_HERE = Path(__file__).parent


class LabFactory(Protocol):
    """Builds the lab of a configuration; the test's end removes it."""

    def __call__(self, config: Config | str, *, name: str | None = None) -> Lab:
        """`name` is made unique if it is not given; two tests may run at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="namespaces need root: sudo pytest tests/kernel")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            if os.geteuid() != 0:
                item.add_marker(skip)


@pytest.fixture
def lab() -> Iterator[LabFactory]:
    with ExitStack() as labs:

        def build(config: Config | str, *, name: str | None = None) -> Lab:
            made = Lab.up(read(config) if isinstance(config, str) else config, name or unique_name())
            return labs.enter_context(made)

        yield build
