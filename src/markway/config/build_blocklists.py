"""From the tables `[blocklist]` and `[allowlist]` of all files to what they say of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from markway.config.blocklisting import DAY, HOUR, Blocklist, Blocklisting, Way
from markway.config.build_shape import all_named
from markway.config.kinds import at
from markway.config.packets import parse_device
from markway.config.problems import Place, WrongValue, quote
from markway.config.texts import parse_file, parse_word
from markway.config.units import parse_rate, parse_timeout
from markway.config.values import networks_of, parse_each, value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.model import Network, SourceRate
    from markway.config.problems import Report
    from markway.config.schema import File
    from markway.config.schema_blocklists import BlocklistTable

_OF_URLS = ("every", "minimum-age", "timeout", "ca")


def blocklisting_of(files: Sequence[tuple[int, File]], report: Report) -> Blocklisting:
    """What all files say of lists together."""
    tables = all_named("blocklist", [(source, file.blocklist) for source, file in files], report)
    return Blocklisting(tuple(_blocklist(place, table, report) for place, table in tables), _allowed(files, report))


def _allowed(files: Sequence[tuple[int, File]], report: Report) -> tuple[Network, ...]:
    found: Place | None = None
    networks: tuple[Network, ...] = ()
    for source, file in files:
        place = Place(source, ("allowlist",))
        if file.allowlist is None:
            continue
        if found is not None:
            report.error(place, "[allowlist] is already defined", other=found)
            continue
        found, networks = place, networks_of(place, "networks", file.allowlist.networks, report)
        if not (networks or report.doubtful(place, "networks")):
            report.error(place, "nothing says who is allowed", 'for example networks = ["192.0.2.0/24"]')
    return networks


def _blocklist(place: Place, table: BlocklistTable, report: Report) -> Blocklist:
    doubtful = report.doubtful(place, "file") or report.doubtful(place, "url")
    if table.file is None and table.url is None and not doubtful:
        report.error(place, "nothing says where the list is", 'for example file = "/etc/markway/drones.txt"')
    if table.file is not None and table.url is not None:
        report.error(place, "file and url at once: a list has one source", "make two lists of them")
    if table.file is not None and table.url is None:
        for key in _OF_URLS:
            if getattr(table, key.replace("-", "_")) is not None:
                report.error(at(place, key), "a file has no use for it: it is read whenever it changes", "leave it out")
    every = value_of(at(place, "every"), table.every, parse_timeout, int(DAY), report)
    age = value_of(at(place, "minimum-age"), table.minimum_age, parse_timeout, min(int(HOUR), every), report)
    if age > every:
        key = "every" if table.minimum_age is None else "minimum-age"
        report.error(
            at(place, key), f"the URL is asked every {every} s, which is sooner than {age} s", "make it shorter"
        )
    if table.devices == []:
        report.error(at(place, "devices"), "by no device nothing is refused", "leave it out for all")
    return Blocklist(
        name=str(place.path[-1]),
        file=value_of(at(place, "file"), table.file, parse_file, "", report),
        url=value_of(at(place, "url"), table.url, _url, "", report),
        every=every,
        minimum_age=age,
        timeout=value_of(at(place, "timeout"), table.timeout, parse_timeout, 60, report),
        ca=value_of(at(place, "ca"), table.ca, parse_file, "", report),
        least=table.least or 1,
        direction=Way(table.direction),
        devices=tuple(
            dict.fromkeys(one for _, one in parse_each(place, "devices", table.devices, parse_device, report))
        ),
        allow=networks_of(place, "allow", table.allow or None, report),
        log=_log(at(place, "log"), table.log, report),
        origin=place.path,
    )


def _log(where: Place, given: str | bool | None, report: Report) -> SourceRate | None:
    if given is True:
        report.error(where, "nothing says how often", 'for example log = "10/minute"')
    return None if isinstance(given, bool) else value_of(where, given, parse_rate, None, report)


def _url(text: str) -> str:
    """A URL of HTTP or HTTPS."""
    parse_word(text)
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and text.isascii()
    except ValueError:
        usable = False
    if not usable or " " in text:
        raise WrongValue(
            f"{quote(text)} is no URL of http or https", 'for example "https://lists.example.org/drones.txt"'
        )
    if parts.username is not None:
        raise WrongValue("a URL with a password is not supported", "leave out what is before the @")
    return text
