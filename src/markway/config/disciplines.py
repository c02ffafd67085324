"""Queueing disciplines: which options each kind has (tc-sfq(8), tc-tbf(8), …), and what tc is told of them."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from markway.config.kinds import at, attribute, of_no_use, without
from markway.config.problems import WrongValue, quote
from markway.config.rates import parse_bandwidth, parse_size
from markway.config.schema_disciplines import DisciplineTable
from markway.config.shaping import Discipline
from markway.config.units import parse_span
from markway.config.values import value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.config.problems import Place, Report

CLASSFUL = ("htb", "prio")
"""Kinds that hold a shape's classes."""

_LONGEST = 3600
_TBF_BURST, _TBF_LATENCY = Fraction(4, 1000), "50ms"
_LEAST_BURST = 2000  # bytes; no packet of Ethernet fits into less


def _packets(text: str) -> str:
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise WrongValue(f"{quote(text)} is no number of packets", "1 to 1000000, without a unit")
    return text


def _few_packets(text: str) -> str:
    if _packets(text) == "1":
        raise WrongValue("one packet is none to share with", "2 or more")  # sfq_change, net/sched/sch_sfq.c
    return text


def _bytes(text: str) -> str:
    return str(parse_size(text))


def _bits(text: str) -> str:
    return f"{parse_bandwidth(text)}bit"


def _time(text: str) -> str:
    span = parse_span(text) * 10**6
    if not 1 <= span <= _LONGEST * 10**6:
        raise WrongValue(f"{quote(text)} is too {'short' if span < 1 else 'long'}", "1us to 1h")
    return f"{int(span)}us"


def _seconds(text: str) -> str:
    span = parse_span(text)
    if span.denominator != 1 or span > _LONGEST:
        raise WrongValue(f"{quote(text)} is not a whole number of seconds up to an hour", 'for example "10s"')
    return str(span)


def _power_of_two(text: str) -> str:
    number = int(text)
    if number & (number - 1):
        raise WrongValue(f"{number} is not a power of two", f"did you mean {1 << number.bit_length() - 1}?")
    return text


class _Option(NamedTuple):
    """An option by its key in the file, and what tc is told of a value: a word, and what follows it if anything."""

    key: str
    told: Callable[[str | int], tuple[str, str]]


def _option(key: str, parse: Callable[[str], str] = str, word: str = "") -> _Option:
    return _Option(key, lambda value: (word or key, parse(str(value))))


def _switch(key: str, off: str, **more: str) -> _Option:
    words: dict[str | int, str] = {True: key, False: off}
    words.update(more)
    return _Option(key, lambda value: (words[value], ""))


def _bare(key: str) -> _Option:
    """One whose value is the word."""
    return _Option(key, lambda value: (str(value), ""))


_OPTIONS: dict[str, tuple[_Option, ...]] = {
    "htb": (),
    "tbf": (
        _option("rate", _bits), _option("burst", _bytes), _option("latency", _time), _option("limit", _bytes),
        _option("peakrate", _bits), _option("mtu", _bytes),
    ),
    "prio": (_option("bands"),),
    "sfq": (
        _option("limit", _few_packets), _option("perturb", _seconds), _option("quantum", _bytes), _option("flows"),
        _option("divisor", _power_of_two), _option("depth"),
    ),
    "fq_codel": (
        _option("limit", _packets), _option("flows"), _option("target", _time), _option("interval", _time),
        _option("quantum", _bytes), _switch("ecn", "noecn"), _option("ce-threshold", _time, "ce_threshold"),
        _option("memory-limit", _bytes, "memory_limit"),
    ),
    "cake": (
        _option("bandwidth", _bits), _bare("diffserv"), _bare("isolation"), _switch("nat", "nonat"),
        _switch("wash", "nowash"), _switch("ack-filter", "no-ack-filter", aggressive="ack-filter-aggressive"),
        _switch("split-gso", "no-split-gso"), _switch("ingress", "egress"), _option("rtt", _time),
        _option("memory-limit", _bytes, "memlimit"),
    ),
    "fq": (
        _option("limit", _packets), _option("flow-limit", word="flow_limit"), _option("quantum", _bytes),
        _option("maxrate", _bits), _switch("pacing", "nopacing"), _option("ce-threshold", _time, "ce_threshold"),
    ),
    "pfifo": (_option("limit", _packets),),
    "bfifo": (_option("limit", _bytes),),
    "pfifo_fast": (),
}  # fmt: skip

