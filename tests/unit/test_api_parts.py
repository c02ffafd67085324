"""The token's file, the stream of events, and the words of the status, without a network."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st

from markway.api.access import Guarded, Token
from markway.api.stream import Stream
from markway.cli.backends import load, weight
from markway.director.events import KEPT, Event, Events


def test_a_token_counts_as_its_file_says_it_now(tmp_path):
    file = tmp_path / "token"
    token = Token(str(file))
    assert not token.fits(b"")
    file.write_text("one\n", encoding="ascii")
    assert token.fits(b"one")
    assert not token.fits(b"one\n")
    file.write_text("another", encoding="ascii")
    assert not token.fits(b"one")
    assert token.fits(b"another")
    file.write_text(" \n", encoding="ascii")
    assert not token.fits(b"")


@given(header=st.binary(max_size=40))
def test_nothing_but_the_token_passes(tmp_path_factory, header):
    file = tmp_path_factory.mktemp("t") / "token"
    file.write_text("secret", encoding="ascii")
    sent, reached = [], []

    async def app(*arguments):
        reached.append(arguments)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": [(b"authorization", header)]}
    asyncio.run(Guarded(app, Token(str(file)))(scope, None, send))  # type: ignore[arg-type]
    right = header.partition(b" ")[0].lower() == b"bearer" and header.partition(b" ")[2].strip() == b"secret"
    assert bool(reached) is right
    assert right or sent[0]["status"] == 401


def noted(count):
    events = Events(lambda: 5.0, lambda _: None)
    for number in range(count):
        events.note(Event("up", str(number)))
    return events


def test_a_reader_goes_on_where_it_stopped_and_only_in_the_same_life():
    stream = Stream(noted(5), life=100)
    assert [n.number for n in stream.kept("100-3")] == [4, 5]
    assert [n.number for n in stream.kept("3")] == [4, 5]
    for other in (None, "", "99-3", "100-", "x", "100-3-3"):
        assert [n.number for n in stream.kept(other)] == [1, 2, 3, 4, 5]
    assert [n.number for n in Stream(noted(KEPT + 10), 1).kept("1-2")][0] == 11  # noqa: RUF015


def test_events_come_once_each_and_in_order_also_those_noted_meanwhile():
    async def read():
        events = noted(3)
        stream, found = Stream(events, 1), []
        async for text in stream.follow("1-1"):
            if text.startswith("id"):
                found.append(json.loads(text.partition("data: ")[2])["number"])
            if text.startswith(": here"):
                events.note(Event("down", "x"))
            elif found[-1] in {2, 3}:
                events.note(Event("down", "while it reads"))
            elif found[-1] == 6:
                stream.end()
        return found

    assert asyncio.run(read()) == [2, 3, 4, 5, 6]


def test_weights_and_loads_are_short():
    assert weight({"effective": 3.0, "weight": 3}) == "3"
    assert weight({"effective": 1.5, "weight": 3}) == "1.5/3"
    assert weight({"effective": 0.0, "weight": 65535}) == "0/65535"
    assert load({"reading": None, "factor": 1.0}) == "?"
    assert load({"reading": 87.123, "factor": 0.6}) == "87.1 → 60%"
    assert load({"reading": 0.5, "factor": 0.999}) == "0.5"
