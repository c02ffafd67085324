"""How the demo looks: live tables in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from markway.lab import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from markway.lab.demo.promises import Promises
    from markway.lab.demo.traffic import Counts
    from markway.lab.lab import Lab

_WIDEST = 100
_SECONDS_PER_FRAME = 0.08
_SECONDS_PER_LINE = 1.0  # of progress where nothing can be redrawn
_COLOURS = ("cyan", "magenta", "yellow", "blue", "green")
_INDENT = 2
_BAR = (10, 30)  # cells, at least and at most
_TABLE_WITHOUT_BAR = 68
_EVENTS = 18  # of the last act that are shown
_LARGEST_SHARE = 0.6  # at the bar's end


class Row(NamedTuple):
    """One backend in a table of shares; `weight` None is a backend that the file no longer has."""

    name: str
    mark: int
    weight: int | None
    asked: float


class Passage(NamedTuple):
    """One backend in the table of a removal; counts of connections."""

    name: str
    mark: int
    asked: tuple[float, float]  # before, after
    before: int
    during: int
    after: int
    open: tuple[int, int]  # held connections at first, and still


class Recent(NamedTuple):
    """One backend's share of connections, asked and in the last second."""

    name: str
    asked: float
    got: float


class Happening(NamedTuple):
    """Something that was done, or (`told`) that the daemon told; `at` in seconds of the act."""

    at: float
    kind: str
    name: str
    text: str
    told: bool


