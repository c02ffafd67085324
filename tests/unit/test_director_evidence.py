"""Signs of dead backends reach whoever watches: each mark once a time, without the bits of others."""

from __future__ import annotations

import asyncio
import os

import pytest

from markway.director import evidence
from markway.director.evidence import Evidence

FOREIGN = 0xA500_0000


class FakeLog:
    """In place of the kernel's messages: a pipe, to be readable, and the marks that are to come."""

    lost = 0

    def __init__(self, group: int) -> None:
        self.group = group
        self.reader, self.writer = os.pipe()
        self.waiting: list[int] = []
        self.closed = False

    def logged(self, *marks: int) -> None:
        os.write(self.writer, b".")
        self.waiting += marks

    def fileno(self) -> int:
        return self.reader

    def marks(self) -> list[int]:
        os.read(self.reader, 64)
        marks, self.waiting = self.waiting, []
        return marks

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)
        self.closed = True


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[FakeLog]:
    made: list[FakeLog] = []

    def listen(group: int) -> FakeLog:
        made.append(FakeLog(group))
        return made[-1]

    monkeypatch.setattr(evidence, "Log", listen)
    return made


async def heard(told: asyncio.Queue[int], count: int) -> list[int]:
    async with asyncio.timeout(5):
        return [await told.get() for _ in range(count)]


def test_each_mark_is_told_of_once_and_without_the_bits_of_others(log: list[FakeLog]) -> None:
    async def watch() -> None:
        told: asyncio.Queue[int] = asyncio.Queue()
        with Evidence(0xFF) as signs:
            signs.watch(told.put_nowait)
            log[0].logged(0x11, FOREIGN | 0x22, 0x11, FOREIGN, 0)
            assert await heard(told, 2) == [0x11, 0x22]
            log[0].logged(FOREIGN | 0x11)
            assert await heard(told, 1) == [0x11]
            assert told.empty()

    asyncio.run(watch())


def test_the_field_may_grow(log: list[FakeLog]) -> None:
    async def watch() -> None:
        told: asyncio.Queue[int] = asyncio.Queue()
        with Evidence(0xFF) as signs:
            signs.watch(told.put_nowait)
            log[0].logged(0x111)
            assert await heard(told, 1) == [0x11]
            signs.mask = 0x1FF
            log[0].logged(0x111)
            assert await heard(told, 1) == [0x111]

    asyncio.run(watch())


def test_it_may_be_closed_after_its_loop(log: list[FakeLog]) -> None:
    with Evidence(0xFF) as signs:

        async def watch() -> None:
            signs.watch(print)

        asyncio.run(watch())
    assert log[0].closed
