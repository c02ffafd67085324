"""`[guard]`: what the file's texts become, and every refusal, word for word."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from tests.unit.test_config_refusals import problems

from markway.config.guarding import LADDER, Ban, Guard, Guarded, LogFormat, LogSource, Scope, Slowed, Window
from markway.config.load import load_text
from markway.config.model import PortRange, Protocol

WRONG = r"""[guard.ssh]
listen = ["22/sctp", "service:web", "foo:22"]
windows = ["2 in 20", "x", "14 in 200s", "14 in 200s"]
ban = { until-quiet = "600s", time = "10m", factor = 0.5 }
logs = [{ format = "ssh", file = "auth.log", date = "%Q" }, { pattern = "abc", journal = "a b" }, {}]
[guard.a]
[guard.b]
logs = [{ format = "sshd", file = "/a" }]
connections = true
[guard.c]
logs = [{ format = "sshd", file = "/a" }]
[guard.d]
listen = "22"
connections = false
ban = { factor = 2 }
[guard.e]
listen = "22"
ban = { time = "10m", longest = "1s" }
slow = "wan.slow"
"""
SAID = r"""
2:11: guard.ssh.listen[0]: "sctp" is not a protocol that can be balanced (tcp, udp or tcp+udp)
2:22: guard.ssh.listen[1]: there is no service "web"
2:37: guard.ssh.listen[2]: "foo" is not an IP address: names are not looked up (write the address itself)
3:12: guard.ssh.windows[0]: "20" has no unit (did you mean "20s"?)
3:23: guard.ssh.windows[1]: "x" is not a window (for example "2 in 20s", when the third attempt is too many)
3:42: guard.ssh.windows[3]: "14 in 200s" is there already (leave one of them out)
4:1: guard.ssh.ban: it lasts for a time or until the source is quiet (write time or until-quiet)
4:45: guard.ssh.ban.factor: bans cannot grow by 0.5 (1 to 1000)
5:11: guard.ssh.logs[0].format: no format is called "ssh" (did you mean "sshd"?)
5:27: guard.ssh.logs[0].file: "auth.log" is not the path of a file (for example "/var/log/auth.log")
5:46: guard.ssh.logs[0].date: "%Q" has %Q, which is not known (for example "%Y-%m-%d %H:%M:%S")
5:46: guard.ssh.logs[0].date: a format knows how its log writes times (leave it out)
5:63: guard.ssh.logs[1].pattern: "abc" has no group called address (put (?P<address>\S+) where the line has it, as in ".* failed for .* from (?P<address>\S+)")
5:80: guard.ssh.logs[1].journal: "a b" is not the name of a unit (for example "ssh.service")
5:99: guard.ssh.logs[2]: nothing says what a failure looks like (there are `format` and `pattern`)
5:99: guard.ssh.logs[2]: nothing says where the log is (there are `file` and `journal`)
6:8: guard.a: nothing is guarded (for example listen = "22/tcp")
9:1: guard.b.connections: nothing says to what (for example listen = "22/tcp")
10:8: guard.c: nothing says what a banned source may not reach (for example listen = "22/tcp", or scope = "all")
14:1: guard.d.connections: nothing else is counted (leave it out, or name logs)
15:9: guard.d.ban.factor: a ban until the source is quiet does not grow (it is for time = "10m")
18:23: guard.e.ban.longest: the first ban is longer (for example longest = "600s")
19:1: guard.e.slow: expected true or false, got the string "wan.slow" (for example slow = true)
"""  # noqa: E501


def test_every_problem_is_told_with_its_place():
    assert [problem.removeprefix("m:") for problem in problems(WRONG)] == SAID.strip().split("\n")


def guard(lines: str) -> Guard:
    return load_text(f"[guard.ssh]\n{lines}").config.guards[0]


def test_a_file_may_have_nothing_but_guards():
    [found] = load_text('[guard.ssh]\nlisten = "22/tcp"').config.guards
    ssh = Guarded(Protocol.TCP, (PortRange(22, 22),))
    assert found == Guard("ssh", (ssh,), windows=LADDER, ban=Ban(600.0, until_quiet=True))


def test_all_keys():
    found = guard(
        r"""
