"""However the kernel came to a program, it holds the same as if it had been written afresh.

Two bare namespaces: one goes through a row of random programs, each by its difference from the one
before; the other is emptied for each.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from tests.kernel.support import read

from markway.apply.store import Store
from markway.apply.transaction import present, put
from markway.compiler import compile_config
from markway.config.model import Config
from markway.kernel import netns, table
from markway.kernel.netlink import Netlink
from markway.marks import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from markway.program.model import Program

LINES = [
    'schedule = "random"',
    'schedule = "source-hash"',
    'schedule = "flow-hash"',
    'mode = "snat"',
    'mode = "snat"\nsource = "192.0.2.9"',
    'persist = { timeout = "1m" }',
    'persist = { timeout = "2m", prefix = 24, prefix6 = 64 }',
    "max-connections = 9",
    'source-rate = "5/second"',
    'source-rate = "9/minute burst 3"',
    'deny = ["10.0.0.0/8", "fd00::/8"]',
    'allow = "198.51.100.0/24"\nrefuse = "drop"',
    'fallback = "drop"',
    'fallback = { address = "192.168.1.99:80" }',
]
LISTENS = ["{}:80", "{}:80/tcp+udp", "{}:80,81,90-99", "{}:1000-2000/udp", "{}:*"]


def random_config(random: Random) -> str:
    text = ""
    for number in sorted(random.sample(range(1, 7), random.randint(0, 5))):
        listen = [random.choice(LISTENS).format(f"192.0.2.{number}")]
        if random.random() < 0.5:
            listen.append(random.choice(LISTENS).format(f"[2001:db8::{number}]"))
        lines = {line.partition(" ")[0]: line for line in random.sample(LINES, random.randint(0, 3))}
        text += f"[service.s{number}]\nlisten = {listen}\n" + "\n".join(lines.values()) + "\n"
        for name in sorted(random.sample("abcde", random.randint(1, 4))):
            end = random.choice(["", ":80"])
            six = f"[fd00:1::{ord(name)}]:80" if end else f"fd00:1::{ord(name)}"
            address = [f"192.168.1.{ord(name)}{end}", *([six] if len(listen) > 1 else [])]
            cap = random.choice(["", "", ", max-connections = 7"])
            text += f"backend.{name} = {{ address = {address}, weight = {random.randint(0, 5)}, "
            text += f"priority = {random.randint(1, 2)}{cap} }}\n"
    return text.replace("'", '"')


def contents(space: str) -> list[str]:
    """The table without counters and without order."""
    return sorted(netns.run(space, ["nft", "-s", "list", "table", "inet", "markway"]).stdout.replace(",", " ").split())


def bring(space: str, store: Store, program: Program) -> str:
    """Put a program into force; the digest of the table's structure then."""
    with netns.enter(space), store.locked(wait=0), Netlink() as netlink:
        put(store, netlink, present(store, netlink), program, config="", why="test")
        now = present(store, netlink)
        assert now.damage is None
        assert now.marker == program.id
        assert not put(store, netlink, now, program, config="", why="again").changes
        return table.structure(netlink).digest


@pytest.mark.parametrize("seed", range(4))
def test_the_way_to_a_program_leaves_no_trace(lab, tmp_path: Path, seed):
    random = Random(seed)
    it = lab(Config())
    travelled, fresh = it.director.namespace, it.clients[0].namespace
    store, compiled = Store(tmp_path / "store"), compile_config(Config(), Registry())
    for step in range(12):
        text = random_config(random)
        config = read(text) if text else Config()
        compiled = compile_config(config, compiled.registry, compiled)
        assert compiled.program.id == compile_config(config, compiled.registry).program.id
        digest = bring(travelled, store, compiled.program)
        netns.run(fresh, ["nft", "flush", "ruleset"])
        assert digest == bring(fresh, Store(tmp_path / f"fresh{step}"), compiled.program), text
        assert contents(travelled) == contents(fresh), text
