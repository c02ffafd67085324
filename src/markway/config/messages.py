"""What pydantic found, in the operator's words: what is expected, what is there, and an example.

One message for each place, whatever the number of alternatives that a value failed.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from markway.config.forms import Form
from markway.config.problems import Path, Place, Report, did_you_mean, listed, quote, show
from markway.config.schema import LATER, REQUIRED, TABLES, File

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

_WORDS = {bool: "true or false", float: "a number", str: "a string"}
_NAMED_BELOW = {
    0: {"service", "shape", "mark", "uplink", "realm", "zone", "policy", "guard", "blocklist"},
    2: {"backend", "class"},
}
"""Tables whose keys are names that the operator chose."""


def validate(source: int, raw: dict[str, Any], report: Report) -> File:
    """Check the shape of one file's tables, report what is wrong, and return the rest.

    Takes what is wrong out of `raw`, so that what is left can be checked for its meaning. An element of an
    array becomes empty instead, so that the others keep their indexes.
    """
    try:
        return File.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        for path in _innermost(_path(raw, detail["loc"]) for detail in details):
            _explain(source, path, raw, report)
            report.prune(source, path)
            _take_out(raw, path)
        return File.model_validate(raw)


def _path(raw: Any, loc: tuple[int | str, ...]) -> Path:
    """The place in the document of an error; its `loc` also names the alternatives of unions."""
    path: Path = ()
    value = raw
    for part in loc:
        inside = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if inside:
            value = value[part]
            path = (*path, part)
    return path


def _innermost(paths: Iterable[Path]) -> list[Path]:
    """The paths without those that lead to another: a table that fits one alternative fails the others."""
    unique = dict.fromkeys(paths)
    outer = {path[:length] for path in unique for length in range(len(path))}
    return [path for path in unique if path not in outer]


def _take_out(raw: Any, path: Path) -> None:
    around = raw
    for part in path[:-1]:
        around = around[part]
    if isinstance(around, dict):
        del around[path[-1]]
    else:
        around[path[-1]] = {} if pattern(path) in TABLES else ""


def pattern(path: Path) -> str:
    """The path with `NAME` for the names that the operator chose."""
    parts = [part for part in path if isinstance(part, str)]
    for at, tables in _NAMED_BELOW.items():
        if len(parts) > at + 1 and parts[at] in tables:
            parts[at + 1] = "NAME"
    return ".".join(parts)


def field_at(path: Path) -> FieldInfo | None:
    """The schema's field for a key or for an element of its array."""
    keys = tuple(part for part in path if isinstance(part, str))
    table = TABLES.get(pattern(keys[:-1]))
    return None if table is None or not keys else fields(table).get(keys[-1])


def fields(table: type[BaseModel]) -> dict[str, FieldInfo]:
    """A table's fields by the keys of the file."""
    return {field.alias or name: field for name, field in table.model_fields.items()}


def _explain(source: int, path: Path, raw: Any, report: Report) -> None:
    value = raw
    for part in path:
        value = value[part]
    place = Place(source, path)
    field = field_at(path)
    if field is None and pattern(path) in TABLES:
        hint = f"write [{show(path)}] in single brackets" if isinstance(value, list) else None
        report.error(place, f"expected a table, got {describe(value)}", hint)
    elif field is None:
        _unknown_key(place, value, report)
    elif isinstance(path[-1], int):
        kind = "table" if pattern(path) in TABLES else "string"
        report.error(place, f"expected a {kind}, got {describe(value)}", f"for example {_element_example(field)}")
    else:
        _wrong_value(place, value, field, report)


