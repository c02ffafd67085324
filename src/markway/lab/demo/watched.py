"""The demo's last act: the daemon watches while a backend dies and revives, another works too hard, a third drains."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from markway.lab import build, snmp
from markway.lab.daemon import Daemon, called
from markway.lab.demo import facts
from markway.lab.demo.screen import Happening, Recent
from markway.lab.demo.traffic import Counts, Traffic
from markway.lab.topology import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markway.lab.demo.facts import Asked
    from markway.lab.demo.promises import Promises
    from markway.lab.demo.screen import Screen
    from markway.lab.lab import Lab

DIES, WORKS, DRAINS = "b", "a", "c"

_WATCHES = """\
check = { http = "/", every = "1s", rise = 2, fall = 2 }
load = { snmp = "laLoadInt.1", every = "1s" }
"""
_RATE = 1000.0
_PLENTY = 1_000_000
_WINDOW = 1.0  # seconds over which shares are shown
_AVERAGE = 1.0  # seconds that the agents' load average covers, in place of a minute
_QUIET = 0.6  # seconds without a failure that end a death
_LATEST = 3.0  # seconds from a death to the last connection given there, as promised
_PATIENCE = 40.0
_LESS = 0.7  # of its configured share: so little the loaded backend must come down to
_HELD = 20  # connections kept open through the drain, from each client over each family
_MUCH = 0.15  # of its weight: so much a load event must change to be shown
_KEPT = ("up", "down", "drain", "drained")


def watched(text: str) -> str:
    """The file of the other acts, with a check and a load."""
    return text.replace('schedule = "round-robin"\n', f'schedule = "round-robin"\n{_WATCHES}')


class Watched:
    """The act, in a lab where the file without a check is in force."""

    def __init__(self, lab: Lab, text: str, asked: Asked, screen: Screen, promises: Promises) -> None:
        self._lab, self._text, self._asked = lab, text, asked
        self._screen, self._promises = screen, promises
        self._begun = time.monotonic()
        self._recent: deque[tuple[float, Counts]] = deque()
        self._happened: list[Happening] = []
        self._read = 0
        self._factor: float | None = None

    def run(self) -> Counts:
        """Everything in its order; the connections made in between."""
        file = build.directory(self._lab.name) / "watched.toml"
        file.write_text(self._text, encoding="utf-8")
        for name in self._asked.weights:
            snmp.serve(self._lab.host(name), seconds=_AVERAGE)
        daemon = Daemon(self._lab, file)
        try:
            started = daemon.wait("start")["text"]
            self._screen.command("markway run watched.toml &", [started])
            applied = facts.markway(self._lab, "apply", str(file)).splitlines()
            self._screen.command("markway apply watched.toml", applied)
            daemon.wait("up", self._name(DIES))  # it is new again; the others were in force, and so are believed up
            with self._arriving() as traffic, self._screen.live() as show:
                self._turns(daemon, traffic, show)
                return traffic.counts()
        finally:
            daemon.end()

    def _turns(self, daemon: Daemon, traffic: Traffic, show: Callable[..., None]) -> None:
        self._begun = time.monotonic()

        def watch(until: Callable[[], bool], stage: str) -> bool:
            """Show what goes on until something is so; whether it came to be."""
            end = time.monotonic() + _PATIENCE
            while not until():
                if not traffic.wait(0.2) or time.monotonic() > end:
                    return False
                self._take(daemon, traffic)
                show(*self._screen.watching(self._now(), self._happened, traffic.counts(), stage))
            return True

        watch(lambda: self._passed(1.2), "all is well")
        self._death(daemon, traffic, watch)
        self._overload(daemon, watch)
        self._drain(daemon, watch)
        self._take(daemon, traffic)
        traffic.stop()
        show(*self._screen.watching((), self._happened, traffic.counts(), ""))

    def _death(self, daemon: Daemon, traffic: Traffic, watch: Callable[..., bool]) -> None:
        before = traffic.counts().failed
        killed = time.monotonic()
        self._note("killed", DIES, "its server is killed")
        self._lab.stop(DIES)
        last = killed
        seen = before

        def over() -> bool:
            nonlocal last, seen
            failed = traffic.counts().failed
            if failed > seen:
                last, seen = time.monotonic(), failed
            return bool(daemon.seen("down", self._name(DIES))) and time.monotonic() - last > _QUIET

        found = watch(over, f"{DIES} is dead")
        took = last - killed
        self._promises.dead.judge(
            found and took <= _LATEST,
            f"{DIES} got its last connection {took:.1f} s after its death, {seen - before} of them failed",
        )
        self._lab.start(DIES)
        snmp.serve(self._lab.host(DIES), seconds=_AVERAGE)
        self._note("started", DIES, "its server is started again")
        back = watch(
            lambda: len(daemon.seen("up", self._name(DIES))) > 1 and self._share(DIES) > 0, f"{DIES} comes back"
        )
        self._promises.dead.judge(back, self._promises.dead.detail + "; it came back")

    def _overload(self, daemon: Daemon, watch: Callable[..., bool]) -> None:
        asked = self._asked.share(WORKS)
        self._factor = 1.0
        self._note("loaded", WORKS, "other work keeps its processors busy")
        with snmp.stress(self._lab.host(WORKS), 3):
            less = watch(
                lambda: bool(daemon.seen("load", self._name(WORKS))) and self._share(WORKS) < _LESS * asked,
                f"{WORKS} works hard",
            )
            least = self._share(WORKS)
        self._note("relieved", WORKS, "the other work ends")
        more = watch(lambda: self._share(WORKS) > least + 0.1 * asked, f"{WORKS} recovers")
        said = (
            f"{WORKS} was asked {asked:.1%}, came down to {least:.1%} by its load, and up to {self._share(WORKS):.1%}"
        )
        self._promises.loaded.judge(less and more, said)

    def _drain(self, daemon: Daemon, watch: Callable[..., bool]) -> None:
        with ExitStack() as open_connections:
            holdings = [
                open_connections.enter_context(place.hold(target, _HELD, "--every", "0.2"))
                for place in self._lab.clients
                for target in self._asked.targets.values()
            ]
            held = sum(holding.opened.answers.get(DRAINS, 0) for holding in holdings)
            drain = self._lab.director.spawn(sys.executable, "-m", "markway", "drain", self._name(DRAINS))
            watch(lambda: bool(daemon.seen("drain")) and self._share(DRAINS) == 0, f"{DRAINS} drains, {held} open")
            waits = drain.poll() is None
            served = sum(holding.report().answers.get(DRAINS, 0) for holding in holdings)
            self._note("closed", DRAINS, f"its {served} open connections end")
        emptied = watch(lambda: drain.poll() is not None, f"{DRAINS} is empty soon")
        drain.communicate()
        kept = waits and emptied and served == held > 0 and not drain.returncode
        self._promises.drained.judge(
            kept, f"{DRAINS} served its {served} of {held} open connections to their end, and got no new one"
        )

    @contextmanager
    def _arriving(self) -> Iterator[Traffic]:
        with Traffic(self._lab, self._asked.targets, _PLENTY, rate=_RATE, limit=10 * _PATIENCE) as traffic:
            while not traffic.counts().answers:
                if not traffic.wait(1.0):
                    raise LabError("no connection was made")
            yield traffic

    def _take(self, daemon: Daemon, traffic: Traffic) -> None:
        """Look at the clock, the counts and the events."""
        now = time.monotonic()
        self._recent.append((now, traffic.counts()))
        while self._recent[0][0] < now - _WINDOW:
            self._recent.popleft()
        late = time.time() - now
        for event in daemon.events[self._read :]:
            self._read += 1
            if event["at"] - late >= self._begun and self._matters(event):
                self._happened.append(
                    Happening(event["at"] - late - self._begun, event["kind"], called(event), event["text"], told=True)
                )

    def _matters(self, event: dict[str, Any]) -> bool:
        """Whether an event is shown: of the loads, that of the loaded backend, when it has changed much."""
        if event["kind"] != "load":
            return event["kind"] in _KEPT
        factor = event["data"]["factor"]
        if self._factor is None or called(event) != self._name(WORKS) or abs(factor - self._factor) < _MUCH:
            return False
        self._factor = factor
        return True

    def _note(self, kind: str, backend: str, text: str) -> None:
        self._happened.append(Happening(time.monotonic() - self._begun, kind, self._name(backend), text, told=False))

    def _now(self) -> tuple[Recent, ...]:
        return tuple(Recent(name, self._asked.share(name), self._share(name)) for name in self._asked.weights)

    def _share(self, backend: str) -> float:
        """Of the connections answered in the last second."""
        if len(self._recent) < 2:  # noqa: PLR2004
            return self._asked.share(backend)
        first, last = self._recent[0][1], self._recent[-1][1]
        return (last.of(backend) - first.of(backend)) / max(last.answered - first.answered, 1)

    def _passed(self, seconds: float) -> bool:
        return time.monotonic() - self._begun > seconds

    def _name(self, backend: str) -> str:
        return f"{self._asked.service}/{backend}"
