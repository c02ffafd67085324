"""From the tables `check`, `load` and `[api]` to the model's values."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from markway.config.addresses import parse_endpoint
from markway.config.model import Api, Check, CheckKind, Load, LoadKind, Schedule
from markway.config.problems import Place, Report, WrongValue, listed, quote
from markway.config.units import parse_interval, parse_timeout
from markway.config.values import parse_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from markway.config.schema import File, ServiceTable
    from markway.config.schema_checks import Check as CheckTable
    from markway.config.schema_checks import Load as LoadTable

K = TypeVar("K", bound=StrEnum)

TWO_CHOICES = "two-choices"

_POLICY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_EXCHANGES = {CheckKind.TCP, CheckKind.UDP}
_HTTP = {CheckKind.HTTP, CheckKind.HTTPS}
_LOGINS = {CheckKind.MYSQL, CheckKind.POSTGRESQL}
_OF_CHECKS: dict[str, set[CheckKind]] = {
    "send": _EXCHANGES,
    "expect": _EXCHANGES,
    "status": _HTTP,
    "body": _HTTP,
    "host": _HTTP,
    "sni": {CheckKind.HTTPS},
    "ca": {CheckKind.HTTPS},
    "expiry-warning": {CheckKind.HTTPS},
    "user": _LOGINS,
    "password-file": {*_LOGINS, CheckKind.REDIS},
    "database": {CheckKind.POSTGRESQL},
}
_OF_LOADS: dict[str, set[LoadKind]] = {
    "field": {LoadKind.HTTP},
    "community-file": {LoadKind.SNMP},
    "user": {LoadKind.SNMP},
    "auth": {LoadKind.SNMP},
    "auth-file": {LoadKind.SNMP},
    "privacy": {LoadKind.SNMP},
    "privacy-file": {LoadKind.SNMP},
}
"""Keys that only some kinds have a use for."""

_FULL = {"laLoad": 1.0, "laLoadInt": 100.0, "hrProcessorLoad": 100.0, "ifInOctets": 12.5e6, "ifOutOctets": 12.5e6}
_LONGEST_TIMEOUT = 2.0
_EVERY_CHECK, _EVERY_LOAD = 2.0, 5.0
_DAY = 86400.0


def seconds_of(place: Place, key: str, text: str | None, default: float, report: Report) -> float:
    """A duration in seconds."""
    found = parse_each(place, key, text, parse_interval, report)
    return found[0][1] if found else default


def policy_of(place: Place, table: ServiceTable, report: Report) -> str:
    """Who chooses under a queued schedule; empty under any other."""
    where = Place(place.source, (*place.path, "policy"))
    if table.policy is None:
        return "" if not Schedule(table.schedule).queued else _policy_named(table.schedule)
    if table.schedule != "queue":
        report.error(where, f'schedule "{table.schedule}" has no policy', 'write schedule = "queue"')
    elif table.policy != TWO_CHOICES and _POLICY.fullmatch(table.policy) is None:
        hint = f'"{TWO_CHOICES}", or a callable such as "shop.balance:by_customer"'
        report.error(where, f"{quote(table.policy)} is no policy", hint)
    return table.policy


def _policy_named(schedule: str) -> str:
    return TWO_CHOICES if schedule == "queue" else schedule


def check_of(place: Place, table: ServiceTable, report: Report) -> Check | None:
    """The service's check."""
    if table.check is None:
        return None
    where = Place(place.source, (*place.path, "check"))
    given = table.check
    kind = _kind(where, given, CheckKind, report)
    if kind is None:
        return None
    _useless(where, given, kind, _OF_CHECKS, report)
    _needed(where, given, kind, report)
    every = seconds_of(where, "every", given.every, _EVERY_CHECK, report)
    timeout = seconds_of(where, "timeout", given.timeout, min(every / 2, _LONGEST_TIMEOUT), report)
    _pattern(where, given.body, report)
    if not (given.port or given.agent):
        _portless(table, where, kind, report)
    return Check(
        kind=kind,
        every=every,
        fast=min(seconds_of(where, "fast", given.fast, every / 4, report), every),
        timeout=timeout,
        rise=given.rise,
        fall=given.fall,
        jitter=given.jitter / 100,
        passive=given.passive,
        port=given.agent or given.port,
        target=given.http or given.https or given.dns or "",
        send=_octets(where, "send", given.send, report),
        expect=_octets(where, "expect", given.expect, report),
        status=_statuses(where, given.status, report),
        body=given.body or "",
        host=given.host or "",
        sni=given.sni or given.host or "",
        verify=given.verify,
        ca=given.ca or "",
        expiry_warning=_warned_before(where, given, report),
        record=given.record,
        command=tuple(given.command or ()),
        user=given.user or "",
        password_file=given.password_file or "",
        database=given.database or given.user or "",
    )


