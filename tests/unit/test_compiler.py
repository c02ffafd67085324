"""Compiling: the order of the file is irrelevant, a program survives being written down, little changes little."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markway.compiler import compile_config, reweigh
from markway.config.load import load_text
from markway.config.model import Config
from markway.marks import MarksError, Registry
from markway.program.diff import diff, lines
from markway.program.impact import impacts
from markway.program.model import Fragment, Program


def service(name: str, port: int, weights: dict[str, int], lines: str = "") -> str:
    text = f'[service.{name}]\nlisten = ["192.0.2.10:{port}", "[2001:db8::10]:{port}"]\n{lines}\n'
    for backend, weight in weights.items():
        number = ord(backend)
        address = f'["192.168.1.{number}:80", "[fd00:1::{number}]:80"]'
        text += f"backend.{backend} = {{ address = {address}, weight = {weight} }}\n"
    return text


LINES = [
    "",
    'schedule = "source-hash"',
    'persist = { timeout = "1m", prefix = 24 }',
    'mode = "snat"\nsource = "192.0.2.9"',
    'max-connections = 5\nsource-rate = "5/second"\ndeny = "10.0.0.0/8"',
    'fallback = { address = "192.168.1.99:80" }',
]
TEXTS = [service(f"s{n}", 80 + n, {"a": 1, "b": 2, "c": n % 3}, line) for n, line in enumerate(LINES)]


def config(*texts: str) -> Config:
    return load_text("".join(texts), "test.toml").config


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_file_is_irrelevant(seed):
    random = Random(seed)
    shuffled = list(TEXTS)
    random.shuffle(shuffled)
    shuffled = ["\n".join(_backends_shuffled(text, random)) + "\n" for text in shuffled]
    one, other = (compile_config(config(*texts), Registry()) for texts in (TEXTS, shuffled))
    assert one.program.id == other.program.id
    assert one.registry == other.registry
    assert lines(diff(Program(), one.program)) == lines(diff(Program(), other.program))
    assert not diff(one.program, other.program)


def _backends_shuffled(text: str, random: Random) -> list[str]:
    rows = text.strip().split("\n")
    backends = [row for row in rows if row.startswith("backend.")]
    random.shuffle(backends)
    return [row for row in rows if not row.startswith("backend.")] + backends


def test_a_fragment_survives_being_written_down():
    program = compile_config(config(*TEXTS), Registry()).program
    for fragment in program.fragments.values():
        read = Fragment.from_record(json.loads(json.dumps(fragment.record)))
        assert read.digest == fragment.digest
        assert json.loads(read.text) == json.loads(fragment.text)
    again = Program({owner: Fragment.from_record(json.loads(f.text)) for owner, f in program.fragments.items()})
    assert again.id == program.id
    assert not diff(program, again)
    assert lines(diff(Program(), again)) == lines(diff(Program(), program))


def test_compiling_again_changes_nothing():
    first = compile_config(config(*TEXTS), Registry())
    for again in (
        compile_config(config(*TEXTS), first.registry, first),
        compile_config(config(*TEXTS), first.registry),
    ):
        assert again.registry == first.registry
        assert not diff(first.program, again.program)


@pytest.mark.parametrize(
    "texts",
    [
        [*TEXTS[1:], service("new", 99, {"a": 1})],
        TEXTS[:2],
        [service("s0", 80, {"a": 1, "b": 2, "c": 40}, LINES[1]), *TEXTS[1:]],
        [*TEXTS, *(service(f"many{number}", 200 + number, {"a": 1, "b": 1}) for number in range(80))],  # wider marks
        [],
    ],
    ids=["one for another", "fewer", "another schedule", "many more", "none"],
)
def test_what_was_compiled_before_makes_no_difference(texts):
    first = compile_config(config(*TEXTS), Registry())
    changed = config(*texts) if texts else Config()
    quick, whole = compile_config(changed, first.registry, first), compile_config(changed, first.registry)
    assert quick.program.id == whole.program.id
    assert quick.registry == whole.registry
    back, again = (compile_config(config(*TEXTS), each.registry, each) for each in (quick, whole))
    assert back.program.id == again.program.id


@pytest.mark.parametrize("schedule", ["", 'schedule = "source-hash"', 'persist = { timeout = "1m" }'])
def test_a_changed_weight_changes_slots_and_no_mark_or_target(schedule):
    first = compile_config(config(service("web", 80, {"a": 1, "b": 1, "c": 1}, schedule)), Registry())
    second = compile_config(config(service("web", 80, {"a": 2, "b": 1, "c": 1}, schedule)), first.registry)
    [part] = diff(first.program, second.program).parts
    assert set(part.add) == {"slots"}
    assert part.owner == "web"
    assert not part.sets
    assert {chain.name for chain in part.chains} <= {"service/web/ip", "service/web/ip6"}
    [impact] = impacts(diff(first.program, second.program))
    assert impact.moved is not None
    assert 0 < impact.moved < 0.35


def test_a_hash_schedule_s_changed_weight_changes_elements_only():
    first = compile_config(config(service("web", 80, {"a": 1, "b": 1}, LINES[1])), Registry())
    second = compile_config(config(service("web", 80, {"a": 2, "b": 1}, LINES[1])), first.registry)
    changes = diff(first.program, second.program)
    assert changes
    assert not changes.structural


def test_a_new_service_changes_nothing_of_the_others():
    first = compile_config(config(*TEXTS), Registry())
    second = compile_config(config(*TEXTS, service("new", 99, {"a": 1})), first.registry)
    assert [part.owner for part in diff(first.program, second.program).parts] == ["new"]


def test_an_empty_program_looks_at_no_packet_unless_there_were_services():
    bare = compile_config(Config(), Registry()).program
    assert not bare.fragments[""].chains
    first = compile_config(config(*TEXTS), Registry())
    program = compile_config(Config(), first.registry, first).program
    assert set(bare.fragments) == set(program.fragments) == {""}
    assert program.fragments[""].chains.keys() >= {"prerouting-dstnat", "postrouting-srcnat"}
    written = lines(diff(Program(), program))
    assert not any("flush ruleset" in line or "delete" in line for line in written)
    assert all(" inet markway" in line for line in written)


def test_every_line_names_our_table_only():
    compiled = compile_config(config(*TEXTS), Registry())
    for old, new in ((Program(), compiled.program), (compiled.program, Program())):
        assert all(" inet markway" in line for line in lines(diff(old, new)))


def test_a_mark_is_never_written_bare():
    """The packet's mark is written within our field, or beside what is there."""
    program = compile_config(config(*TEXTS), Registry()).program
    rules = [line for f in program.fragments.values() for chain in f.chains.values() for line in chain.lines]
    others, field = "0xffffff00", "0x000000ff"
    for line in rules:
        if "meta mark set" in line:
            value = line.partition("meta mark set ")[2]
            assert (
                f"meta mark & {others} == 0x00000000" in line
                or value.startswith(("meta mark |", f"meta mark & {others}"))
                or field not in value
            ), line


def test_a_mask_too_small_is_refused():
    small = replace(config(*TEXTS), mask=0x0F)
    with pytest.raises(MarksError):
        compile_config(small, Registry())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["web", "dns"]), st.integers(0, 300)), min_size=1, max_size=6))
def test_a_change_of_weights_gives_the_program_that_compiling_all_of_it_gives(steps):
    text = service("web", 80, {"a": 1, "b": 2}, "check = { tcp = true }"), service("dns", 53, {"a": 1, "b": 1})
    first = now = compile_config(config(*text), Registry())
    for name, weight in steps:
        now = reweigh(now, {name: {"a": weight, "b": 100} if weight else None})
        whole = compile_config(first.config, now.registry, weights=now.weights)
        assert now.program.id == whole.program.id
        assert now.program.sets == whole.program.sets