def _unknown_key(place: Place, value: Any, report: Report) -> None:
    key = str(place.path[-1])
    parent = Place(place.source, place.path[:-1])
    where = pattern(parent.path)
    if key in LATER.get(where, ()):
        report.error(parent, f"{quote(key)} is not in this version of Markway", at=place.path)
        return
    table = TABLES.get(where)
    known = [*fields(table)] if table else []
    hint = did_you_mean(key, known)
    if hint is not None:
        report.prune(place.source, (*parent.path, hint.split('"')[1]))  # there, by another name
    if hint is None and isinstance(value, dict) and parent.path and isinstance(parent.path[-1], str):
        dotted = ".".join(map(str, parent.path[:-1]))
        hint = f"a name with dots is quoted: [{dotted}.{quote(f'{parent.path[-1]}.{key}')}]"
    report.error(parent, f"unknown key {quote(key)}", hint or f"there are {listed(known, 'and')}", at=place.path)


def _wrong_value(place: Place, value: Any, field: FieldInfo, report: Report) -> None:
    choices = _choices(field)
    if isinstance(value, str) and choices:
        if value in LATER.get(pattern(place.path), ()):
            known = listed([quote(choice) for choice in choices], "and")
            report.error(place, f"{quote(value)} is not in this version of Markway: there are {known}")
        else:
            report.error(place, f"expected {expected(field)}, got {quote(value)}", did_you_mean(value, choices))
        return
    report.error(place, f"expected {expected(field)}, got {describe(value)}", _value_hint(place, value, field))


def _value_hint(place: Place, value: Any, field: FieldInfo) -> str:
    form = form_of(field)
    kinds = _alternatives(field.annotation)
    if isinstance(value, dict) and form is not None and form.name == "a list of tables":
        return f"write [[{show(place.path)}]] in double brackets"
    if isinstance(value, str) and int in kinds and value.isascii() and value.isdigit():
        return f"did you mean {int(value)}, without quotes?"
    if form is not None and isinstance(value, int) and not isinstance(value, bool):
        if form.name.startswith("a duration"):
            return f'did you mean "{value}s"?'
        if form.name == "a rate":
            return f'did you mean "{value}/second"?'
    return f"for example {place.path[-1]} = {toml(field.examples[0])}" if field.examples else ""


def _element_example(field: FieldInfo) -> str:
    example = field.examples[-1] if field.examples else ""
    return toml(example[0] if isinstance(example, list) else example)


def form_of(field: FieldInfo) -> Form | None:
    """How a text of this key is to be written, if the schema says."""
    return next((item for item in field.metadata if isinstance(item, Form)), None)


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in {Union, UnionType}:
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def _choices(field: FieldInfo) -> list[str]:
    words = [word for kind in _alternatives(field.annotation) if get_origin(kind) is Literal for word in get_args(kind)]
    return [word for word in words if isinstance(word, str)]


def expected(field: FieldInfo) -> str:
    """What a key's value has to be, in words."""
    form = form_of(field)
    if form is not None:
        return form.name
    words = [quote(choice) for choice in _choices(field)]
    for kind in _alternatives(field.annotation):
        if kind is int:
            words.append(f"an integer{bounds(field)}")
        elif kind in _WORDS:
            words.append(_WORDS[kind])
        elif kind is not NoneType and get_origin(kind) is not Literal:
            words.append("a table")
    return listed(words)


def bounds(field: FieldInfo) -> str:
    """The range of an integer: ` from 0 to 65535`, ` from 1`, or nothing."""
    lowest = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    highest = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    return "" if lowest is None else f" from {lowest}{'' if highest is None else f' to {highest}'}"


def describe(value: Any) -> str:
    """A TOML value in words, for `got …`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {quote(value)}"
    if isinstance(value, int):
        return f"the integer {value}" if abs(value) < 1 << 64 else "an integer beyond 64 bits"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else "a date or time"


def toml(value: Any) -> str:
    """An example's value as the file writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and "\\" in value and "'" not in value:
        return f"'{value}'"  # in which a backslash is one
    return quote(value) if isinstance(value, str) else str(value)


def required(table: type[BaseModel], key: str) -> bool:
    """Whether a table cannot be without this key."""
    return key in REQUIRED.get(table, ())