def _warned_before(where: Place, given: CheckTable, report: Report) -> float:
    """How long before its end a certificate is warned of; longer than an interval may be."""
    found = parse_each(where, "expiry-warning", given.expiry_warning, parse_timeout, report)
    return float(found[0][1]) if found else 14 * _DAY


def load_of(place: Place, table: ServiceTable, report: Report) -> Load | None:
    """Where the service's backends' load is read."""
    if table.load is None:
        return None
    where = Place(place.source, (*place.path, "load"))
    given = table.load
    kind = _kind(where, given, LoadKind, report)
    if kind is None:
        return None
    _useless(where, given, kind, _OF_LOADS, report)
    _snmp(where, given, kind, report)
    every = seconds_of(where, "every", given.every, _EVERY_LOAD, report)
    if given.full is not None and given.full <= 0:
        report.error(
            Place(where.source, (*where.path, "full")), "a fully loaded backend reads more than 0", "full = 100"
        )
    return Load(
        kind=kind,
        every=every,
        timeout=seconds_of(where, "timeout", given.timeout, _LONGEST_TIMEOUT, report),
        stale=seconds_of(where, "stale", given.stale, 3 * every, report),
        full=float(given.full or _FULL.get((given.snmp or "").partition(".")[0], 100.0)),
        floor=given.floor / 100,
        port=given.agent or given.port,
        target=given.snmp or given.http or "",
        field=tuple((given.field or "").split(".")) if given.field else (),
        command=tuple(given.command or ()),
        version=given.version,
        community_file=given.community_file or "",
        user=given.user or "",
        auth=given.auth or "",
        auth_file=given.auth_file or "",
        privacy=given.privacy or "",
        privacy_file=given.privacy_file or "",
    )


def api_of(files: Sequence[tuple[int, File]], report: Report) -> Api | None:
    """Where the daemon answers over TCP; None for the Unix socket alone."""
    found: Api | None = None
    seen: Place | None = None
    for source, file in files:
        if file.api is None:
            continue
        place = Place(source, ("api",))
        if seen:
            report.error(place, "[api] is already defined", other=seen)
            continue
        seen = place
        endpoint = parse_each(place, "listen", file.api.listen, parse_endpoint, report)
        if not endpoint:
            report.missing(place, "listen", "the API listens nowhere", 'for example listen = "127.0.0.1:8480"')
            continue
        address, port = endpoint[0][1]
        if not file.api.token_file:
            report.missing(
                place, "token-file", "anybody who reaches this address could change the machine",
                'write a token into a file only root can read: token-file = "/etc/markway/api.token"',
            )  # fmt: skip
        if bool(file.api.certificate) != bool(file.api.key):
            report.error(place, "a certificate and its key belong together", "give both, or none")
        found = Api(address, port or 0, file.api.token_file or "", file.api.certificate or "", file.api.key or "")
    return found


def _kind(where: Place, given: BaseModel, kinds: type[K], report: Report) -> K | None:
    """The one key that says how to ask."""
    named = [kind for kind in kinds if getattr(given, kind.value) is not None]
    if len(named) == 1:
        return named[0]
    words = [f"`{kind.value}`" for kind in kinds]
    if named:
        report.error(where, f"{listed([quote(kind) for kind in named], 'and')} at once: only one can ask", "keep one")
    elif not any(report.doubtful(where, kind.value) for kind in kinds):
        report.error(where, "nothing says how to ask", f"there are {listed(words, 'and')}")
    return None


