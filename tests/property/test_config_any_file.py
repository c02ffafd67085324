"""Whatever the file holds, `load` answers with a configuration or with problems that point into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from markway.config.load import Loaded, Source, load
from markway.config.messages import fields
from markway.config.model import CheckKind, Config
from markway.config.problems import ConfigError
from markway.config.schema import TABLES

EXAMPLES = [path.read_bytes() for path in sorted(Path("examples").glob("*.toml"))]
WORDS = [
    b"=", b"[", b"]", b"[[", b"{", b"}", b'"', b"'''", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b",", b".",
    b"#", b"-1", b"true", b"1979-05-27", b"1e9", b"0x10000", b'"0"', b"[]", b"{}", b'["", 1]', b"service", b"backend",
    b"listen", b'"x"', b"\\", b'"[::ffff:192.0.2.1]:80"', b'"*:*"', b'"0.0.0.0:1-0/tcp"', b'"10m"', b"weight",
]  # fmt: skip

SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["192.0.2.1:80", "[2001:db8::1]:*", "10.0.0.0/8", "fd00::1", "reset", "snat", "10m", "5/second"])
)
KEYS = st.sampled_from([
    "service", "marks", "mask", "web", "backend", "a", "listen", "address", "mode", "persist", "timeout", "source",
    "check", "load", "api", "http", "snmp", "policy", "schedule", "slow-start", "every", "port",
    "shape", "mark", "class", "filter", "match", "uplink", "realm", "device", "rate", "u32", "default", "preset",
    "fallback", "allow", "deny", "source-rate", "helper", "weight", "priority", "max-connections", "x y", "", "ä",
])  # fmt: skip
TEXTS = st.sampled_from([
    "", "/", "\\", "\\x", "\\xff", "ÿ", "(", "a{99999999999}", "[[a]", "((" * 60, "a.b:c", "1.3.6.1", "laLoad.1",
    "x" * 300, "\0", "a\nb", "200-299", "1s", "50ms", "127.0.0.1:8480", "[::1]", "http://a/b", "é.example", ".", "..",
])  # fmt: skip
CHECK_KINDS = [kind.value for kind in CheckKind]
NUMBERS = st.sampled_from([0, -1, 1, 80, 10**30, 10**400, 1e300, 1e-300, float("inf"), float("nan")])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


def answer(*files: bytes) -> None:
    sources = [Source(f"{number}.toml", data) for number, data in enumerate(files)]
    try:
        loaded = load(sources)
    except ConfigError as error:
        problems = error.problems
        assert problems
    else:
        assert isinstance(loaded, Loaded)
        assert loaded.config != Config(mask=loaded.config.mask, api=loaded.config.api)
        problems = loaded.warnings
    assert list(problems) == sorted(problems)
    for problem in problems:
        number = int(problem.file.split(".")[0])
        lines = files[number].removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1].decode(errors="replace")) + 1
        assert "\n" not in str(problem)
        assert "pydantic" not in str(problem)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
@example([b""])
@example([b"\xff\xfe[\0"])
@example([b'a = "\\'])
@example([b"a = " + b"9" * 5000])
@example([b"a = " + b"[" * 5000])
@example([b".".join([b"a"] * 5000) + b" = 1"])
@example([b"a = 1\ra = 2"])
def test_any_bytes(files):
    answer(*files)


@SETTINGS
@given(
    st.sampled_from(EXAMPLES),
    st.lists(
        st.tuples(st.integers(0, 9000), st.integers(0, 12), st.sampled_from(WORDS) | st.binary(max_size=3)),
        min_size=1,
        max_size=4,
    ),
)
def test_a_valid_file_with_a_few_changes(data, changes):
    for at, removed, put in changes:
        start = at % len(data)
        data = data[:start] + put + data[start + removed :]
    answer(data)
    answer(data, EXAMPLES[0])


def as_toml(value: Any) -> str:
    """A document of any shape, in inline tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if value is None:
        return "07:32:00"
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if isinstance(value, str) else str(value)


