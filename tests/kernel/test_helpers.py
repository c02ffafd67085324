"""FTP and TFTP: the connections that they open besides reach the same backend, with the same mark.

client1 --[198.51.100.0/24, 2001:db8:c1::/64]-- director --[192.168.1.0/24, fd00:1::/64]-- a, b

vsftpd and tftpd-hpa are Debian's; a file named `server` holds its server's name.
"""

from __future__ import annotations

import ftplib
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import flows, in_force, marks

from markway.kernel import netns

if TYPE_CHECKING:
    from markway.lab.lab import Lab

ADDRESSES = {4: "192.0.2.21", 6: "2001:db8::21"}


def config(helper: str, listen: str, port: str, mode: str, weights: tuple[int, int] = (1, 1)) -> str:
    text = f'[service.files]\nlisten = ["192.0.2.21:{listen}", "[2001:db8::21]:{listen}"]\n'
    text += f'helper = "{helper}"\nmode = "{mode}"\n'
    for number, name in enumerate("ab"):
        four, six = f"192.168.1.1{number}", f"fd00:1::1{number}"
        address = f'["{four}{port}", "[{six}]{port}"]' if port else f'["{four}", "{six}"]'
        text += f"backend.{name} = {{ address = {address}, weight = {weights[number]} }}\n"
    return text


def retrieve(lab: Lab, address: str, port: int, *, passive: bool) -> tuple[str, str]:
    """Over one control connection: the name in the banner, and the name in the file."""
    got = bytearray()
    with netns.enter(lab.clients[0].namespace), ftplib.FTP(timeout=5) as ftp:  # noqa: S321 - FTP is what is tested
        banner = ftp.connect(address, port)
        ftp.login()
        ftp.set_pasv(passive)
        for _ in range(3):
            got.clear()
            ftp.retrbinary("RETR server", got.extend)
    return banner.split()[1], got.decode().strip()


@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
@pytest.mark.parametrize("mode", ["dnat", "snat"])
@pytest.mark.parametrize(("listen", "port"), [("21", ":21"), ("2121", ":21"), ("21", "")])
def test_ftp_fetches_the_file_from_the_server_that_it_talks_to(passive, mode, listen, port):
    with in_force(config("ftp", listen, port, mode)) as lab:
        for address in ADDRESSES.values():
            met: Counter[str] = Counter()
            for _ in range(4):
                banner, name = retrieve(lab, address, int(listen), passive=passive)
                assert banner == name
                met[name] += 1
            assert met == {"a": 2, "b": 2}
        # Control and data: every connection bears its backend's mark.
        known = {f"192.168.1.1{i}": mark for i, mark in enumerate(marks(lab, "files").values())}
        four = [flow for flow in flows(lab) if flow.client.startswith(("198.", "192."))]
        data = [flow for flow in four if not flow.service.endswith(f":{listen}")]
        assert len(data) == 12
        for flow in four:
            [server] = {end.rpartition(":")[0] for end in (flow.client, flow.backend)} & known.keys()
            assert flow.mark == known[server]


@pytest.mark.parametrize("mode", ["dnat", "snat"])
@pytest.mark.parametrize("port", [":69", ""])
def test_tftp_answers_from_a_port_of_its_own(mode, port):
    with in_force(config("tftp", "69/udp", port, mode)) as lab:
        for name in "ab":
            lab.stop(name)
            place = lab.host(name)
            place.run("sh", "-c", f"mkdir -p /run/markway/labs/{lab.name}/tftp-{name}")
            place.run("sh", "-c", f"echo {name} > /run/markway/labs/{lab.name}/tftp-{name}/server")
            place.run("in.tftpd", "--listen", "--secure", "--user", "root", f"/run/markway/labs/{lab.name}/tftp-{name}")
        for address in ("192.0.2.21", "[2001:db8::21]"):
            got = Counter(
                lab.clients[0].run("curl", "-s", "--max-time", "5", f"tftp://{address}/server").stdout.strip()
                for _ in range(6)
            )
            assert got == {"a": 3, "b": 3}
        known = set(marks(lab, "files").values())
        assert {flow.mark for flow in flows(lab) if flow.protocol == "udp"} == known
