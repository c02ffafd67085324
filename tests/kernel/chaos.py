"""What a random sequence of misfortunes does to a lab, and what must be true after each.

    client1, client2 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a, b, c, z, d, e, f, g

`World` is the model: what was asked for and what is alive, hence who has to answer. The lab is the reality.
"""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tests.kernel.support import eventually, read, run, write

from markway.apply.log import position, program_at
from markway.apply.store import Store
from markway.apply.transaction import present
from markway.balance.state import UNTOUCHED, Hold, all_weights
from markway.compiler import Abilities, compile_config
from markway.config.load import load
from markway.kernel import netns
from markway.kernel.capabilities.asking import asking_for
from markway.kernel.netlink import Netlink
from markway.kernel.table import elements_match, program_id
from markway.lab.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markway.lab.lab import Holding, Lab

CHECK = 'every = "300ms", fast = "100ms", timeout = "200ms", rise = 2, fall = 2'
LISTEN = {"web": "192.0.2.10:80", "ask": "192.0.2.10:53", "shop": "192.0.2.11:80"}
HEADS = {
    "web": f"check = {{ tcp = true, {CHECK} }}",
    "ask": f"check = {{ udp = true, send = 'well?', {CHECK} }}",
    "shop": f'schedule = "random"\ncheck = {{ http = "/", {CHECK} }}',
}
HOSTS = "abczdefg"


class Worth(NamedTuple):
    """What a file says of a backend."""

    weight: int = 1
    priority: int = 1


File: TypeAlias = "Mapping[str, Mapping[str, Worth]]"

WHOLE: File = {
    "web": {"a": Worth(), "b": Worth(2), "c": Worth(), "z": Worth(priority=2)},
    "ask": {"d": Worth(), "e": Worth()},
    "shop": {"f": Worth(3), "g": Worth()},
}
FILES: tuple[File, ...] = (
    WHOLE,
    {**WHOLE, "web": {"a": Worth(4), "b": Worth(2), "z": Worth(priority=2)}},
    {"web": WHOLE["web"], "ask": {"d": Worth(3), "e": Worth()}},
    {**WHOLE, "web": {**WHOLE["web"], "b": Worth(2, priority=2)}, "shop": {"f": Worth(), "g": Worth()}},
)


def toml(number: int) -> str:
    """One of the files as an operator writes it."""
    lines: list[str] = []
    for service, backends in FILES[number].items():
        protocol = "udp" if service == "ask" else "tcp"
        lines += [f"[service.{service}]", f'listen = "{LISTEN[service]}/{protocol}"', HEADS[service]]
        for name, worth in backends.items():
            address = f"192.168.1.{11 + HOSTS.index(name)}:8080"
            lines.append(
                f'backend.{name} = {{ address = "{address}", weight = {worth.weight}, priority = {worth.priority} }}'
            )
    return "\n".join(lines) + "\n"


@dataclass
class World:
    """What was asked for, and what is alive. A configuration is a file's number and where it was read from."""

    now: tuple[int, str] = (0, "markway.toml")
    before: tuple[int, str] = (1, "other.toml")
    on_disk: int = 0
    dead: dict[str, str] = field(default_factory=dict)
    """How each dead backend died."""
    out: set[str] = field(default_factory=set)
    weights: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> File:
        return FILES[self.now[0]]

    def apply(self, number: int, name: str) -> None:
        if self.now != (number, name):
            self.now, self.before = (number, name), self.now

    def shares(self, service: str) -> dict[str, float]:
        """Who has to answer for a service, and how much of it."""
        found = {}
        for name, worth in self.file.get(service, {}).items():
            weight = self.weights.get(f"{service}/{name}", worth.weight)
            if weight and name not in self.dead and f"{service}/{name}" not in self.out:
                found[name] = (worth.priority, weight)
        best = min((priority for priority, _ in found.values()), default=0)
        chosen = {name: weight for name, (priority, weight) in found.items() if priority == best}
        return {name: weight / sum(chosen.values()) for name, weight in chosen.items()}


def fits(got: Mapping[str, int], asked: Mapping[str, float]) -> bool:
    """Whether each who should answers, nobody else, and about as often: random choice strays by this in 1 of 10,000."""
    total = sum(got.values())
    return set(got) == set(asked) and all(
        abs(got[name] / total - share) <= 4 * (share * (1 - share) / total) ** 0.5 + 2 / total
        for name, share in asked.items()
    )