listen = ["192.0.2.1:22,2200-2202/tcp+udp", "[2001:db8::1]:53/udp"]
windows = ["2 in 20s", "14 in 5m"]
ban = { time = "10m", factor = 2, longest = "1w", memory = "30d" }
prefix = 24
prefix6 = 56
allow = ["192.0.2.0/24", "2001:db8::/32"]
scope = "all"
refuse = "reset"
slow = true
logs = [
    { format = "sshd", journal = "ssh.service" },
    { pattern = 'no .* (?P<address>\S+)', date = "%s", file = "/var/log/x" },
]
"""
    )
    ports = (PortRange(22, 22), PortRange(2200, 2202))
    address = ip_address("192.0.2.1")
    six = Guarded(Protocol.UDP, (PortRange(53, 53),), ip_address("2001:db8::1"))
    assert found == Guard(
        "ssh",
        (Guarded(Protocol.TCP, ports, address), Guarded(Protocol.UDP, ports, address), six),
        windows=(Window(2, 20.0), Window(14, 300.0)),
        ban=Ban(600.0, until_quiet=False, factor=2.0, longest=7 * 86400.0, memory=30 * 86400.0),
        prefix=24,
        prefix6=56,
        allow=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
        scope=Scope.ALL,
        reset=True,
        slow=True,
        connections=False,
        logs=(
            LogSource(LogFormat.SSHD, journal="ssh.service"),
            LogSource(pattern=r"no .* (?P<address>\S+)", date="%s", file="/var/log/x"),
        ),
    )


def test_a_service_can_be_guarded():
    text = '[service.web]\nlisten = "192.0.2.10:80"\nbackend.a = { address = "192.168.1.10:80" }\n'
    [found] = load_text(f'{text}[guard.web]\nlisten = "service:web"').config.guards
    assert (found.services, found.listeners) == (("web",), ())


def test_a_window_inside_another_is_told():
    [warning] = load_text('[guard.ssh]\nlisten = "22"\nwindows = ["9 in 20s", "8 in 20s"]').warnings
    assert str(warning) == (
        'markway.toml:3:12: guard.ssh.windows[0]: "8 in 20s" is broken whenever this one is (leave it out)'
    )


SLOW = """
[guard.ssh]
listen = "22"
slow = true
prefix = 24
ban = { memory = "1d" }
[guard.mail]
listen = "25"
"""
SHAPE = """
[shape.wan]
device = "eth0"
rate = "1mbit"
default = "rest"
class.rest = {}
class.slow = { rate = "64kbit", match = { guard = "%s" } }
"""


def test_a_match_knows_what_one_source_of_its_guard_is():
    config = load_text(SLOW + SHAPE % "ssh").config
    [match] = config.shaping.matches
    assert match.slowed == Slowed("ssh", 24, 64)
    assert config.guards[1].ban.memory == 86400


def test_a_match_needs_a_guard_that_slows():
    place = "m:15:43: shape.wan.class.slow.match.guard: "
    [quick] = problems(SLOW + SHAPE % "mail")
    assert quick == f'{place}guard "mail" slows nobody: it bans at once (write slow = true in [guard.mail])'
    [strange] = problems(SLOW + SHAPE % "web")
    assert strange == f'{place}there is no guard "web" (there are "mail" and "ssh")'


def test_a_guard_that_slows_wants_something_to_do_it():
    [warning] = load_text(SLOW).warnings
    assert str(warning) == (
        "markway.toml:4:1: guard.ssh.slow: nothing slows them: no match names this guard "
        '(a class of a shape may: match = { guard = "ssh" })'
    )
    policy = '[policy.a]\nfrom = "any"\nto = "self"\nverdict = "drop"\nmatch = { guard = "ssh" }\n'
    for naming in (SHAPE % "ssh", policy):
        assert load_text(SLOW + naming).warnings == ()
