"""From a service's table `load` to the model's value."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from markway.config.kinds import at, attribute, check_port, kind_of, of_no_use, program_of, without
from markway.config.messages import describe
from markway.config.model import Load, LoadKind
from markway.config.texts import parse_field, parse_file, parse_object, parse_url_path, parse_word
from markway.config.units import parse_interval
from markway.config.values import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markway.config.model import Backend
    from markway.config.problems import Place, Report
    from markway.config.schema import ServiceTable
    from markway.config.schema_checks import Load as LoadTable

T = TypeVar("T")

_SNMP = {LoadKind.SNMP}
_MEASURED = {*LoadKind} - {LoadKind.AGENT}
_USES = {
    "port": {LoadKind.SNMP, LoadKind.HTTP, LoadKind.COMMAND},
    "full": _MEASURED,
    "floor": _MEASURED,
    "field": {LoadKind.HTTP},
    "version": _SNMP,
    "community-file": _SNMP,
    "user": _SNMP,
    "auth": _SNMP,
    "auth-file": _SNMP,
    "privacy": _SNMP,
    "privacy-file": _SNMP,
}
"""Keys that only some kinds have a use for."""

_OF_VERSION_3 = dict.fromkeys(("user", "auth", "auth-file", "privacy", "privacy-file"), 'write version = "3"')
_OF_VERSION_2C = {"community-file": "SNMP 3 has users instead"}

_FULL = {"laLoad": 1.0, "laLoadInt": 100.0, "hrProcessorLoad": 100.0, "ifInOctets": 12.5e6, "ifOutOctets": 12.5e6}
_LEAST_FULL, _MOST_FULL = 1e-6, 1e18
_EVERY = 5.0
_LONGEST_TIMEOUT = 2.0


def load_of(place: Place, table: ServiceTable, backends: Sequence[Backend], report: Report) -> Load | None:
    """Where the service's backends' load is read."""
    if table.load is None:
        return None
    where = at(place, "load")
    kind = kind_of(where, table.load, LoadKind, report)
    if kind is None:
        return None
    _check_agents(place, table, kind, report)
    given = _useful(where, table.load, kind, report)
    if kind is LoadKind.HTTP and given.port is None:
        check_port(where, kind, backends, report)

    def read(key: str, parse: Callable[[str], T], default: T) -> T:
        return value_of(at(where, key), getattr(given, attribute(key)), parse, default, report)

    every, timeout, stale = _times(where, given, report)
    return Load(
        kind=kind, every=every, timeout=timeout, stale=stale,
        full=_full(where, given, report),
        floor=given.floor / 100,
        port=given.agent or given.port,
        target=read("http", parse_url_path, "") if kind is LoadKind.HTTP else read("snmp", parse_object, ""),
        field=read("field", parse_field, ()),
        command=program_of(where, given.command, report),
        version=given.version,
        community_file=read("community-file", parse_file, ""),
        user=read("user", parse_word, ""),
        auth=given.auth or "",
        auth_file=read("auth-file", parse_file, ""),
        privacy=given.privacy or "",
        privacy_file=read("privacy-file", parse_file, ""),
    )  # fmt: skip


def _useful(where: Place, given: LoadTable, kind: LoadKind, report: Report) -> LoadTable:
    """The table as this kind of load has it; what is too much or missing is reported."""
    given = without(where, given, f"a load by {kind}", of_no_use(kind, _USES), report)
    if kind is LoadKind.HTTP and given.field is None:
        report.missing(where, "field", "nothing says where in the JSON the number is", 'for example field = "load"')
    if kind is not LoadKind.SNMP or report.doubtful(where, "version"):
        return given
    useless = _OF_VERSION_2C if given.version == "3" else _OF_VERSION_3
    given = without(where, given, f"SNMP {given.version}", useless, report)
    if given.version == "3":
        _check_user(where, given, report)
    return given


def _check_user(where: Place, given: LoadTable, report: Report) -> None:
    """Report what SNMP 3 lacks: a user, who has no privacy without authentication (RFC 3414, 3.1.7), and no keys."""
    if given.user is None:
        report.missing(where, "user", "SNMP 3 needs a user", 'for example user = "markway"')
    if given.privacy and given.auth is None:
        report.missing(where, "auth", "privacy needs auth as well", 'for example auth = "sha"')
    for key in ("auth", "privacy"):
        way, file = getattr(given, key), getattr(given, f"{key}_file")
        if way and file is None:
            hint = f'write it into a file: {key}-file = "/etc/markway/snmp.{key}"'
            report.missing(where, f"{key}-file", f"{key} needs a passphrase", hint)
        if file is not None and not way:
            example = {"auth": "sha", "privacy": "aes"}[key]
            report.missing(where, key, f"{key}-file is there and {key} is not", f'for example {key} = "{example}"')


def _check_agents(place: Place, table: ServiceTable, kind: LoadKind, report: Report) -> None:
    """Report two that say how much of its weight a backend gets."""
    if table.check is None or table.check.agent is None:
        return
    where = at(place, "load")
    if kind is LoadKind.AGENT:
        report.error(where, "the check asks an agent, whose percentage counts there too", "leave load out")
    else:
        report.warning(where, "a percentage from the check's agent changes the same weights", "let the agent give none")


def _times(where: Place, given: LoadTable, report: Report) -> tuple[float, float, float]:
    """Seconds: from one reading to the next, for one answer, and until a reading is forgotten."""
    every = value_of(at(where, "every"), given.every, parse_interval, _EVERY, report)
    timeout = value_of(at(where, "timeout"), given.timeout, parse_interval, min(every, _LONGEST_TIMEOUT), report)
    stale = value_of(at(where, "stale"), given.stale, parse_interval, 3 * every, report)
    if report.doubtful(where, "every"):
        return every, timeout, stale
    if timeout > every:
        report.warning(at(where, "timeout"), "longer than every: one slow backend delays the readings of all")
    if stale < every:
        what = f"shorter than every, which is {every:g} s: a reading would be forgotten before the next"
        report.error(at(where, "stale"), what, f'for example stale = "{3 * every:g}s"')
    return every, timeout, stale


def _full(where: Place, given: LoadTable, report: Report) -> float:
    """The reading of a fully loaded backend."""
    usual = _FULL.get((given.snmp or "").partition(".")[0], 100.0)
    if given.full is None:
        return usual
    if not _LEAST_FULL <= given.full <= _MOST_FULL:
        what = f"no load is measured against {describe(given.full)}"
        report.error(at(where, "full"), what, f"for example full = {usual:g}")
        return usual
    return float(given.full)