_USES: dict[str, list[str]] = {}
for _kind, _options in _OPTIONS.items():
    for _one in _options:
        _USES.setdefault(_one.key, []).append(_kind)


def discipline_of(where: Place, given: str | DisciplineTable | None, default: Discipline, report: Report) -> Discipline:
    """The discipline at a key, which holds its name or a table; the default if there is none, or it is unsure."""
    if given is None:
        return default
    table = DisciplineTable.model_validate({"kind": given}) if isinstance(given, str) else given
    if table.kind is None:
        report.missing(where, "kind", "nothing says which discipline it is", 'for example kind = "sfq"')
        return default
    useful = without(where, table, table.kind, of_no_use(table.kind, _USES), report)
    found: list[tuple[str, str]] = []
    for key, told in _OPTIONS[table.kind]:
        option = value_of(at(where, key), getattr(useful, attribute(key)), told, None, report)
        found += [] if option is None else [option]
    if table.kind == "tbf":
        found = _bucket(where, useful, found, report)
    return Discipline(table.kind, tuple(found), table.strict)


def _bucket(
    where: Place, table: DisciplineTable, found: list[tuple[str, str]], report: Report
) -> list[tuple[str, str]]:
    """The options of tbf, of which tc wants a burst, and a limit or a latency, but not both (tc-tbf(8))."""
    if table.latency is not None and table.limit is not None:
        report.error(at(where, "limit"), "latency and limit say the same", "keep one of them")
    if (table.peakrate is None) != (table.mtu is None):
        key, other = ("mtu", "peakrate") if table.peakrate is None else ("peakrate", "mtu")
        report.error(at(where, key), f"without {other} it means nothing", 'for example mtu = "1540"')
    if table.latency is None and table.limit is None:
        found.append(("latency", _time(_TBF_LATENCY)))
    rate = dict(found).get("rate")
    if rate is not None and table.burst is None:
        found.append(("burst", _usual_burst(int(rate.removesuffix("bit")))))
    return found


def _usual_burst(rate: int) -> str:
    return str(max(_LEAST_BURST, int(rate * _TBF_BURST / 8)))


def leaf_of(where: Place, given: str | DisciplineTable | None, report: Report) -> Discipline | None:
    """The discipline of what waits in a class; None if the file does not say."""
    if given is None:
        return None
    leaf = discipline_of(where, given, Discipline("fq_codel"), report)
    if leaf.kind == "htb":
        report.error(where, "htb holds classes, and a leaf has none", 'for example leaf = "fq_codel"')
    if leaf.kind == "tbf" and "rate" not in dict(leaf.options):
        hint = 'for example { kind = "tbf", rate = "500kbit" }'
        report.missing(where, "rate", "tbf keeps to a rate, and has none", hint)
    return leaf


def with_rate(discipline: Discipline, rate: int, burst: int | None = None, overhead: int = 0) -> Discipline:
    """The discipline with what its shape says of the rate, where the kind keeps to one."""
    known = dict(discipline.options)
    more = {"tbf": {"rate": f"{rate}bit"}, "cake": {"bandwidth": f"{rate}bit"} if rate else {}}.get(discipline.kind, {})
    if overhead and discipline.kind in {"tbf", "cake"}:
        more["overhead"] = str(overhead)
    options = more | known
    if discipline.kind == "tbf":
        options = {"rate": "", "burst": str(burst) if burst else _usual_burst(rate)} | options
    return Discipline(discipline.kind, tuple(options.items()), discipline.strict)
