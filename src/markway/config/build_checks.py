"""From a service's table `check`, and the keys that go with it, to the model's values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from markway.config.kinds import at, attribute, check_port, kind_of, of_no_use, program_of, without
from markway.config.model import POLICIES, Check, CheckKind, LoadKind, Protocol, Schedule
from markway.config.problems import quote
from markway.config.texts import (
    parse_bytes,
    parse_file,
    parse_host,
    parse_pattern,
    parse_policy,
    parse_question,
    parse_server_name,
    parse_statuses,
    parse_url_path,
    parse_word,
)
from markway.config.units import parse_interval, parse_notice
from markway.config.values import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markway.config.model import Backend, Load
    from markway.config.problems import Place, Report
    from markway.config.schema import ServiceTable
    from markway.config.schema_checks import Check as CheckTable
    from markway.config.values import Claim

T = TypeVar("T")

_EXCHANGES = {CheckKind.TCP, CheckKind.UDP}
_HTTP = {CheckKind.HTTP, CheckKind.HTTPS}
_HTTPS = {CheckKind.HTTPS}
_LOGINS = {CheckKind.MYSQL, CheckKind.POSTGRESQL}
_USES = {
    "port": {*CheckKind} - {CheckKind.PING, CheckKind.AGENT},
    "send": _EXCHANGES,
    "expect": _EXCHANGES,
    "status": _HTTP,
    "body": _HTTP,
    "host": _HTTP,
    "sni": _HTTPS,
    "verify": _HTTPS,
    "ca": _HTTPS,
    "expiry-warning": _HTTPS,
    "record": {CheckKind.DNS},
    "user": _LOGINS,
    "password-file": {*_LOGINS, CheckKind.REDIS},
    "database": {CheckKind.POSTGRESQL},
}
"""Keys that only some kinds have a use for."""

_ASKED_WITHOUT_PORT = {CheckKind.PING, CheckKind.COMMAND, CheckKind.AGENT}
_EVERY = 2.0
_LONGEST_TIMEOUT = 2.0
_EXPIRY_WARNING = 14 * 86400.0


def check_of(place: Place, table: ServiceTable, backends: Sequence[Backend], report: Report) -> Check | None:
    """The service's check."""
    if table.check is None:
        return None
    where = at(place, "check")
    kind = kind_of(where, table.check, CheckKind, report)
    if kind is None:
        return None
    given = _useful(where, table.check, kind, report)
    if kind not in _ASKED_WITHOUT_PORT and given.port is None:
        check_port(where, kind, backends, report)

    def read(key: str, parse: Callable[[str], T], default: T) -> T:
        value = getattr(given, attribute(key))
        return value_of(at(where, key), None if value is None else str(value), parse, default, report)

    every, fast, timeout = _times(where, given, report)
    return Check(
        kind=kind, every=every, fast=fast, timeout=timeout, rise=given.rise, fall=given.fall,
        jitter=given.jitter / 100,
        passive=given.passive,
        port=given.agent or given.port,
        target=_target(where, given, kind, report),
        send=read("send", parse_bytes, b""),
        expect=read("expect", parse_bytes, b""),
        status=read("status", parse_statuses, ((200, 399),)),
        body=read("body", parse_pattern, ""),
        host=read("host", parse_host, ""),
        sni=read("sni", parse_server_name, ""),
        verify=given.verify,
        ca=read("ca", parse_file, ""),
        expiry_warning=read("expiry-warning", parse_notice, _EXPIRY_WARNING),
        record=given.record,
        command=program_of(where, given.command, report),
        user=(user := read("user", parse_word, "")),
        password_file=read("password-file", parse_file, ""),
        database=read("database", parse_word, user),
    )  # fmt: skip


