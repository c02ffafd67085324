"""HTTP and HTTPS checks against nginx, with certificates made by openssl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel.backends import SERVER, SERVER6, Farm, run

from markway.config.model import CheckKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTP, HTTPS = CheckKind.HTTP, CheckKind.HTTPS
NAME = "shop.example"
GOOD, EXPIRED, ENDING, BY_NAME = 443, 444, 445, 446
BOTH = pytest.mark.parametrize("address", [SERVER, SERVER6])

_NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    root {directory}/pages;
    ssl_certificate {directory}/good.pem;
    ssl_certificate_key {directory}/key.pem;
    server {{
        listen 80; listen [::]:80;
        listen {good} ssl; listen [::]:{good} ssl;
        location / {{ return 200 "all is well"; }}
        location /down {{ return 503; }}
        location /moved {{ return 302 /; }}
        location /nothing {{ return 204; }}
        location /host {{ return 200 "$http_host"; }}
        location /query {{ return 200 "$request_uri"; }}
        location /pages/ {{ root {directory}; ssi on; ssi_types *; }}
        location /files/ {{ alias {directory}/pages/; }}
    }}
    server {{
        listen {expired} ssl;
        ssl_certificate {directory}/expired.pem;
        location / {{ return 200; }}
        location /down {{ return 503; }}
    }}
    server {{ listen {ending} ssl; ssl_certificate {directory}/ending.pem; location / {{ return 200; }} }}
    server {{ listen {by_name} ssl default_server; ssl_reject_handshake on; }}
    server {{ listen {by_name} ssl; server_name {name}; location / {{ return 200; }} }}
}}
"""


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as up:
        certificates(up.directory)
        pages = up.directory / "pages"
        pages.mkdir()
        (pages / "short.txt").write_text("all is well")
        (pages / "early.txt").write_text("needle" + "x" * 200_000)
        (pages / "late.txt").write_text("x" * 200_000 + "needle")
        ports = {"good": GOOD, "expired": EXPIRED, "ending": ENDING, "by_name": BY_NAME}
        up.start("nginx", "-c", up.write("nginx.conf", _NGINX.format(directory=up.directory, name=NAME, **ports)))
        up.until_open(80, *ports.values())
        yield up