class Chaos:
    """The lab, its daemon, and what is foreign on the director."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.world = lab, World()
        self.space = lab.director.namespace
        self.store = Store(Path("/run/markway/netns") / self.space)
        with netns.enter(self.space):
            self.netlink = Netlink()
        self.foreign_rules = 0
        self.foreign = ""
        self.held: Holding | None = None
        self.descriptors = 0
        # A port that comes again is a new flow of UDP then, and not half a minute later.
        netns.sysctl(self.space, {f"netfilter/nf_conntrack_udp_timeout{kind}": "1" for kind in ("", "_stream")})
        lab.director.run("ip", "rule", "add", "fwmark", "0x70000/0x70000", "lookup", "main", "priority", "777")
        lab.director.run("tc", "qdisc", "add", "dev", "eth0", "root", "handle", "77:", "pfifo", "limit", "777")
        self.make_foreign()
        run(lab, "apply", self.write(1, "other.toml"))
        run(lab, "apply", self.write(0, "markway.toml"))
        self.daemon = Daemon(lab, self.write(0, "markway.toml"))
        self.daemon.wait("start")

    def write(self, number: int, name: str) -> str:
        return write(self.lab, toml(number), name)

    def close(self) -> None:
        self.let_go()
        self.netlink.close()
        assert self.daemon.end() in {0, -signal.SIGKILL}, "".join(self.daemon.other)
        eventually(lambda: not netns.processes([self.space]))

    # What is foreign.

    def make_foreign(self) -> None:
        """A table of others with what `foreign_rules` asks for; everything foreign is as it must stay."""
        rules = "".join(f"ip saddr 203.0.113.{n} drop\n" for n in range(self.foreign_rules))
        text = f"chain early {{\ntype filter hook prerouting priority -180;\nmeta mark set 0xa5000000\n{rules}}}"
        self.lab.nft("-f", "-", text=f"table inet their\ndelete table inet their\ntable inet their {{\n{text}\n}}\n")
        self.foreign = self.look_at_foreign()

    def look_at_foreign(self) -> str:
        commands = ("nft list table inet their", "ip rule", "ip route show table all", "tc qdisc show")
        return "".join(self.lab.director.run(*command.split()).stdout for command in commands)

    # What is held.

    def hold(self) -> None:
        self.let_go()
        self.held = self.lab.clients[0].hold(LISTEN["web"], 12)
        assert self.held.opened.open == 12

    def let_go(self) -> None:
        if self.held is not None:
            with self.held:
                self.held = None

    # What must be true.

    def settle(self) -> None:
        """Wait until the lab is as the model says; then it must stay so."""
        for service in LISTEN:
            eventually(partial(self.right, service, 60), 30)
        eventually(self.known, 10)
        with suppress(AssertionError):  # what is untrue is said below
            eventually(lambda: self.untrue() is None, 10)
        assert self.untrue() is None, self.untrue()
        for service in LISTEN:
            answers, failed = self.given(service, 200 if self.world.shares(service) else 3)
            assert self.as_asked(service, answers, failed), (service, answers, failed, self.world)
        assert self.look_at_foreign() == self.foreign
        if self.held is not None:
            report = self.held.report()
            assert (report.open, report.moved) == (12, 0), report
        self.no_leaks()

    def given(self, service: str, number: int) -> tuple[dict[str, int], int]:
        """Who answers, and how many connections fail."""
        tally = self.lab.fetch(LISTEN[service], number, udp=service == "ask", timeout=1.0)
        return dict(tally.answers), tally.failed

    def right(self, service: str, number: int) -> bool:
        """Whether who has to answers; where nobody can, a few are enough to see that."""
        return self.as_asked(service, *self.given(service, number if self.world.shares(service) else 3))

    def as_asked(self, service: str, answers: dict[str, int], failed: int) -> bool:
        asked = self.world.shares(service)
        return fits(answers, asked) and not failed if asked else not answers

    def known(self) -> bool:
        """Whether what is remembered for the next daemon, and for commands without one, is what the model has."""
        states, world = self.store.states(), self.world
        return all(
            (state := states.get(f"{service}/{name}", UNTOUCHED)).up is (name not in world.dead)
            and (state.hold is not Hold.NONE) is (f"{service}/{name}" in world.out)
            and state.weight == world.weights.get(f"{service}/{name}")
            for service, backends in world.file.items()
            for name in backends
        )

    def untrue(self) -> str | None:
        """How the kernel differs from the log, from what the log's program says, or from what should be in force."""
        found = present(self.store, self.netlink)
        if found.program is None:
            return found.damage or "nothing is in force"
        index = position(found.entries, found.marker)
        assert index is not None
        program = program_at(found.entries, index)
        wanted: dict[str, dict[str, str]] = {name: {} for name in program.sets}
        for fragment in program.fragments.values():
            for name, elements in fragment.elements.items():
                wanted[name] |= elements
        for name, item in program.sets.items():
            if not item.dynamic and name != "program" and not elements_match(self.netlink, item, wanted[name]):
                return f"set {name} is not as the log has it"
        config = load(self.store.config(found.config)).config
        if config != read(toml(self.world.now[0])):
            return "another configuration is in force"
        weights = all_weights(config.services, self.store.states())
        compiled = compile_config(
            config, self.store.registry(), weights=weights, abilities=Abilities(asking=asking_for(config))
        )
        return None if compiled.program.id == found.marker else "the program is not that of configuration and state"

    def no_leaks(self) -> None:
        """The daemon and its worker are alone on the director, and keep no more open than they did."""
        pid = self.daemon.process.pid
        eventually(lambda: self.strangers(pid) == set())
        if self.descriptors == 0:
            self.descriptors = open_files(pid)
        eventually(lambda: open_files(pid) <= self.descriptors + 2)

    def strangers(self, pid: int) -> set[int]:
        children = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
        return set(netns.processes([self.space])) - children - {pid}

    # The daemon.

    def kill(self) -> None:
        self.daemon.end(signal.SIGKILL)

    @property
    def in_force(self) -> bool:
        """Whether the kernel has any program of ours."""
        return program_id(self.netlink) is not None

    def start(self) -> None:
        """Where nothing is in force it applies its file, else it does not."""
        if not self.in_force:
            self.world.apply(self.world.on_disk, "markway.toml")
        self.daemon = Daemon(self.lab, self.write(self.world.on_disk, "markway.toml"))
        self.daemon.wait("start")
        self.descriptors = 0


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def summary(steps: list[str]) -> str:
    """How often each kind of step was taken."""
    kinds = Counter(step.split()[0] for step in steps)
    return ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
