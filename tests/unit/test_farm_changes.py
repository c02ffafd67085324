"""What is known of backends when the configuration changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.balance.state import BackendState, Hold
from markway.config.load import Source, load
from markway.director.farm import Farm
from markway.director.model import Outcome

if TYPE_CHECKING:
    from markway.config.model import Config

A = 'backend.a = { address = "192.168.1.11:8080" }\n'
B = 'backend.b = { address = "192.168.1.12:8080" }\n'
WELL = Outcome(well=True, took=0.001)


def config(*backends: str) -> Config:
    text = '[service.web]\nlisten = "192.0.2.10:80"\ncheck = { tcp = true }\n' + "".join(backends)
    return load([Source("test.toml", text.encode())]).config


def farm(*backends: str) -> Farm:
    """All of them up."""
    made = Farm()
    change(made, config(*backends))
    for name in made.members:
        list(made.checked(name, WELL, 0.0))
    return made


def change(made: Farm, to: Config) -> None:
    """As the daemon does: what is expected is kept, and read again."""
    made.adopt(to, made.expected(to), lambda _: False, 1.0)


def test_what_an_operator_said_holds_when_a_backend_comes_back():
    it = farm(A, B)
    list(it.held("web/a", Hold.DISABLE, 0.0))
    list(it.weighed("web/b", 7))
    change(it, config(B))
    assert it.states()["web/a"] == BackendState(hold=Hold.DISABLE)
    change(it, config(A))
    assert it.states()["web/b"] == BackendState(weight=7)
    change(it, config(A, B))
    assert (it.members["web/a"].hold, it.members["web/b"].weight) == (Hold.DISABLE, 7)
    list(it.held("web/a", Hold.NONE, 0.0))
    change(it, config(B))
    assert "web/a" not in it.states()


def test_who_is_new_or_elsewhere_is_asked_first():
    it = farm(A, B)
    list(it.weighed("web/b", 7))
    other = config(A, B.replace(".12", ".13"), B.replace("backend.b", "backend.c").replace(".12", ".14"))
    expected = it.expected(other)
    assert expected == {"web/b": BackendState(up=False, weight=7), "web/c": BackendState(up=False)}
    change(it, other)
    assert [name for name, member in it.members.items() if member.health.up] == ["web/a"]
    assert it.unsaved
    assert it.states() == expected


def test_a_load_that_falls_silent_is_told_also_where_no_weight_changes():
    it = Farm()
    text = '[service.web]\nlisten = "192.0.2.10:80"\nload = { ping = true, every = "1s", stale = "3s" }\n' + A + B
    change(it, load([Source("test.toml", text.encode())]).config)
    assert not list(it.loaded("web", {"a": 5.0, "b": 5.0}, 10.0))
    assert not list(it.loaded("web", {"a": None, "b": 5.0}, 11.0))
    told = [event for second in range(12, 20) for event in it.loaded("web", {"a": None, "b": 5.0}, float(second))]
    assert [(event.kind, event.name) for event in told] == [("load", "web/a")]
    assert "unknown" in told[0].text