def _useless(
    where: Place, given: BaseModel, kind: StrEnum, uses: dict[str, set[CheckKind]] | dict[str, set[LoadKind]],
    report: Report,
) -> None:  # fmt: skip
    for key, users in uses.items():
        if kind not in users and getattr(given, key.replace("-", "_")) is not None:
            names = listed([f"`{user}`" for user in sorted(users)], "and")
            report.error(Place(where.source, (*where.path, key)), f"{kind} has no use for it", f"it is for {names}")


def _needed(where: Place, given: CheckTable, kind: CheckKind, report: Report) -> None:
    if kind is CheckKind.UDP and given.send is None:
        report.missing(where, "send", "a udp check must send something", 'for example send = "\\\\x00"')
    if kind in _HTTP and not (given.http or given.https or "").startswith("/"):
        report.error(Place(where.source, (*where.path, kind.value)), "a path starts with a /", f'{kind} = "/"')
    if kind is CheckKind.COMMAND and not given.command:
        report.error(Place(where.source, (*where.path, "command")), "there is no program", 'command = ["/bin/true"]')


def _snmp(where: Place, given: LoadTable, kind: LoadKind, report: Report) -> None:
    if kind is LoadKind.HTTP and not given.field:
        report.missing(where, "field", "nothing says where in the JSON the number is", 'for example field = "load"')
    if kind is LoadKind.SNMP and given.version == "3" and not given.user:
        report.missing(where, "user", "SNMP 3 needs a user", 'for example user = "markway"')
    if given.privacy and not given.auth:
        report.error(Place(where.source, (*where.path, "privacy")), "privacy needs auth too (RFC 3414)", 'auth = "sha"')
    for key, file in (("auth", given.auth_file), ("privacy", given.privacy_file)):
        if getattr(given, key) and not file:
            report.missing(where, f"{key}-file", f"{key} needs a passphrase", f"write it into a file: {key}-file = …")


def _portless(table: ServiceTable, where: Place, kind: CheckKind, report: Report) -> None:
    """Report backends that keep the client's port, where there is no client to tell it."""
    if kind in {CheckKind.PING, CheckKind.COMMAND}:
        return
    for row in table.backend.values():
        texts = [row.address] if isinstance(row.address, str) else row.address or []
        if any(_without_port(text) for text in texts):
            report.missing(where, "port", "a backend has no port of its own to ask", "port = 80")
            return


def _without_port(text: str) -> bool:
    try:
        return parse_endpoint(text).port is None
    except WrongValue:
        return False


def _pattern(where: Place, text: str | None, report: Report) -> None:
    try:
        re.compile(text or "")
    except re.error as error:
        report.error(Place(where.source, (*where.path, "body")), f"{quote(text or '')} is no pattern: {error}")


def _octets(where: Place, key: str, text: str | None, report: Report) -> bytes:
    r"""A text as bytes, in which \xHH, \r, \n, \t, \0 and \\ stand for one each."""
    if text is None:
        return b""
    named = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
    found = b""
    for match in re.finditer(r"\\(x[0-9a-fA-F]{2}|.|$)|[^\\]+", text, re.DOTALL):
        if match[1] is None:
            found += match[0].encode()
        elif match[1][:1] == "x" and len(match[1]) == 3:  # noqa: PLR2004
            found += bytes.fromhex(match[1][1:])
        elif match[1] in named:
            found += named[match[1]]
        else:
            place = Place(where.source, (*where.path, key))
            report.error(place, f"{quote(match[0])} means nothing", r"write \\xHH for a byte, \\\\ for a backslash")
    return found


def _statuses(where: Place, value: str | int | None, report: Report) -> tuple[tuple[int, int], ...]:
    if value is None:
        return ((200, 399),)
    if re.fullmatch(r"[1-5]\d\d(-[1-5]\d\d)?(,[1-5]\d\d(-[1-5]\d\d)?)*", str(value)) is None:
        report.error(Place(where.source, (*where.path, "status")), f"{value} is no HTTP status", '"200-299,401"')
        return ()
    ends = [part.partition("-") for part in str(value).split(",")]
    return tuple((int(first), int(last or first)) for first, _, last in ends)
