"""The generated manual and schema are those of the models.

To write them anew: `markway reference > docs/reference.md; markway schema > docs/markway.schema.json`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli

from markway.config.load import Source, load
from markway.config.messages import fields, pattern, required
from markway.config.reference import json_schema, reference_markdown
from markway.config.schema import TABLES

DOCS = Path("docs")
WITHOUT_EXAMPLE = {
    "service", "backend", "marks", "api", "shape", "class", "filter", "mark", "uplink", "realm", "zone", "firewall",
    "policy", "blocklist", "guard", "allowlist",
}  # fmt: skip


def test_the_reference_is_up_to_date():
    assert (DOCS / "reference.md").read_text() == reference_markdown()


def test_the_schema_is_up_to_date():
    assert (DOCS / "markway.schema.json").read_text() == json.dumps(json_schema(), indent=2) + "\n"


def test_every_key_is_described_with_an_example():
    for path, table in TABLES.items():
        for key, field in fields(table).items():
            assert field.description, (path, key)
            assert field.examples or key in WITHOUT_EXAMPLE, (path, key)


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", reference_markdown(), re.DOTALL))
def test_every_example_is_toml(block):
    for line in block.splitlines():
        assert tomli.loads(line)


@pytest.mark.parametrize("path", [path for path in TABLES if path])
def test_every_example_fits_the_schema(path):
    schema = json_schema()
    known = schema["$defs"][TABLES[path].__name__]["properties"]
    for key, field in fields(TABLES[path]).items():
        for example in field.examples or ():
            assert patterns(known[key], example, schema["$defs"]), (key, example)


def test_the_schema_knows_the_needed_keys_and_no_null():
    schema = json_schema()
    assert schema["$defs"]["ServiceTable"]["required"] == ["listen", "backend"]
    assert schema["additionalProperties"] is False
    assert '"null"' not in json.dumps(schema)


def patterns(schema: object, value: object, defs: dict[str, object]) -> bool:
    """Whether a value passes the parts of JSON Schema that ours uses."""
    assert isinstance(schema, dict)
    if "$ref" in schema:
        return patterns(defs[schema["$ref"].rsplit("/", 1)[1]], value, defs)
    if "anyOf" in schema:
        return any(patterns(alternative, value, defs) for alternative in schema["anyOf"])
    match value:
        case dict():
            inside = schema.get("properties", {})
            rest = schema.get("additionalProperties", False)
            return schema["type"] == "object" and all(
                patterns(inside.get(key, rest), item, defs)
                for key, item in value.items()
                if key in inside or rest is not False or pytest.fail(key)
            )
        case list():
            return schema["type"] == "array" and all(patterns(schema["items"], item, defs) for item in value)
        case str():
            fits = re.search(schema.get("pattern", ""), value) is not None
            return schema["type"] == "string" and fits and value in schema.get("enum", [value])
        case _:
            kinds = {"boolean"} if isinstance(value, bool) else {"integer", "number"}
            return schema["type"] in kinds and value == schema.get("const", value)


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.toml")), ids=lambda path: path.name)
def test_the_schema_takes_the_examples(path):
    schema = json_schema()
    assert patterns(schema, tomli.loads(path.read_text()), schema["$defs"])


def test_the_example_with_everything_has_every_key():
    document = tomli.loads(Path("examples/everything.toml").read_text())
    used: dict[type, set[str]] = {table: set() for table in TABLES.values()}

    def look(value: object, path: tuple[str, ...]) -> None:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                table = TABLES.get(pattern(path))
                if table is not None:
                    used[table] |= one.keys()
                for key, inner in one.items():
                    look(inner, (*path, key))

    look(document, ())
    assert used == {table: {*fields(table)} for table in TABLES.values()}


def test_required_is_what_loading_misses():
    assert required(TABLES["service.NAME"], "listen")
    assert not required(TABLES["service.NAME"], "mode")
    assert load([Source("m", Path("examples/two-servers.toml").read_bytes())]).config.services
