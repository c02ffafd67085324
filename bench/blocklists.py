"""`python -m bench.blocklists`: what a list costs those who are not on it, and how long it takes to load.

    client --- guarded (a server that greets with one byte, and the list)

Every contender has a pair of namespaces and a list of so many prefixes, none of them the client's. *Response* is the
median of the times from connect to the greeting, one connection at a time, in turn, round after round. *Packet* is the
guarded machine's own CPU for a packet that it forwards, without clients and servers (bench/generator.py): the harshest
view. Both are ratios to no list, in the same round. Memory is what slab and vmalloc of the whole machine grow by:
nothing else may run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contenders import wait_for_port
from bench.cpu import pin, typical
from bench.generator import ACK, Flow, Generator, ipv4, packets
from bench.sockets import program
from bench.topology import CLIENT_MAC, Namespace, isolated_director, namespace, remove_leftovers
from markway.compiler.blocklists import OWNER, Layouts, blocklists_fragment, set_names
from markway.config.blocklisting import Blocklist
from markway.guard.layouts import Layout, changed_by, elements, layout_for
from markway.guard.lists import parse
from markway.guard.prefixes import AddressSet, Spans, merged, span, split
from markway.kernel import nft, prefix_sets
from markway.kernel.netlink import Netlink
from markway.program.diff import diff, lines
from markway.program.model import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (10, 100, 10_000, 100_000, 1_000_000)
PORT = 8080
ITEM = Blocklist("bench")

LENGTHS = [32] * 752 + [24] * 200 + [*range(16, 24)] + [*range(25, 30)] * 8
"""In a thousand prefixes: single hosts, networks of 256, and some of everything, as published lists have them."""

FREE = (ipv4("10.0.0.0"), 8), (0, 8), (ipv4("127.0.0.0"), 8), (ipv4("224.0.0.0"), 3)


def prefix(address: int, length: int) -> int:
    """The span of a prefix of IPv4."""
    host = (1 << 32 - length) - 1
    return span(address & ~host, address | host, 32)


def entries(number: int, seed: int = 1) -> list[str]:
    """So many prefixes that neither overlap nor touch in a way that makes them fewer."""
    chance = random.Random(seed)
    free = merged((prefix(*one) for one in FREE), 32)
    found: Spans = []
    while True:
        fresh = (prefix(chance.getrandbits(32), chance.choice(LENGTHS)) for _ in range(number - number // 2))
        found = merged([*found, *fresh], 32)
        held = AddressSet({4: found, 6: []}) - AddressSet({4: free, 6: []})
        texts = [
            f"{IPv4Address(first)}/{length}" if length < 32 else str(IPv4Address(first))
            for length, firsts in split(held.spans[4], 32).items()
            for first in firsts
        ]
        if len(texts) >= number:
            return sorted(chance.sample(texts, number))


def kernel_memory() -> int:
    """Octets of slab and vmalloc."""
    lines_ = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(lines_[name].split()[0]) for name in ("Slab", "VmallocUsed")) << 10


class Contender:
    """Somebody who keeps a list out; `most` is how many entries anyone has patience for."""

    name = "no list"
    most = 1 << 30

    def load(self, guarded: Namespace, texts: list[str]) -> None:
        """Load the list, from its text to the kernel."""

    def add(self, guarded: Namespace, text: str) -> None:
        """Add one more entry."""


@dataclass
class Markway(Contender):
    """Sets by prefix length; the timed part is all that happens between a file that was read and a list in force."""

    name = "markway"
    layout: Layout = field(default_factory=Layout)
    content: AddressSet = field(default_factory=AddressSet)

    def load(self, guarded: Namespace, texts: list[str]) -> None:
        """Load the list."""
        self.content = parse("\n".join(texts).encode()).content
        self.layout = layout_for(self.content)
        held = elements(self.content.spans, self.layout)
        coming, loaded = (
            Program({OWNER: blocklists_fragment([ITEM], {ITEM.name: layouts})})
            for layouts in (Layouts(None, self.layout), Layouts(self.layout))
        )
        with guarded.inside(), Netlink() as netlink:
            nft.run("\n".join(lines(diff(Program(), coming))))
            prefix_sets.fill(netlink, set_names(ITEM.name, self.layout), held)
            nft.run("\n".join(lines(diff(coming, loaded))))

    def add(self, guarded: Namespace, text: str) -> None:
        """Add one more entry."""
        with guarded.inside(), Netlink() as netlink:
            [one] = parse(text.encode()).content.spans[4]
            change = changed_by(self.content, 4, one, self.layout, add=True)
            if change is None:
                raise RuntimeError(f"{text} takes other sets")
            prefix_sets.change(netlink, set_names(ITEM.name, self.layout), change)


class Iptables(Contender):
    """One rule for each entry, in the raw table."""

    name = "iptables"
    most = 10_000

    def load(self, guarded: Namespace, texts: list[str]) -> None:
        """Load the list."""
        rules = "".join(f"-A PREROUTING -s {text} -j DROP\n" for text in texts)
        guarded.run("iptables-legacy-restore", stdin=f"*raw\n{rules}COMMIT\n", timeout=600)

    def add(self, guarded: Namespace, text: str) -> None:
        """Add one more entry."""
        guarded.run("iptables-legacy", "-t", "raw", "-A", "PREROUTING", "-s", text, "-j", "DROP")


class Ipset(Contender):
    """hash:net and one rule in the raw table."""

    name = "ipset"

    def load(self, guarded: Namespace, texts: list[str]) -> None:
        """Load the list."""
        size = max(1024, 1 << (len(texts) - 1).bit_length())
        head = f"create bench hash:net hashsize {size // 2} maxelem {2 * size}\n"
        guarded.run("ipset", "restore", stdin=head + "".join(f"add bench {text}\n" for text in texts), timeout=600)
        rule = "-A PREROUTING -m set --match-set bench src -j DROP\n"
        guarded.run("iptables-legacy-restore", stdin=f"*raw\n{rule}COMMIT\n")

    def add(self, guarded: Namespace, text: str) -> None:
        """Add one more entry."""
        guarded.run("ipset", "add", "bench", text)


class Interval(Contender):
    """One nftables set with intervals."""

    name = "nft interval"
    most = 100_000

    def load(self, guarded: Namespace, texts: list[str]) -> None:
        """Load the list."""
        listed = ", ".join(texts)
        guarded.run(
            "nft",
            "-f",
            "-",
            stdin=f"""table inet bench {{
                set bench {{ type ipv4_addr; flags interval; elements = {{ {listed} }}; }}
                chain pre {{ type filter hook prerouting priority raw; ip saddr @bench drop; }}
            }}""",
            timeout=600,
        )

    def add(self, guarded: Namespace, text: str) -> None:
        """Add one more entry."""
        guarded.run("nft", "add", "element", "inet", "bench", "bench", f"{{ {text} }}", timeout=600)


CONTENDERS: tuple[Callable[[], Contender], ...] = (Contender, Markway, Iptables, Ipset, Interval)


@dataclass
class Row:
    """What one contender showed with lists of one size; times in seconds, one figure per round."""

    name: str
    size: int
    load: float = 0.0
    add: float = 0.0
    memory: int = 0
    response: list[float] = field(default_factory=list)
    packet: list[float] = field(default_factory=list)

    def ratio(self, view: str, base: Row) -> float:
        """The median of the rounds' ratios to no list: what disturbs a round disturbs both."""
        ours, theirs = (row.response if view == "response" else row.packet for row in (self, base))
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