def any_table(path: str) -> st.SearchStrategy[dict[str, Any]]:
    """A table with keys that it may have, most of them as they may be."""
    keys = {
        key: st.sampled_from(field.examples or [None]) | TEXTS | NUMBERS | LEAVES | st.lists(TEXTS | LEAVES, max_size=3)
        for key, field in fields(TABLES[path]).items()
    }
    return st.fixed_dictionaries({}, optional=keys)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


@SETTINGS
@given(
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.dictionaries(KEYS, VALUES, max_size=6),
    st.dictionaries(KEYS, VALUES, max_size=4),
)
def test_any_shape_of_tables(document, service, backend):
    document = {"service": {"web": {**service, "backend": {"a": backend}}}} | document
    answer("".join(f"{quoted(key)} = {as_toml(value)}\n" for key, value in document.items()).encode())


@SETTINGS
@given(
    st.fixed_dictionaries(
        {"listen": st.just("192.0.2.10:80"), "backend": st.just({"a": {"address": "192.168.1.10"}})},
        optional={
            "check": any_table("service.NAME.check"),
            "load": any_table("service.NAME.load"),
            "schedule": st.sampled_from(["queue", "least-load", "random"]),
            "policy": TEXTS | LEAVES,
            "slow-start": TEXTS | LEAVES,
            "orphans": st.sampled_from(["keep", "cut", ""]),
        },
    ),
    any_table("api"),
)
def test_any_check_load_and_api(service, api):
    document = {"service": {"web": service}, "api": api}
    answer("".join(f"{quoted(key)} = {as_toml(value)}\n" for key, value in document.items()).encode())


@SETTINGS
@given(st.sampled_from(CHECK_KINDS), any_table("service.NAME.check"), st.data())
def test_any_check_of_one_kind(kind, table, data):
    table = {key: value for key, value in table.items() if key not in CHECK_KINDS}
    field = fields(TABLES["service.NAME.check"])[kind]
    check = {kind: data.draw(st.sampled_from(field.examples or [None]))} | table
    service = {"listen": "192.0.2.10:80", "check": check, "backend": {"a": {"address": "192.168.1.10:80"}}}
    answer(f"service = {as_toml({'web': service})}\n".encode())


CLASS_NAMES = st.sampled_from(["a", "b", "c", "", "x y"])


@SETTINGS
@given(
    any_table("shape.NAME"),
    st.dictionaries(
        CLASS_NAMES,
        st.builds(
            lambda table, more: table | more,
            any_table("shape.NAME.class.NAME"),
            st.fixed_dictionaries(
                {}, optional={"parent": CLASS_NAMES, "match": any_table("shape.NAME.class.NAME.match")}
            ),
        ),
        max_size=4,
    ),
    st.lists(any_table("shape.NAME.filter"), max_size=3),
)
def test_any_shape(shape, classes, filters):
    shape = {"device": "eth0", "rate": "1mbit", "default": "a"} | shape | {"class": classes, "filter": filters}
    answer(f"shape = {as_toml({'wan': shape})}\n".encode())


@SETTINGS
@given(
    st.tuples(any_table("mark.NAME"), any_table("mark.NAME.match")),
    st.tuples(any_table("realm.NAME"), st.lists(any_table("realm.NAME.routes"), max_size=2)),
    any_table("shape.NAME.discipline"),
    any_table("uplink.NAME"),
)
def test_any_discipline_mark_uplink_and_realm(marking, routing, discipline, uplink):
    (mark, match), (realm, routes) = marking, routing
    document = {
        "shape": {"wan": {"device": "eth0", "rate": "1mbit", "discipline": discipline}},
        "mark": {"slow": mark | {"match": [match]}},
        "uplink": {"dsl": uplink},
        "realm": {"office": realm | {"routes": routes}},
    }
    answer("".join(f"{quoted(key)} = {as_toml(value)}\n" for key, value in document.items()).encode())
