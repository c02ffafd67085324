"""From the table `[api]` to the model's value."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from markway.config.addresses import join, parse_endpoint
from markway.config.kinds import at
from markway.config.model import Api, Protocol
from markway.config.problems import Place, WrongValue, quote
from markway.config.texts import parse_file
from markway.config.values import value_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.config.model import Address
    from markway.config.problems import Report
    from markway.config.schema import File
    from markway.config.schema_checks import Api as ApiTable
    from markway.config.values import Claim


def api_of(files: Sequence[tuple[int, File]], claims: Sequence[Claim], report: Report) -> Api | None:
    """Where the daemon answers over TCP; None for the Unix socket alone. `claims` are what services listen on."""
    found: Api | None = None
    seen: Place | None = None
    for source, file in files:
        if file.api is None:
            continue
        place = Place(source, ("api",))
        if seen:
            report.error(place, "[api] is already defined", other=seen)
        else:
            seen, found = place, _api(place, file.api, claims, report)
    return found


def _api(place: Place, given: ApiTable, claims: Sequence[Claim], report: Report) -> Api | None:
    def file(key: str, text: str | None) -> str:
        return value_of(at(place, key), text, parse_file, "", report)

    if given.token_file is None:
        report.missing(
            place, "token-file", "anybody who reaches this address could change the machine",
            'write a token into a file that only root can read: token-file = "/etc/markway/api.token"',
        )  # fmt: skip
    if given.certificate is not None and given.key is None:
        report.missing(place, "key", "the certificate has no key", 'for example key = "/etc/markway/api.key"')
    if given.key is not None and given.certificate is None:
        hint = 'for example certificate = "/etc/markway/api.pem"'
        report.missing(place, "certificate", "the key has no certificate", hint)
    token, certificate, key = (
        file("token-file", given.token_file), file("certificate", given.certificate), file("key", given.key),
    )  # fmt: skip
    endpoint = value_of(at(place, "listen"), given.listen, _parse_listen, None, report)
    if endpoint is None:
        report.missing(place, "listen", "the API listens nowhere", 'for example listen = "127.0.0.1:8480"')
        return None
    _check_listen(at(place, "listen"), *endpoint, claims, report)
    if not endpoint[0].is_loopback and given.certificate is None and not report.doubtful(place, "certificate"):
        what = f"{endpoint[0]} is not this machine's alone, and the token crosses the network in the clear"
        report.warning(at(place, "listen"), what, "give a certificate and its key")
    return Api(*endpoint, token, certificate, key)


def _parse_listen(text: str) -> tuple[Address, int]:
    address, port = parse_endpoint(text)
    if port is None:
        raise WrongValue(f"{quote(text)} has no port", f"for example {quote(join(address, 8480))}")
    if address.is_multicast or (isinstance(address, IPv6Address) and address.is_link_local):
        raise WrongValue(f"nobody can listen on {address}", 'for example "127.0.0.1:8480"')
    return address, port


def _check_listen(place: Place, address: Address, port: int, claims: Sequence[Claim], report: Report) -> None:
    """Report a service that takes the API's connections."""
    for listener, other in claims:
        wanted = any(first <= port <= last for first, last in listener.ports)
        if listener.protocol is Protocol.TCP and wanted and address == listener.address:
            what = f"{join(address, port)}/tcp is already service {quote(str(other.path[1]))}'s"
            report.error(place, what, other=other)
            return
