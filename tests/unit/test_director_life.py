"""What becomes of the daemon when a part of it fails, and of a backend when this machine cannot ask it."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.test_farm_changes import WELL, A, B, farm

from markway.api.access import LARGEST_BODY, Guarded, Token
from markway.apply.folder import StoreError
from markway.apply.store import Store
from markway.balance.state import BackendState
from markway.config.load import Source, load
from markway.director.farm import Farm
from markway.director.life import Life
from markway.director.model import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

FULL = Outcome(well=False, took=0.0, reason="too many open files", ours=True)


def test_a_part_that_fails_ends_the_daemon_and_one_that_returns_or_is_cancelled_does_not():
    async def live() -> tuple[list[str], Life]:
        told: list[str] = []
        life = Life(lambda error: told.append(str(error)))

        async def part(why: str) -> None:
            await asyncio.sleep(0)
            if why:
                raise ValueError(why)

        await asyncio.gather(life.keep_up(part("")), return_exceptions=True)
        assert not life.over.is_set()
        waiting = life.keep_up(asyncio.Event().wait())  # type: ignore[arg-type]
        life.keep_up(part("broken"))
        await life.over.wait()
        assert await life.end()
        assert waiting.cancelled()
        return told, life

    told, life = asyncio.run(live())
    assert told == ["broken"]
    assert repr(life.failure) == "ValueError('broken')"


def test_a_call_that_fails_in_a_timer_ends_it_too():
    async def live() -> BaseException | None:
        life = Life(lambda _: None)

        def call(name: str) -> None:
            raise KeyError(name)

        asyncio.get_running_loop().call_soon(life.lasting(call), "web/a")
        await life.over.wait()
        return life.failure

    assert repr(asyncio.run(live())) == "KeyError('web/a')"


def test_what_this_machine_cannot_ask_says_nothing_of_a_backend():
    it = farm(A, B)
    for _ in range(10):
        events = list(it.checked("web/a", FULL, 1.0))
        assert it.members["web/a"].status == "up"
    assert not events, "it is told of once"
    assert [event.kind for event in it.checked("web/b", FULL, 1.0)] == ["warning"]
    assert not it.dirty - {"web"}


def test_a_slow_start_goes_on_over_a_restart():
    text = '[service.web]\nlisten = "192.0.2.10:80"\ncheck = { tcp = true, rise = 1, fall = 1 }\nslow-start = "180s"\n'
    slow = load([Source("test.toml", f"{text}{A}{B}".encode())]).config
    first, second = Farm(), Farm()
    first.adopt(slow, {}, lambda _: True, 0.0)
    for outcome in (WELL, replace(WELL, well=False), WELL):
        list(first.checked("web/a", outcome, 10.0))
    first.ramped(100.0)
    assert first.states() == {"web/a": BackendState(ramp=0.55)}
    assert first.next_ramp(100.0) == 110.0
    second.adopt(slow, first.states(), lambda _: True, 1000.0)
    assert second.states() == first.states()
    assert second.next_ramp(1000.0) == pytest.approx(1010.0)
    second.ramped(1090.0)
    assert second.states() == {}
    assert second.next_ramp(1090.0) is None


def test_only_its_owner_reads_the_state_folder_and_what_is_broken_is_named(tmp_path: Path):
    store = Store(tmp_path)
    store.keep_states({"web/a": BackendState(up=False)})
    assert stat.S_IMODE((tmp_path / "states.json").stat().st_mode) == 0o600
    (tmp_path / "states.json").write_text(json.dumps({"web/a": {"hold": "none", "unheard": 1}}))
    with pytest.raises(StoreError, match=r"states\.json is broken"):
        store.states()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({b"content-length": b"10"}, 200),
        ({}, 200),
        ({b"content-length": b"%d" % (LARGEST_BODY + 1)}, 413),
        ({b"transfer-encoding": b"chunked"}, 413),
        ({b"authorization": b"Bearer other"}, 401),
    ],
)
def test_a_body_over_tcp_is_no_larger_than_a_configuration(tmp_path: Path, headers: dict[bytes, bytes], status: int):
    (tmp_path / "token").write_text("secret\n")
    said: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        said.append(message.get("status", 0))

    async def receive() -> Message:
        return {}

    given = {b"authorization": b"Bearer secret", **headers}
    scope = {"type": "http", "headers": list(given.items())}
    asyncio.run(Guarded(app, Token(str(tmp_path / "token")))(scope, receive, send))
    assert said[0] == status
