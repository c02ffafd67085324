"""What asking compiles to: by the kernel's abilities, without a change of structure when weights change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from markway.apply.transaction import swift
from markway.balance.policies import Backend, Connection
from markway.compiler import Abilities, Asking, compile_config
from markway.config.load import load_text
from markway.marks import Registry
from markway.program.diff import diff, lines
from markway.program.model import Program

FILE = """
[service.web]
listen = ["192.0.2.10:80", "192.0.2.10:1000-2000"]
schedule = "least-connections"
check = { tcp = true }
backend.a.address = "192.168.1.10:80"
backend.b.address = "192.168.1.11:80"
"""
PLAIN = FILE.replace('schedule = "least-connections"\n', "")


def compiled(text: str, asking: Asking = Asking.QUEUE):
    return compile_config(load_text(text, "x.toml").config, Registry(), abilities=Abilities(asking=asking))


@pytest.mark.parametrize(
    ("asking", "line"),
    [
        (Asking.QUEUE, "add rule inet markway ask queue flags bypass to 26997"),
        (Asking.TARGET, "# over netlink: add rule inet markway ask xt target NFQUEUE 26997 bypass"),
        (Asking.NOT, None),
    ],
)
def test_how_the_kernel_is_asked(asking, line):
    written = lines(diff(Program(), compiled(FILE, asking).program))
    assert [one for one in written if re.search(r"rule inet markway ask ", one)] == ([line] if line else [])
    assert "add chain inet markway ask" in written


def test_who_asks_nobody_has_no_chain_for_it():
    text = "\n".join(lines(diff(Program(), compiled(PLAIN).program)))
    assert "ask" not in text
    assert "undecided" not in text


def test_a_later_result_asks_as_the_first_did():
    first = compiled(FILE, Asking.TARGET)
    assert compile_config(first.config, first.registry, first).abilities.asking is Asking.TARGET


@pytest.mark.parametrize("weights", [{"a": 100, "b": 50}, {"a": 0, "b": 100}])
def test_other_weights_are_other_elements_only(weights):
    first = compiled(FILE)
    second = compile_config(first.config, first.registry, first, {"web": weights})
    changes = diff(first.program, second.program)
    assert not changes.structural
    assert swift(changes)
    assert {name for part in changes.parts for name in part.add} == {"slots"}


def test_a_backend_that_is_down_is_no_answer_any_more():
    first = compiled(FILE)
    second = compile_config(first.config, first.registry, first, {"web": {"a": 0, "b": 100}})
    [part] = diff(first.program, second.program).parts
    [entry] = first.program.services
    [gone] = part.delete["up"]
    assert int(gone, 16) == next(b.mark for b in entry.backends if b.name == "a")


def test_the_policy_in_the_documentation_works():
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    config = load_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0], "x.toml").config
    assert config.services[0].policy == "shop_balance:by_customer"
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)  # noqa: S102  (our own page)
    choose = names["by_customer"]
    assert callable(choose)
    backends = tuple(
        Backend(name, weight, count) for name, weight, count in (("a", 1.0, 7), ("b", 2.0, 12), ("large", 1.0, 999))
    )
    full = (*backends[:2], Backend("large", 1.0, 1000))

    def asked(source: str, among: tuple[Backend, ...]) -> object:
        return choose(Connection("shop", "tcp", source, 4000, "203.0.113.10", 443), among)

    assert asked("198.51.100.7", backends) == "large"
    assert asked("198.51.100.7", full) == "b"
    assert asked("192.0.2.7", backends) == "b"
    assert asked("192.0.2.7", backends[2:]) == "large"
