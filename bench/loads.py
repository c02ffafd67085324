"""`python -m bench.loads`: how long it takes to read the load of 200 agents, by SNMP 2c and 3.

In a namespace of its own, a real snmpd answers at 200 addresses; it tells its machine's load average. It has a
processor to itself where there are two. Of each round the time of all 200 readings is taken, as the daemon makes
them: at once, from one thread, on sockets that stay open. The agent's own work is in it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.cpu import pin
from markway.config.model import Load, LoadKind
from markway.director.loads import Loads
from markway.director.model import LoadError, Target
from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENTS = 200
ROUNDS = 20
AIM = 0.050  # seconds
FIRST = IPv4Address("10.77.0.1")
PASSPHRASE = "for-the-bench"  # noqa: S105 - of an agent that nobody else can reach
CONFIGURATION = f"""\
agentaddress udp:161
rocommunity public
createUser bench SHA "{PASSPHRASE}" AES "{PASSPHRASE}"
rouser bench priv
"""
TWO = Load(LoadKind.SNMP, target="laLoadInt.1", timeout=5.0)


@contextmanager
def agents(folder: Path, processor: int) -> Iterator[str]:
    """A namespace in which an snmpd answers at all the addresses; its name."""
    space = f"mwbench-loads-{os.getpid()}"
    (folder / "snmpd.conf").write_text(CONFIGURATION)
    netns.create([space])
    try:
        netns.ip(space, ["link set lo up", *(f"addr add {FIRST + number}/32 dev lo" for number in range(AGENTS))])
        program = ["snmpd", "-f", "-C", "-c", str(folder / "snmpd.conf"), "-LF", "0-3", str(folder / "log")]
        env = os.environ | {"SNMP_PERSISTENT_DIR": str(folder / "state"), "MIBS": ""}
        process = netns.start(space, ["taskset", "-c", str(processor), *program, "-I", "-smux"], env=env)
        try:
            yield space
        finally:
            process.kill()
            process.wait()
    finally:
        netns.delete([space])


async def rounds(load: Load) -> tuple[float, list[float]]:
    """Seconds that the first round took, with all that is kept from then on, and each of the others."""
    targets = [Target("bench", str(number), FIRST + number) for number in range(AGENTS)]
    loads = Loads()
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        found = await asyncio.gather(*(loads.read(load, target) for target in targets))
        times.append(time.perf_counter() - begun)
        if len(set(found)) > 2:
            sys.exit(f"agents of one machine told {sorted(set(found))}")
    await loads.close()
    return times[0], times[1:]


async def ready() -> None:
    """Wait for the agent's first answer."""
    loads = Loads()
    for _ in range(1000):
        try:
            await loads.read(TWO, Target("bench", "first", FIRST))
        except LoadError:
            await asyncio.sleep(0.01)
        else:
            return
    sys.exit("snmpd does not answer")


def main() -> int:
    """Print a line for each version; 1 if one takes longer than the aim."""
    home = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as name:
        secret = Path(name) / "passphrase"
        secret.write_text(PASSPHRASE)
        three = replace(TWO, version="3", user="bench", auth="sha", auth_file=str(secret))
        three = replace(three, privacy="aes", privacy_file=str(secret))
        missed = 0
        with agents(Path(name), max(home)) as space, netns.enter(space):
            pin(min(home))
            asyncio.run(ready())
            for load in (TWO, three):
                first, others = asyncio.run(rounds(load))
                missed |= median(others) > AIM
                middle, best, worst = (f"{1000 * of(others):.1f}" for of in (median, min, max))
                print(f"SNMP {load.version}: {AGENTS} agents in {middle} ms (aim: under {1000 * AIM:.0f} ms)")
                print(f"    of {ROUNDS} rounds: best {best}, worst {worst}; before them the first: {1000 * first:.1f}")
        os.sched_setaffinity(0, home)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
