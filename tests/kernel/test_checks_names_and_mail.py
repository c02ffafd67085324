"""DNS checks against dnsmasq, SMTP checks against Exim."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.kernel.backends import SERVER, SERVER6, Farm

from markway.config.model import CheckKind

if TYPE_CHECKING:
    from collections.abc import Iterator

DNS, SMTP = CheckKind.DNS, CheckKind.SMTP
BOTH = pytest.mark.parametrize("address", [SERVER, SERVER6])

_DNSMASQ = """
no-resolv
no-hosts
local=/shop.example/
host-record=www.shop.example,192.0.2.1,2001:db8::1
host-record=old.shop.example,192.0.2.2
mx-host=shop.example,mail.shop.example,10
txt-record=shop.example,long text
"""
_EXIM = """
keep_environment =
primary_hostname = mail.shop.example
spool_directory = {directory}/exim
log_file_path = {directory}/exim/%slog
pid_file_path = {directory}/exim/pid
daemon_smtp_ports = 25
tls_advertise_hosts =
acl_smtp_connect = connect
acl_smtp_helo = helo
begin acl
connect:
    drop hosts = 10.98.0.9
         message = busy, come again
    accept
helo:
    deny condition = ${{if match{{$sender_helo_name}}{{^\\\\[(IPv6:[0-9a-f:]+|[0-9.]+)\\\\]\\$}}{{no}}{{yes}}}}
    deny hosts = <; fd98::9
         message = not with me
    accept
"""


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as up:
        (up.directory / "exim").mkdir()
        shutil.chown(up.directory / "exim", "Debian-exim", "Debian-exim")
        up.start(
            "dnsmasq", "--keep-in-foreground", "--user=root", "--pid-file=", f"--conf-file={up.write('d', _DNSMASQ)}"
        )
        up.start("exim4", "-C", up.write("exim.conf", _EXIM.format(directory=up.directory)), "-bdf")
        up.until_open(25)
        up.until_well(DNS, 53, target="www.shop.example", timeout=0.2)
        yield up


@BOTH
@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("www.shop.example", "A"),
        ("WWW.shop.example.", "A"),
        ("www.shop.example", "AAAA"),
        ("shop.example", "MX"),
        ("shop.example", "TXT"),
    ],
)
def test_dns(farm: Farm, address: str, name: str, record: str) -> None:
    assert farm.ask(DNS, 53, address, target=name, record=record).well


def test_dns_has_no_answer(farm: Farm) -> None:
    assert farm.why(DNS, 53, target="new.shop.example") == "DNS NXDOMAIN"
    assert farm.why(DNS, 53, target="elsewhere.example") == "DNS REFUSED"
    assert farm.why(DNS, 53, target="old.shop.example", record="AAAA") == "DNS has no such record"
    assert farm.why(DNS, 53, target=f"{'x' * 64}.example") == f"{'x' * 64}.example is too long for a name"


def test_dns_of_something_else(farm: Farm) -> None:
    assert farm.why(DNS, farm.udp_speaker(lambda asked, _: asked), target="x.example") == "not a DNS answer"
    assert farm.why(DNS, farm.udp_speaker(lambda asked, _: asked[:2]), target="x.example") == "not a DNS answer"
    other = farm.udp_speaker(lambda asked, _: asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0\1y\0\0\1\0\1")
    assert farm.why(DNS, other, target="x.example") == "the answer to another question"
    stale = farm.udp_speaker(lambda asked, _: bytes([asked[0] ^ 1]) + asked[1:])
    assert farm.why(DNS, stale, target="x.example", timeout=0.2) == "no answer in 0.2 s"


@BOTH
def test_smtp(farm: Farm, address: str) -> None:
    """Exim here takes an address of ours only, as RFC 5321 wants it, in EHLO."""
    assert farm.ask(SMTP, 25, address).well
    log = farm.directory / "exim/mainlog"
    assert "lost" not in log.read_text(), "it was left with QUIT"


def test_smtp_refuses(farm: Farm) -> None:
    assert farm.why(SMTP, 25, source="10.98.0.9") == "SMTP 550 busy, come again"
    assert farm.why(SMTP, 25, SERVER6, source="fd98::9") == "SMTP 550 not with me"
