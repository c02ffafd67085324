"""Who would have been banned: from attempts, from captures, and as the command tells it."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from typer.testing import CliRunner

from markway.cli.guard import app
from markway.config.guarding import LADDER, Ban, Guard, Window
from markway.guard.captures import CaptureError, connections
from markway.guard.logs import Attempt
from markway.guard.replay import replay
from markway.guard.windows import Action

WHO = ip_address("192.0.2.7").packed
GUARD = Guard("ssh")


def at(*times, address=WHO, many=1):
    return [Attempt(float(time), address, "password", many) for time in times]


def test_a_ban_is_told_with_its_window_and_all_that_met_it():
    (ban,) = replay(at(0, 5, 10, 100, 650), GUARD)
    assert ban.source == ip_network("192.0.2.7")
    assert (ban.action, ban.begun, ban.until, ban.window, ban.attempts) == (Action.BAN, 10.0, 1250.0, LADDER[0], 3)


def test_each_ban_is_told_in_its_turn():
    other = ip_address("2001:db8::1").packed
    bans = replay(at(0, 1, 2) + at(3, many=3, address=other) + at(700, 701, 702), GUARD)
    assert [(str(ban.source), ban.begun, ban.offences) for ban in bans] == [
        ("192.0.2.7/32", 2, 1), ("2001:db8::/64", 3, 1), ("192.0.2.7/32", 702, 2),
    ]  # fmt: skip


def test_a_slowing_ends_in_the_ban():
    guard = Guard("ssh", windows=(Window(2, 20),), slow=True, ban=Ban(60))
    slow, ban = replay(at(0, 1, 2, 3, 4, 5), guard)
    assert (slow.action, slow.begun, slow.until) == (Action.SLOW, 2, 5)
    assert (ban.action, ban.begun, ban.until) == (Action.BAN, 5, 65)


def test_nobody_is_banned_who_is_allowed():
    assert replay(at(*range(100)), Guard("ssh", allow=(ip_network("192.0.2.0/28"),))) == []


def tcp(flags=2, port=22, sport=1000, sequence=1):
    return struct.pack(">HHIIBBHHH", sport, port, sequence, 0, 0x50, flags, 1024, 0, 0)


def ip4(payload, source="192.0.2.7", fragment=0, protocol=6, options=b""):
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 1, fragment, 64, protocol, 0,
        ip_address(source).packed, ip_address("192.0.2.1").packed,
    )  # fmt: skip
    return header + options + payload


def ip6(payload, first=6):
    addresses = ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed
    return struct.pack(">IHBB", 0x60000000, len(payload), first, 64) + addresses + payload


def ether(packet, vlan=b""):
    return b"\2" * 12 + vlan + (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def pcap(*packets, link=1, order="<", nano=False):
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    found = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for second, packet in enumerate(packets):
        found += (
            struct.pack(order + "IIII", second, 500_000_000 if nano else 500_000, len(packet), len(packet)) + packet
        )
    return found


def block(kind, body, order="<"):
    body += b"\0" * (-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def pcapng(*packets, link=1, order="<", options=b""):
    found = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    found += block(5, b"what is of no use", order)
    found += block(1, struct.pack(order + "HHI", link, 0, 65535) + options, order)
    for second, packet in enumerate(packets):
        time = second * 1_000_000 + 500_000
        found += block(
            6, struct.pack(order + "5I", 0, time >> 32, time & 0xFFFFFFFF, len(packet), len(packet)) + packet, order
        )
    return found


def shown(capture, ports=None):
    found = connections(io.BytesIO(capture).read, ports)
    return [(each.time, str(ip_address(each.address))) for each in found]


SYN = ip4(tcp())


@pytest.mark.parametrize("order", "<>")
def test_captures_of_every_kind_are_read(order):
    expected = [(0.5, "192.0.2.7"), (1.5, "2001:db8::7")]
    packets = ether(SYN), ether(ip6(tcp()))
    assert shown(pcap(*packets, order=order)) == expected
    assert shown(pcap(*packets, order=order, nano=True)) == expected
    assert shown(pcapng(*packets, order=order)) == expected
    micro = struct.pack(order + "HHBxxxHH", 9, 1, 6, 0, 0)
    assert shown(pcapng(*packets, order=order, options=micro) + pcapng(packets[1], order="<")) == [
        *expected  # the packet that both have is the same one
    ]


@pytest.mark.parametrize(
    ("link", "head"),
    [
        (0, b"\2\0\0\0"),
        (101, b""),
        (113, b"\0" * 14 + b"\x08\0"),
        (276, b"\x08\0" + b"\0" * 18),
        (1, b"\2" * 12 + b"\x81\0\0\5\x08\0"),
        (1, b"\2" * 12 + b"\x88\xa8\0\5\x81\0\0\5\x08\0"),
    ],
)
def test_every_way_to_the_packet_is_known(link, head):
    assert shown(pcap(head + SYN, link=link)) == [(0.5, "192.0.2.7")]


def test_only_first_packets_of_connections_count_and_only_once():
    packets = [
        ip4(tcp(flags=0x12)), ip4(tcp(flags=0x10)), ip4(tcp(flags=4)), ip4(tcp(), fragment=1), ip4(tcp(), protocol=17),
        SYN, SYN, ip4(tcp(sequence=2)), ip4(tcp(sport=5), options=b"\1" * 8), ip4(tcp(port=80)), ip4(tcp())[:30], b"E",
        ip6(b"\x06\0" + b"\0" * 6 + tcp(sport=7), first=0), ip6(b"\x06\0\0\0" + b"\0" * 4 + tcp(sport=8), first=44),
        ip6(b"\x06\0\0\x08" + b"\0" * 4 + tcp(sport=9), first=44), ip6(tcp(), first=58), ip6(b"\0" * 7, first=0),
        b"\x70" + b"\0" * 60,
    ]  # fmt: skip
    found = shown(pcap(*packets, link=101), {22})
    assert [int(time) for time, _ in found] == [5, 7, 8, 12, 13]
    assert shown(pcap(b"\2" * 12 + b"\x08\x06" + b"\0" * 28)) == []


def shown_or_why(capture):
    try:
        return shown(capture)
    except CaptureError as error:
        return str(error)


BOTH = [(0.5, "192.0.2.7"), (1.5, "2001:db8::7")]


@pytest.mark.parametrize("whole", [pcap(ether(SYN), ether(ip6(tcp()))), pcapng(ether(SYN), ether(ip6(tcp())))])
def test_a_capture_that_is_cut_is_read_so_far_and_one_that_is_broken_is_refused(whole):
    for size in range(4, len(whole)):
        found = shown_or_why(whole[:size])
        assert found in ([], BOTH[:1], BOTH) or "byte order" in found
    for index in range(4, len(whole)):
        found = shown_or_why(whole[:index] + b"\xff" + whole[index + 1 :])
        assert isinstance(found, list) or "broken" in found or "link type" in found


def test_what_is_no_capture_says_so():
    with pytest.raises(CaptureError, match="no capture"):
        shown(b"Feb 28 10:11:12 host")


LOG = b"".join(
    b"Feb 28 10:11:%02d host sshd[7]: Failed password for root from 192.0.2.7 port %d ssh2\n" % (second, second)
    for second in range(10, 15)
)


@pytest.fixture
def command(monkeypatch):
    """Run the command; its exit status and what it printed."""
    monkeypatch.setenv("TZ", "UTC")

    def run(*words, given=None):
        found = CliRunner().invoke(app, [str(word) for word in words], input=given)
        return found.exit_code, found.output

    return run


@pytest.fixture
def log(tmp_path):
    """A log of the year 2025."""
    path = tmp_path / "auth.log"
    path.write_bytes(LOG)
    new_year = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    os.utime(path, (new_year, new_year))
    return path


def test_the_command_tells_bans_and_what_it_read(command, log):
    status, said = command(log)
    assert status == 0
    assert "192.0.2.7" in said
    assert "2 in 20s" in said
    assert said.endswith("5 lines, 5 attempts: 1 ban of 1 source\n")
    status, said = command(log, "--json")
    begun = datetime(2025, 2, 28, 10, 11, 12, tzinfo=UTC).timestamp()
    assert json.loads(said) == {
        "read": {"lines": 5, "skipped": 0, "attempts": 5},
        "bans": [
            {
                "source": "192.0.2.7/32", "action": "ban", "since": begun, "until": begun + 602, "window": "2 in 20s",
                "offences": 1, "attempts": 3,
            }
        ],
    }  # fmt: skip


def test_the_command_takes_other_windows_and_bans(command, log):
    assert "0 bans" in command(log, "--window", "5 in 1m")[1]
    assert "2 bans of 1 source" in command(log, "--window", "1 in 1m", "--time", "2s")[1]


def test_the_command_reads_packed_logs_journals_and_captures(command, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(LOG))
    assert "1 ban of 1 source" in command(path)[1]
    records = [
        json.dumps({"__REALTIME_TIMESTAMP": f"{at}000000", "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": line.decode()[38:]})
        for at, line in enumerate(LOG.replace(b"host sshd[7]: ", b"host sshd[77777]: ").splitlines())
    ]
    path.write_text("\n".join(records))
    assert "5 lines" in command(path)[1]
    path.write_bytes(pcap(*(ether(ip4(tcp(sport=number))) for number in range(5))))
    assert "5 attempts: 1 ban of 1 source" in command(path, "--port", "22")[1]
    assert "0 attempts: 0 bans of 0 sources" in command(path, "--port", "80")[1]


def test_the_command_tells_slowings_of_a_guard_that_slows(command, log, tmp_path):
    file = tmp_path / "markway.toml"
    file.write_text('[guard.ssh]\nlisten = "22"\nslow = true\nwindows = "1 in 20s"\n')
    _, said = command(log, "--config", file)
    actions = [line.split()[5] for line in said.splitlines() if "192.0.2.7" in line]
    assert actions == ["slow", "ban"]
    assert said.endswith("5 attempts: 1 slowing and 1 ban of 1 source\n")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["/nowhere"], 1, "cannot read /nowhere: No such file or directory"),
        (["/"], 1, "cannot read /: Is a directory"),
        (["--format", "ssh", "x"], 2, 'did you mean "sshd"'),
        (["--window", "2", "x"], 2, "is not a window"),
        (["--pattern", "x", "x"], 2, "no group called address"),
        (["--pattern", "(?P<address>x)", "--date", "%Q", "x"], 2, "%Q"),
        (["--time", "soon", "x"], 2, "is not a duration"),
    ],
)
def test_the_command_says_what_is_wrong(command, words, status, message):
    found, said = command(*words)
    assert found == status
    assert message in said


def test_the_command_says_that_a_file_is_broken(command, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(LOG)[:-20])
    status, said = command(path)
    assert (status, "cannot read" in said) == (1, True)
    path.write_bytes(pcap(b"x", link=250))
    status, said = command(path)
    assert (status, "link type 250" in said) == (1, True)
