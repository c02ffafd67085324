"""Tables in which one key says what kind they are, and where other keys are of use to some kinds only."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from markway.config.addresses import PORT_NAMES
from markway.config.problems import Place, Report, WrongValue, listed, quote
from markway.config.texts import parse_argument, parse_program

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from markway.config.model import Backend

K = TypeVar("K", bound=StrEnum)
W = TypeVar("W", bound=str)
M = TypeVar("M", bound=BaseModel)

_MANY = 4


def kind_of(where: Place, table: BaseModel, kinds: type[K], report: Report) -> K | None:
    """The one key that says how to ask; None if there is none, or it is not sure which."""
    if any(report.doubtful(where, kind.value) for kind in kinds):
        return None
    named = [kind for kind in kinds if getattr(table, kind.value) is not None]
    if len(named) == 1:
        return named[0]
    if named:
        report.error(where, f"{listed([quote(kind) for kind in named], 'and')} at once: only one can ask", "keep one")
    else:
        report.error(where, "nothing says how to ask", f"there are {listed([f'`{kind}`' for kind in kinds], 'and')}")
    return None


def of_no_use(kind: W, uses: Mapping[str, Collection[W]]) -> dict[str, str]:
    """The keys that a kind has no use for, each with a hint; `uses` tells which kinds have."""
    return {
        key: f"it is for {listed(sorted(users), 'and')}" if len(users) <= _MANY else "leave it out"
        for key, users in uses.items()
        if kind not in users
    }


def without(where: Place, table: M, what: str, useless: Mapping[str, str], report: Report) -> M:
    """The table without the keys that `what` has no use for; each that was given, even at its default, is reported."""
    names = {key: attribute(key) for key in useless}
    given = [key for key, name in names.items() if name in table.model_fields_set]
    for key in given:
        report.error(at(where, key), f"{what} has no use for it", useless[key])
    return table.model_copy(update={name: type(table).model_fields[name].default for name in map(attribute, given)})


def attribute(key: str) -> str:
    """The name of a key in its model."""
    return key.replace("-", "_")


def at(where: Place, *keys: str | int) -> Place:
    """The place of a key of a table."""
    return Place(where.source, (*where.path, *keys))


def check_port(where: Place, kind: str, backends: Iterable[Backend], report: Report) -> None:
    """Report a backend that keeps the port its client asked for, where there is no client to tell it."""
    for backend in backends:
        if any(endpoint.port is None for endpoint in backend.endpoints):
            what = f"backend {quote(backend.name)} has no port of its own, so nothing says where to ask"
            report.missing(where, "port", what, f"for example port = {PORT_NAMES.get(kind, 80)}")
            return


def program_of(where: Place, words: list[str] | None, report: Report) -> tuple[str, ...]:
    """The program and the arguments at `command`."""
    if words is None:
        return ()
    place = at(where, "command")
    if not words:
        report.error(place, "there is no program", 'for example command = ["/bin/true"]')
        return ()
    for index, word in enumerate(words):
        if at(place, index) not in report.pruned:
            parse = parse_argument if index else parse_program
            try:
                parse(word)
            except WrongValue as wrong:
                report.error(at(place, index), wrong.message, wrong.suggestion)
    return tuple(words)
