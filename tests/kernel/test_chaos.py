"""A random sequence of deaths, commands, restarts and other people's writes; after each step everything must be true.

`MARKWAY_CHAOS_SECONDS` says how long (20), `MARKWAY_CHAOS_SEED` repeats a sequence. Each step is printed, so a failure
tells what came before it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

from tests.kernel.chaos import FILES, HOSTS, LISTEN, WHOLE, Chaos, summary, toml
from tests.kernel.steady import Steady
from tests.kernel.support import eventually, run

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("MARKWAY_CHAOS_SECONDS", "20"))
NAMES = [f"{service}/{name}" for service, backends in WHOLE.items() for name in backends]
DROP = "table inet dead { chain in { type filter hook input priority 0; drop; }; }"


class Misfortune:
    """What may happen. Each says what it did."""

    def __init__(self, chaos: Chaos, chance: random.Random) -> None:
        self.chaos, self.chance = chaos, chance
        self.lab, self.world = chaos.lab, chaos.world

    def dies(self) -> str:
        name = self.chance.choice(HOSTS)
        way = self.chance.choice(["killed", "gone"])
        if name in self.world.dead:
            return self.revives()
        self.chaos.let_go()
        self.world.dead[name] = way
        if way == "killed":
            self.lab.stop(name)
        else:
            self.lab.host(name).run("nft", DROP)
        return f"dies {name} {way}"

    def revives(self) -> str:
        if not self.world.dead:
            return self.dies()
        name = self.chance.choice(sorted(self.world.dead))
        if self.world.dead.pop(name) == "killed":
            self.lab.start(name)
        else:
            self.lab.host(name).run("nft", "delete table inet dead")
        return f"revives {name}"

    def present(self) -> list[str]:
        return [name for name in NAMES if name.partition("/")[2] in self.world.file.get(name.partition("/")[0], {})]

    def held_back(self) -> str:
        name, verb = self.chance.choice(self.present()), self.chance.choice(["drain", "disable"])
        if name in self.world.out:
            return self.enabled()
        run(self.lab, verb, name, *(["--no-wait"] if verb == "drain" else []))
        self.world.out.add(name)
        return f"{verb} {name}"

    def enabled(self) -> str:
        out = sorted(self.world.out & set(self.present()))
        if not out:
            return self.held_back()
        name = self.chance.choice(out)
        run(self.lab, "enable", name)
        self.world.out.remove(name)
        return f"enable {name}"

    def weighed(self) -> str:
        name, weight = self.chance.choice(self.present()), self.chance.choice([0, 1, 2, 5, None])
        run(self.lab, "weight", name, "--reset" if weight is None else str(weight))
        self.world.weights.pop(name, None)
        if weight is not None:
            self.world.weights[name] = weight
        return f"weight {name} {weight}"

    def reloaded(self) -> str:
        number = self.chance.randrange(len(FILES))
        self.world.on_disk = number
        self.chaos.write(number, "markway.toml")
        self.chaos.daemon.send(signal.SIGHUP)
        self.world.apply(number, "markway.toml")
        return f"reload {number}"

    def applied(self) -> str:
        number = self.chance.randrange(len(FILES))
        run(self.lab, "apply", self.chaos.write(number, "other.toml"))
        self.world.apply(number, "other.toml")
        return f"apply {number}"

    def rolled_back(self) -> str:
        run(self.lab, "rollback")
        self.world.now, self.world.before = self.world.before, self.world.now
        return f"rollback to {self.world.now[0]}"

    def restarted(self) -> str:
        """Killed; whatever else happens before the next one comes is done without it."""
        self.chaos.kill()
        meanwhile = [self.applied, self.rolled_back, self.held_back, self.enabled, self.weighed, self.broken]
        done = []
        for _ in range(self.chance.randrange(3)):
            step = self.chance.choice(meanwhile)
            if self.chaos.in_force or step in {self.applied, self.rolled_back}:
                done.append(step())
        self.chaos.start()
        return f"restart ({', '.join(done)})"

    def broken(self) -> str:
        """Somebody else writes into our table."""
        self.chaos.let_go()
        damages = [
            "flush chain inet markway slot",
            "flush map inet markway slots",
            "flush set inet markway traffic",
            "flush map inet markway backends4",
            "add rule inet markway prerouting-dstnat counter",
            "insert rule inet markway translate drop",
            "delete table inet markway",
            "add element inet markway slots { 0x0fffffff : 0x00000001 }",
            "add table inet markway; add chain inet markway stray",
        ]
        if self.chance.random() < 1 / 3:
            self.lab.nft("flush ruleset")
            self.chaos.make_foreign()
            return "flush-ruleset"
        damage = self.chance.choice(damages)
        self.lab.nft(damage)
        return f"damage: {damage}"

    def beside(self) -> str:
        """Somebody else writes to his own table."""
        self.chaos.foreign_rules = self.chance.randrange(5)
        self.chaos.make_foreign()
        return f"foreign-rules {self.chaos.foreign_rules}"

    def holds(self) -> str:
        if not self.world.shares("web"):
            return self.beside()
        self.chaos.hold()
        return "hold"


def test_whatever_happens_the_kernel_is_true_and_nobody_is_given_to_the_dead(lab):
    seed = os.environ.get("MARKWAY_CHAOS_SEED") or str(random.randrange(10**6))
    chance = random.Random(seed)
    net = lab(toml(0))
    chaos = Chaos(net)
    load = Steady(net, 1, LISTEN["web"], "--timeout", "1", rate=50)
    it = Misfortune(chaos, chance)
    noisy = [it.dies, it.dies, it.revives, it.revives, it.broken]
    calm = [it.held_back, it.enabled, it.weighed, it.reloaded, it.applied, it.rolled_back, it.beside, it.holds]
    steps: list[str] = []
    try:
        chaos.settle()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            steps.append(taken(chaos, load, chance.choice([*noisy, *calm, it.restarted])))
            sys.stdout.write(f"{len(steps)}. {steps[-1]}\n")
            chaos.settle()
    finally:
        load.end()
        chaos.close()
        sys.stdout.write(f"\nseed {seed}: {len(steps)} steps: {summary(steps)}\n")


def taken(chaos: Chaos, load: Steady, step: Callable[[], str]) -> str:
    """Take a step. Where nobody is dead and nobody breaks anything, no connection may fail."""
    eventually(lambda: load.open <= 1)
    safe = not chaos.world.dead and bool(chaos.world.shares("web"))
    failed = load.tally.failed
    told = step()
    quiet = not any(noise in told for noise in ("dies", "flush", "damage"))
    if safe and quiet and chaos.world.shares("web"):
        chaos.settle()
        assert load.tally.failed == failed, (told, load.tally.failures)
    return told