def _useful(where: Place, given: CheckTable, kind: CheckKind, report: Report) -> CheckTable:
    """The table as this kind of check has it; what is too much or missing is reported."""
    given = without(where, given, f"a check by {kind}", of_no_use(kind, _USES), report)
    if not given.verify:
        given = without(where, given, "a check that does not verify", {"ca": "leave out verify = false"}, report)
    if kind in _LOGINS and given.user is None and not report.doubtful(where, "user"):
        hint = 'name one: user = "markway"'
        without(where, given, "a check without a user", {"password-file": hint, "database": hint}, report)
    if kind is CheckKind.UDP and given.send is None:
        report.missing(where, "send", "a check by udp has to send something", r"for example send = 'ping\n'")
    return given


def _times(where: Place, given: CheckTable, report: Report) -> tuple[float, float, float]:
    """Seconds: from one check to the next, the same when it matters, and for one answer."""
    every = value_of(at(where, "every"), given.every, parse_interval, _EVERY, report)
    fast = value_of(at(where, "fast"), given.fast, parse_interval, every / 4, report)
    timeout = value_of(at(where, "timeout"), given.timeout, parse_interval, min(every / 2, _LONGEST_TIMEOUT), report)
    if report.doubtful(where, "every"):
        return every, fast, timeout
    if fast > every:
        report.error(
            at(where, "fast"),
            f"longer than every, which is {every:g} s",
            f'for example fast = "{max(every / 4, 0.05):g}s"',
        )
    if timeout > every:
        report.warning(
            at(where, "timeout"), f"longer than every: while there is no answer, a check comes every {timeout:g} s only"
        )
    return every, fast, timeout


def _target(where: Place, given: CheckTable, kind: CheckKind, report: Report) -> str:
    """The path of HTTP, the name of DNS; other kinds have none."""
    if kind is CheckKind.DNS:
        return value_of(at(where, "dns"), given.dns, parse_question, "", report)
    path = given.https if kind is CheckKind.HTTPS else given.http
    return value_of(at(where, kind), path, parse_url_path, "", report)


def slow_start_of(place: Place, table: ServiceTable, report: Report) -> float:
    """How many seconds a backend takes to come back; 0 for none."""
    found = value_of(at(place, "slow-start"), table.slow_start, parse_interval, 0.0, report)
    if table.slow_start is not None and table.check is None and not report.doubtful(place, "check"):
        what = "without a check no backend is ever seen to come back"
        report.error(at(place, "slow-start"), what, "for example check = { tcp = true }")
    return found


def cuts_orphans(place: Place, table: ServiceTable, claims: Sequence[Claim], report: Report) -> bool:
    """Whether TCP connections of dead or removed backends are cut."""
    cut = table.orphans == "cut"
    if cut and claims and all(claim.listener.protocol is Protocol.UDP for claim in claims):
        report.error(at(place, "orphans"), "the service has no TCP connections; UDP flows always move", "leave it out")
    return cut


def policy_of(place: Place, table: ServiceTable, load: Load | None, report: Report) -> str:
    """Who chooses under a queued schedule; empty under any other."""
    where = at(place, "policy")
    schedule = Schedule(table.schedule)
    if table.policy is not None and schedule is not Schedule.QUEUE and not report.doubtful(place, "schedule"):
        report.error(where, f"schedule {quote(schedule)} has no policy", 'write schedule = "queue"')
        return ""
    default = POLICIES[0] if schedule is Schedule.QUEUE else schedule.value if schedule.queued else ""
    policy = value_of(at(place, "policy"), table.policy, parse_policy, default, report)
    if policy == Schedule.LEAST_LOAD and not report.doubtful(place, "load"):
        said = at(place, "schedule" if schedule is Schedule.LEAST_LOAD else "policy")
        if load is None and table.load is None:
            report.warning(
                said, "nothing tells the load: shares are by weight", 'for example load = { snmp = "laLoadInt.1" }'
            )
        elif load is not None and load.kind is LoadKind.AGENT:
            report.warning(said, "an agent tells weights, not loads: shares are by weight", "read the load by snmp")
    return policy
