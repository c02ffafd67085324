"""The manual and the JSON Schema of the configuration, generated from its models.

`docs/reference.md` and `docs/markway.schema.json` are these functions' output.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from markway.config.messages import expected, fields, form_of, required, toml
from markway.config.schema import NAME_PATTERN, TABLES, File

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"

_INTRODUCTION = """# The configuration file

<!-- Generated from the models by `markway reference`. Do not edit. -->

One [TOML](https://toml.io) file, or a directory of `*.toml` files that are read as one. Every problem in
them is reported at once, with its line and column, and nothing is changed then. The order of tables means
nothing, except that of a shape's classes and filters, and of marks.

Editors complete and check the file with the [JSON Schema](markway.schema.json) (`markway schema`).

* **Names** of services, backends, shapes and classes are 1 to 63 of `a-z`, `0-9`, `_`, `.` and `-`, and start with a
  letter or digit. A name with dots is quoted: `[service."www.example.org"]`.
* **Durations** are numbers with units, as systemd writes them: `90s`, `10m`, `1h 30min`, `2d`. Units are `ms`,
  `s`, `m` or `min`, `h`, `d` and `w`; a number without a unit is refused.
* **Rates of bits** and **sizes** are written as tc(8) has them: `1024kbit`, `1.5mbit`; `100kbps` is bytes per second;
  `15k` is 15360 bytes. A number without a unit is bits per second, or bytes.
* **Addresses** are written out: names are not looked up. IPv6 addresses are in brackets where a port follows.
* **Networks** are addresses with a prefix length and no bits beyond it: `10.0.0.0/8`, `2001:db8::/32`.
"""


_LISTS = {"match", "filter", "routes", "logs"}
_INLINE = {"fallback", "persist", "check", "load", "discipline", "match", "routes", "route", "ban", "logs"}
_OWN_TABLES = {"backend", "class", "filter"}
"""Keys whose tables have sections of their own."""


class _Generator(GenerateJsonSchema):
    """TOML has no null: an optional key is absent, so its schema is that of its value."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """The value's schema alone."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The value's schema with the default, unless that is the key's absence."""
        inner = super().default_schema(schema)
        if inner.get("default", ...) is None:
            del inner["default"]
        return inner


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file, for editors and other checkers."""
    schema = File.model_json_schema(schema_generator=_Generator)
    definitions = schema["$defs"]
    for table in TABLES.values():
        target = schema if table is File else definitions[table.__name__]
        needed = [key for key in fields(table) if required(table, key)]
        if needed and table is not File:  # a file of a directory may hold no service
            target["required"] = needed
        for key, field in fields(table).items():
            _refine(target["properties"][key], field)
    return {
        "$schema": SCHEMA_ID,
        "title": "Markway configuration",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _refine(schema: dict[str, Any], field: FieldInfo) -> None:
    """Add the grammar of texts and of names; drop the titles, which repeat the key."""
    schema.pop("title", None)
    form = form_of(field)
    if form is not None and form.pattern is not None:
        for alternative in schema.get("anyOf", [schema]):
            text = alternative.get("items", alternative)
            if text.get("type") == "string":
                text["pattern"] = form.pattern
    if schema.get("type") == "object":
        schema["propertyNames"] = {"pattern": NAME_PATTERN}


def reference_markdown() -> str:
    """The manual of the configuration: every table and key with its type, default and example."""
    parts = [_INTRODUCTION]
    seen: dict[type[BaseModel], str] = {}
    for path, table in TABLES.items():
        if table is not File:
            parts.append(_section(path, table, seen.get(table)))
            seen.setdefault(table, path)
    return "\n".join(parts)


def _section(path: str, table: type[BaseModel], before: str | None) -> str:
    """One table's; of one that stands elsewhere too, in `before`, only that."""
    key = path.rsplit(".", 1)[-1]
    lines = [f"## `[[{path}]]`" if key in _LISTS else f"## `[{path}]`", ""]
    if before is not None:
        return "\n".join([*lines, f"As `{before}`.", ""])
    lines += [(cleandoc(table.__doc__ or "")), ""]
    if key in _INLINE:
        lines += [f"Also written inline, as `{key} = {'[{ … }]' if key in _LISTS else '{ … }'}`.", ""]
    for key, field in fields(table).items():
        if key not in _OWN_TABLES:
            lines += _entry(key, field, needed=required(table, key))
    return "\n".join(lines)


def _entry(key: str, field: FieldInfo, *, needed: bool) -> list[str]:
    kind = expected(field).replace('"', "`")
    facts = [kind]
    if needed:
        facts.append("required")
    elif field.default is not None:
        facts.append(f"default `{toml(field.default)}`")
    examples = [f"{key} = {toml(example)}" for example in field.examples or []]
    return [
        f"### `{key}`",
        "",
        f"*{'; '.join(facts)}*",
        "",
        field.description or "",
        "",
        "```toml",
        *examples,
        "```",
        "",
    ]


__all__ = ["json_schema", "reference_markdown"]