@contextmanager
def pair(name: str) -> Iterator[tuple[Namespace, Namespace]]:
    """A client and a guarded server."""
    with namespace(f"{name}-c") as client, namespace(name) as guarded:
        client.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", guarded.name)
        for there, host in ((client, 1), (guarded, 2)):
            there.run("ip", "address", "add", f"10.66.0.{host}/24", "dev", "up0")
            there.run("ip", "link", "set", "up0", "up")
        client.sysctl(ipv4__ip_local_port_range="1024 65535")
        yield client, guarded


def install(contender: Contender, guarded: Namespace, texts: list[str], row: Row) -> None:
    """Load a list, and one entry more, with a watch and an eye on the memory."""
    before = kernel_memory()
    begun = time.monotonic()
    contender.load(guarded, texts)
    row.load = time.monotonic() - begun
    row.memory = max(0, kernel_memory() - before)  # what others give back may be more
    begun = time.monotonic()
    contender.add(guarded, "10.99.99.99")
    row.add = time.monotonic() - begun


def responses(texts: list[str], rounds: int, seconds: float) -> list[Row]:
    """Time real connections, in turn."""
    rows = []
    with ExitStack() as stack:
        binary = str(stack.enter_context(program()))
        roads = []
        for make in CONTENDERS:
            contender = make()
            if len(texts) > contender.most:
                continue
            client, guarded = stack.enter_context(pair(contender.name.replace(" ", "-")))
            guarded.start("taskset", "-c", str((os.cpu_count() or 1) - 1), binary, "serve", str(PORT))
            with guarded.inside():
                wait_for_port(PORT)
            row = Row(contender.name, len(texts))
            install(contender, guarded, texts, row)
            rows.append(row)
            roads.append((row, client))
        for turn in range(rounds + 1):
            for row, client in roads:
                taken = _response(client, binary, seconds)
                if turn:  # not the first, which warms everything up
                    row.response.append(taken)
    return rows