def certificates(directory: Path) -> None:
    """An authority `ca.pem`, and certificates of it for shop.example and the server's addresses."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", cwd=directory)
    run("openssl", "req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=shop", cwd=directory)
    (directory / "names").write_text(f"subjectAltName=DNS:{NAME},IP:{SERVER},IP:{SERVER6}")
    for name, days in (("good", 365), ("ending", 5), ("expired", -1)):
        run(
            "openssl", "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-extfile", "names",
            "-out", f"{name}.pem", "-days", str(days), cwd=directory,
        )  # fmt: skip


@pytest.fixture(scope="module")
def ca(farm: Farm) -> str:
    return str(farm.directory / "ca.pem")


@BOTH
def test_status(farm: Farm, address: str) -> None:
    assert farm.ask(HTTP, 80, address, target="/").well
    assert farm.ask(HTTP, 80, address, target="/moved").well
    assert farm.why(HTTP, 80, address, target="/down") == "HTTP 503"
    assert farm.why(HTTP, 80, address, target="/moved", status=((200, 299), (401, 401))) == "HTTP 302"
    assert farm.ask(HTTP, 80, address, target="/down", status=((200, 299), (503, 503))).well


def test_body(farm: Farm) -> None:
    assert farm.ask(HTTP, 80, target="/", body="is w[e]ll$").well
    assert farm.why(HTTP, 80, target="/", body="ill") == "the body does not match"
    assert farm.why(HTTP, 80, target="/nothing", body="x") == "the body does not match"


@pytest.mark.parametrize("folder", ["files", "pages"])  # with a length, and in chunks
def test_the_first_64_kib_of_the_body(farm: Farm, folder: str) -> None:
    assert farm.ask(HTTP, 80, target=f"/{folder}/short.txt", body="^all is well$").well
    assert farm.ask(HTTP, 80, target=f"/{folder}/early.txt", body="^needlex{65530}$").well
    assert farm.why(HTTP, 80, target=f"/{folder}/late.txt", body="needle") == "the body does not match"


def test_both_ways_to_tell_a_body(farm: Farm) -> None:
    """That the test above meets chunks at all."""
    asked = b"GET /pages/short.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert farm.ask(CheckKind.TCP, 80, send=asked, expect=b"Transfer-Encoding: chunked").well


@pytest.mark.parametrize(("address", "host"), [(SERVER, SERVER), (SERVER6, rf"\[{SERVER6}\]")])
def test_host(farm: Farm, ca: str, address: str, host: str) -> None:
    assert farm.ask(HTTP, 80, address, target="/host", body=f"^{host}$").well
    assert farm.ask(HTTPS, GOOD, address, target="/host", body=f"^{host}$", ca=ca).well
    assert farm.ask(HTTP, 80, address, target="/host", host="www.example", body="^www.example$").well
    assert farm.ask(HTTP, 80, target="/query?a=b c%20d&é", body="^/query\\?a=b%20c%20d&%C3%A9$").well


def test_port_of_the_check(farm: Farm) -> None:
    assert farm.why(HTTP, 81, target="/") == "connection refused"
    assert farm.ask(HTTP, 80, target="/").well
    assert farm.why(HTTP, None, target="/") == "there is no port to ask"


@BOTH
def test_certificate_is_good(farm: Farm, ca: str, address: str) -> None:
    outcome = farm.ask(HTTPS, GOOD, address, target="/", body="well", ca=ca)
    assert (outcome.well, outcome.warning) == (True, "")
    assert farm.ask(HTTPS, GOOD, address, target="/", sni=NAME, ca=ca).well
    assert farm.ask(HTTPS, GOOD, address, target="/", host=f"{NAME}:{GOOD}", ca=ca).well
    assert farm.why(HTTPS, GOOD, address, target="/down", ca=ca) == "HTTP 503"


def test_certificate_is_not_good(farm: Farm, ca: str) -> None:
    assert farm.why(HTTPS, EXPIRED, target="/", ca=ca) == "certificate has expired"
    assert "not valid for 'other.example'" in farm.why(HTTPS, GOOD, target="/", ca=ca, sni="other.example")
    assert "unable to get local issuer" in farm.why(HTTPS, GOOD, target="/")
    assert farm.why(HTTPS, GOOD, target="/", ca="/no/such.pem") == "/no/such.pem: no such file or directory"


def test_unverified(farm: Farm) -> None:
    assert farm.ask(HTTPS, GOOD, target="/", verify=False, sni="other.example").well
    outcome = farm.ask(HTTPS, EXPIRED, target="/", verify=False)
    assert (outcome.well, outcome.warning) == (True, "certificate has expired")
    outcome = farm.ask(HTTPS, EXPIRED, target="/down", verify=False)
    assert (outcome.well, outcome.reason, outcome.warning) == (False, "HTTP 503", "certificate has expired")


@pytest.mark.parametrize("verify", [True, False])
def test_certificate_that_ends_soon(farm: Farm, ca: str, *, verify: bool) -> None:
    outcome = farm.ask(HTTPS, ENDING, target="/", ca=ca, verify=verify)
    assert (outcome.well, outcome.warning) == (True, "certificate expires in 5 days")
    assert not farm.ask(HTTPS, ENDING, target="/", ca=ca, verify=verify, expiry_warning=4 * 86400.0).warning


def test_sni(farm: Farm) -> None:
    assert farm.ask(HTTPS, BY_NAME, target="/", verify=False, host=NAME).well
    assert farm.why(HTTPS, BY_NAME, target="/", verify=False).startswith("TLS: ")


def test_https_of_a_server_without(farm: Farm) -> None:
    assert farm.why(HTTPS, 80, target="/", verify=False) == "TLS: wrong version number"


def test_a_changed_authority_is_read_anew(farm: Farm, ca: str) -> None:
    copy = farm.directory / "copy.pem"
    copy.write_bytes((farm.directory / "ca.pem").read_bytes())
    assert farm.ask(HTTPS, GOOD, target="/", ca=str(copy)).well
    other = ("-keyout", "other.key", "-out", "copy.pem", "-subj", "/CN=Other CA")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *other, cwd=farm.directory)
    assert "unable to get local issuer" in farm.why(HTTPS, GOOD, target="/", ca=str(copy))
    assert farm.ask(HTTPS, GOOD, target="/", ca=ca).well