class Screen:
    """Prints the demo's parts; `names` decides the backends' colours."""

    def __init__(self, names: Sequence[str]) -> None:
        console = Console(highlight=False, soft_wrap=False)
        self._animated = console.is_terminal and not console.is_dumb_terminal
        width = min(console.width, _WIDEST) if console.is_terminal else _WIDEST
        self._console = Console(highlight=False, width=width)
        self._colours = dict(zip(names, _COLOURS * len(names), strict=False))
        self._acts = 0

    def head(self, lab: Lab, file: str, took: float) -> None:
        """The demo's beginning."""
        servers = len(lab.topology.hosts) - len(lab.clients) - 1
        self._console.print(Text.assemble(("Markway on real connections", "bold"), (f"  {file}", "dim")))
        what = f"{len(lab.clients)} clients → director → {servers} nginx, IPv4 and IPv6"
        self._console.print(Text(f"{what}, in namespaces built in {took:.1f} s", "dim"))

    def act(self, title: str) -> None:
        """Begin a numbered part."""
        self._acts += 1
        self.rule(f"{self._acts}  {title}")

    def rule(self, title: str) -> None:
        """A heading across the screen."""
        line = "─" * max(0, self._console.width - len(title) - 4)
        self._console.print()
        self._console.print(Text.assemble(("── ", "dim"), (title, "bold"), (f" {line}", "dim")))

    def command(self, command: str, lines: Iterable[str]) -> None:
        """A command and what it said."""
        self._print(Text.assemble(("$ ", "dim"), (command, "bold")))
        for line in lines:
            self._print(Text(line), _INDENT + 2)

    def edit(self, lines: Iterable[str]) -> None:
        """The lines of a file that were taken out and put in."""
        for line in lines:
            self._print(Text(line, {"-": "red", "+": "green"}.get(line[0], "dim")), _INDENT + 2)

    def broken(self) -> None:
        """The story's early end."""
        self._print(Text("A promise is broken: the story ends here.", "bold red"))

    def note(self, text: str, style: str = "") -> None:
        """A sentence."""
        self._print(Text(text, style))

    @contextmanager
    def live(self) -> Iterator[Callable[[RenderableType, str], None]]:
        """A part that changes: call what this gives with the part and with the same in one plain line.

        In a terminal the part is redrawn; elsewhere the line is printed each second, and the part at the end.
        """
        pace = _SECONDS_PER_FRAME if self._animated else _SECONDS_PER_LINE
        last: RenderableType = ""
        due = time.monotonic() + pace

        with Live(console=self._console, auto_refresh=False) if self._animated else nullcontext() as live:

            def show(part: RenderableType, line: str) -> None:
                nonlocal last, due
                last = part
                if time.monotonic() < due:
                    return
                due = time.monotonic() + pace
                if live:
                    live.update(_indented(part), refresh=True)
                else:
                    self._print(Text(line))

            yield show
            if live:
                live.update(_indented(last), refresh=True)
            else:
                self._print(last)

    def shares(self, rows: Sequence[Row], counts: Counts, of: int) -> tuple[RenderableType, str]:
        """The table of what was asked beside what arrived, and the same in one line."""
        table = _table(("BACKEND", "MARK"), ("WEIGHT", "ASKED", "GOT"))
        width = max(_BAR[0], min(_BAR[1], self._console.width - _TABLE_WITHOUT_BAR))
        table.add_column(Text.assemble(("━", "bold"), " got  ", ("┃", "bold"), " asked"), no_wrap=True)
        for name in ("IPv4", "IPv6", "CONNECTIONS"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            got = counts.of(row.name) / counts.answered if counts.answered else 0.0
            table.add_row(
                Text(row.name, f"bold {self._colours[row.name]}"),
                f"{row.mark:#x}",
                "gone" if row.weight is None else str(row.weight),
                f"{row.asked:.1%}",
                f"{got:.1%}",
                self._bar(row, got, width),
                f"{counts.answers[4, row.name]:,}",
                f"{counts.answers[6, row.name]:,}",
                f"{counts.of(row.name):,}",
                style="dim" if row.weight is None else "",
            )
        line = " ".join(f"{row.name} {counts.of(row.name):,}" for row in rows)
        return Group(table, _progress(counts, of)), f"{counts.connections:,} of {of:,} connections: {line}"

    def passage(self, rows: Sequence[Passage], counts: Counts, stage: str) -> tuple[RenderableType, str]:
        """The table of a removal while connections arrive, and the same in one line."""
        table = _table(("BACKEND", "MARK", "ASKED"), ("BEFORE", "DURING", "AFTER", "HELD OPEN"))
        for row in rows:
            first, now = row.open
            table.add_row(
                Text(row.name, f"bold {self._colours[row.name]}"),
                f"{row.mark:#x}",
                f"{row.asked[0]:.1%} → {row.asked[1]:.1%}",
                f"{row.before:,}",
                f"{row.during:,}",
                f"{row.after:,}",
                f"{now:,} of {first:,}",
            )
        said = Text(f"{counts.connections:,} new connections, {counts.rate:,.0f}/s, ")
        said.append_text(_failures(counts)).append(f"  {stage}", "yellow")
        line = " ".join(f"{row.name} {row.before + row.during + row.after:,}" for row in rows)
        return Group(table, said), f"{stage or 'over'}: {counts.connections:,} new connections: {line}"

    def watching(
        self, now: Sequence[Recent], happened: Sequence[Happening], counts: Counts, stage: str
    ) -> tuple[RenderableType, str]:
        """The shares of the last second and all events so far, and the same in one line."""
        shares = _table(("BACKEND",), ("ASKED", "LAST SECOND"))
        for one in now:
            name = Text(one.name, f"bold {self._colours[one.name]}")
            shares.add_row(name, f"{one.asked:.1%}", f"{one.got:.1%}")
        events = _table(("SECONDS", "EVENT", "BACKEND", ""), ())
        for one_event in happened[-_EVENTS:]:
            style = "" if one_event.told else "yellow"
            events.add_row(
                f"{one_event.at:7.3f}",
                Text(one_event.kind, style),
                one_event.name,
                Text(one_event.text, style or "dim"),
            )
        said = Text(f"{counts.connections:,} connections, {counts.rate:,.0f}/s, ")
        said.append_text(_failures(counts)).append(f"  {stage}", "yellow")
        line = " ".join(f"{one.name} {one.got:.0%}" for one in now)
        parts: list[RenderableType] = [shares, said, events] if now else [events, said]
        return Group(*parts), f"{stage or 'over'}: {line}"

    def summary(self, promises: Promises, took: float) -> None:
        """Every promise: kept, broken, or not reached."""
        self.rule("What was promised")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for promise in promises:
            sign = {True: Text("✓", "bold green"), False: Text("✗", "bold red"), None: Text("·", "dim")}[promise.kept]
            detail = "not put to the test" if promise.kept is None else promise.detail
            table.add_row(sign, Text(promise.text), Text(detail, "dim" if promise.kept is not False else "red"))
        self._print(table)
        kept = sum(promise.kept is True for promise in promises)
        self._console.print()
        self._print(Text(f"{kept} of {len(list(promises))} promises held; all of it took {took:.0f} s.", "bold"))

    def entrances(self, name: str) -> None:
        """How to use a lab that stays, and to remove it."""
        markway = build.command()
        inside = f"{markway} lab exec --name {name}"
        self.rule(f'The lab "{name}" stays up')
        for what, command in (
            ("a request", f"{inside} client1 -- curl -s http://203.0.113.10/"),
            ("what is in force", f"{inside} director -- markway status"),
            ("the rules", f"{inside} director -- nft list table inet markway"),
            ("a shell on a host", f"{inside} director -- bash"),
            ("remove it", f"{markway} lab down {name}"),
        ):
            self._console.print(Text.assemble((f"  {what:<18} ", "dim"), command), soft_wrap=True)

    def _print(self, part: RenderableType, indent: int = _INDENT) -> None:
        if self._console.is_terminal:
            self._console.print(_indented(part, indent))
            return
        with self._console.capture() as captured:
            self._console.print(_indented(part, indent))
        for line in captured.get().splitlines():  # without the blanks that fill a table's cells
            self._console.print(line.rstrip(), markup=False)

    def _bar(self, row: Row, got: float, width: int) -> Text:
        """As long as the share got, with a tick at the share asked."""
        scale = width / _LARGEST_SHARE
        filled = min(width, round(got * scale))
        tick = min(width - 1, max(0, round(row.asked * scale) - 1))
        bar = Text("━" * filled, self._colours[row.name]).append("─" * (width - filled), "bright_black")
        if row.asked:
            bar = Text.assemble(bar[:tick], ("┃", "bold"), bar[tick + 1 :])
        return bar


def _indented(part: RenderableType, by: int = _INDENT) -> Padding:
    return Padding(part, (0, 0, 0, by), expand=False)


def _table(left: Iterable[str], right: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _progress(counts: Counts, of: int) -> Text:
    text = Text(f"{counts.connections:,} of {of:,} connections, {counts.rate:,.0f}/s, ")
    return text.append_text(_failures(counts))


def _failures(counts: Counts) -> Text:
    if not counts.failed:
        return Text("0 failed", "green")
    return Text(f"{counts.failed:,} failed ({'; '.join(sorted(counts.why.values()))})", "bold red")