def _response(client: Namespace, binary: str, seconds: float) -> float:
    """The median of the times of connections; again, if somebody else had the processor."""
    words = ("10.66.0.2", "1", str(PORT), "10.66.0.1", "1", "1", str(seconds))
    for _ in range(10):
        done, _, median, _, failed = map(float, client.run("taskset", "-c", "0", binary, "connect", *words).split())
        if done > 20 and not failed:
            return median / 1e6
    raise RuntimeError(f"{client.name}: nearly no connections in {seconds} s")


def forwarded(texts: list[str], rows: list[Row], rounds: int) -> None:
    """Time packets of clients that are not listed, on the machine that forwards them, in turn."""
    flows = [Flow(ipv4("10.64.0.1") + at, 1024, ipv4("10.128.0.1"), 80) for at in range(4096)]
    with ExitStack() as stack:
        generator = Generator()
        stack.callback(generator.close)
        generator.fill(packets(flows, ACK, CLIENT_MAC))
        roads = []
        for make in CONTENDERS:
            contender = make()
            if len(texts) > contender.most:
                continue
            director = stack.enter_context(isolated_director(contender.name.replace(" ", "-")))
            contender.load(director, texts)
            roads.append(
                (next(row for row in rows if row.name == contender.name), director, director.ifindex("clients"))
            )
        for _ in range(rounds):
            turns: dict[str, list[float]] = {row.name: [] for row, *_ in roads}
            for _ in range(8):
                for row, director, device in roads:
                    count = 256 if row.name == Iptables.name and row.size > 1000 else len(flows)
                    with director.inside():
                        generator.rewind()
                        turns[row.name].append(generator.send(count, device) / count)
            for row, *_ in roads:
                row.packet.append(typical(turns[row.name]))


def aggregate(number: int) -> float:
    """Seconds to merge so many prefixes of any order, and to split them by length."""
    chance = random.Random(3)
    spans = [prefix(chance.getrandbits(32), chance.choice(LENGTHS)) for _ in range(number)]
    begun = time.monotonic()
    split(merged(spans, 32), 32)
    return time.monotonic() - begun


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    found = [
        "| entries | | load | add one | kernel memory | response | ratio | a packet | ratio | added to a packet |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        base = next(one for one in rows if one.size == row.size and one.name == Contender.name)
        response, packet = statistics.median(row.response) * 1e6, statistics.median(row.packet) * 1e9
        added = packet - statistics.median(base.packet) * 1e9
        loading = (
            ("-", "-", "-")
            if row is base
            else (f"{row.load:.2f} s", f"{row.add * 1e3:.1f} ms", f"{row.memory >> 20} MiB")
        )
        cells = (f"{row.size:,}", row.name, *loading, f"{response:.1f} µs", f"{row.ratio('response', base):.3f}")
        found.append(f"| {' | '.join(cells)} | {packet:.0f} ns | {row.ratio('packet', base):.2f} | {added:.0f} ns |")
    return "\n".join(found)


def main() -> int:
    """Measure each size."""
    parser = argparse.ArgumentParser(prog="python -m bench.blocklists", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=0.2, help="of connections, for each contender and round")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    remove_leftovers()
    rows: list[Row] = []
    for size in map(int, options.sizes.split(",")):
        print(f"blocklists: {size:,} entries", file=sys.stderr)
        texts = entries(size)
        fresh = responses(texts, options.rounds, options.seconds)
        home = os.sched_getaffinity(0)
        pin(max(home))
        forwarded(texts, fresh, options.rounds)
        os.sched_setaffinity(0, home)
        rows += fresh
    merging = min(aggregate(1_000_000) for _ in range(3))
    if options.json:
        print(json.dumps({"rows": [row.__dict__ for row in rows], "aggregate": merging}, indent=2))
    else:
        print(table(rows), f"\nA million prefixes merged and split by length: {merging:.2f} s.", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
