"""What Markway remembers between commands: numbers given, programs applied, what awaits confirmation.

The log holds programs as changes, one JSON line each, written before the kernel is told. The
kernel names the program it holds, so whenever Markway was killed, the log and that name
together say what is in force.
"""

from __future__ import annotations

import base64
import json
import math
import os
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from markway.apply.folder import Folder, StoreError, boot_clock, this_boot
from markway.apply.layouts import layouts_of, record_of
from markway.apply.log import Entry, compacted
from markway.balance.state import BackendState, Hold
from markway.config.load import Source
from markway.guard.overlays import overlay_of, overlay_record
from markway.marks import Block, Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from markway.compiler.blocklists import Layouts
    from markway.guard.overlays import Overlay
    from markway.program.model import Program

LOG = "program.log"
"""The programs applied, as changes."""

_SPARE = 1 << 20
"""Octets by which the log may outgrow four times its first program before it is written anew: what that costs
stays in proportion to the changes."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An apply that is undone at the deadline unless confirmed.

    It is known by its configuration: the program changes with every weight.
    """

    program: str
    config: str
    deadline: float
    """Seconds of the clock that runs on through suspend (CLOCK_BOOTTIME)."""
    boot: str
    """Which boot the clock is of."""

    @property
    def left(self) -> float:
        """Seconds until the deadline; below 0 once it has passed, as it has with a reboot."""
        return self.deadline - boot_clock() if self.boot == this_boot() else -math.inf


class Patience(NamedTuple):
    """When a drain ends at the latest, in seconds since the epoch, and whether what is left is cut then."""

    until: float
    cut: bool


class Store(Folder):
    """The state folder of one network namespace."""

    def registry(self) -> Registry:
        """Numbers and slots given so far.

        Raises:
            StoreError: the file is broken.
        """
        record = self.read("registry.json")
        if record is None:
            return Registry()
        try:
            return Registry(
                width=record["width"],
                numbers=record["numbers"],
                retired=tuple(record["retired"]),
                blocks={name: Block(*block) for name, block in record["blocks"].items()},
                next_offset=record["next_offset"],
                **{name: record.get(name, {}) for name in ("classes", "marked", "uplinks")},
            )
        except (KeyError, TypeError) as error:
            raise self.broken("registry.json", error) from error

    def keep_registry(self, registry: Registry) -> None:
        """Remember numbers and slots; must come before the kernel learns them."""
        record = {name: getattr(registry, name) for name in Registry.__slots__}
        self.write("registry.json", json.dumps(record))

    def pending(self) -> Pending | None:
        """The apply that awaits confirmation, if one does."""
        record = self.read("confirm.json")
        try:
            return Pending(**record) if record else None
        except TypeError as error:
            raise self.broken("confirm.json", error) from error

    def set_pending(self, pending: Pending | None) -> None:
        """Await a confirmation, or no longer."""
        if pending is None:
            (self.folder / "confirm.json").unlink(missing_ok=True)
        else:
            self.write("confirm.json", json.dumps(asdict(pending)))

    def layouts(self) -> dict[str, Layouts]:
        """The sets of each list."""
        record = self.read("layouts.json")
        try:
            return layouts_of(record or {})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.broken("layouts.json", error) from error

    def keep_layouts(self, layouts: Mapping[str, Layouts]) -> None:
        """Remember the same."""
        self.write("layouts.json", json.dumps(record_of(layouts)))

    def overlays(self) -> dict[str, Overlay]:
        """What was changed in lists by hand, by list."""
        record = self.read("overlays.json")
        try:
            return {name: overlay_of(one) for name, one in (record or {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.broken("overlays.json", error) from error

    def keep_overlays(self, overlays: Mapping[str, Overlay]) -> None:
        """Remember the same."""
        self.write("overlays.json", json.dumps({name: overlay_record(one) for name, one in overlays.items() if one}))

    def verified(self) -> dict[str, Any]:
        """What the kernel looked like after the last apply: `program`, `generation`, `digest`, `plumbing`."""
        return self.read("verified.json") or {}

    def set_verified(self, program: str, generation: int, digest: str, plumbing: Mapping[str, str]) -> None:
        """Remember what the kernel looks like now; `plumbing` has a digest of each thing beside the table."""
        record = {"program": program, "generation": generation, "digest": digest, "plumbing": plumbing}
        self.keep("verified.json", record)

    def arrivals(self) -> frozenset[str]:
        """Devices to which we gave a discipline for what arrives; others that have one have it from someone else."""
        return frozenset(self.read("arrivals.json") or ())

    def keep_arrivals(self, devices: Iterable[str]) -> None:
        """Remember the same; must come before the kernel learns of it."""
        if sorted(devices) != sorted(self.arrivals()):
            self.write("arrivals.json", json.dumps(sorted(devices)))

    def baseline(self) -> dict[str, dict[str, int]]:
        """Connections by service and backend when the service was last changed."""
        return self.read("baseline.json") or {}

    def keep_baseline(self, counts: dict[str, dict[str, int]]) -> None:
        """Remember the same."""
        self.keep("baseline.json", counts)

    def keep_config(self, sources: Sequence[Source]) -> str:
        """Remember a configuration as it was written; the name by which `config` gives it back."""
        text = json.dumps([[source.name, base64.b64encode(source.data).decode()] for source in sources])
        name = blake2b(text.encode(), digest_size=16).hexdigest()
        if not (self.folder / _config_file(name)).exists():
            self.write(_config_file(name), text)
        return name

    def config(self, name: str) -> tuple[Source, ...]:
        """The files of a configuration.

        Raises:
            StoreError: it is not there any more.
        """
        record = self.read(_config_file(name))
        if record is None:
            raise StoreError(f"configuration {name[:8]} is not in {self.folder} any more: apply its file")
        return tuple(Source(file, base64.b64decode(data)) for file, data in record)

    def states(self) -> dict[str, BackendState]:
        """What checks, load and operators say of backends, by `service/backend`."""
        record = self.read("states.json") or {}
        try:
            return {name: BackendState(**{**state, "hold": Hold(state["hold"])}) for name, state in record.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self.broken("states.json", error) from error

    def keep_states(self, states: Mapping[str, BackendState]) -> None:
        """Remember the same; who is not in it is as the file says."""
        self.write("states.json", json.dumps({name: asdict(state) for name, state in states.items()}), durable=False)

    def drains(self) -> dict[str, Patience]:
        """Until when backends are emptied, of those drained with a deadline, by `service/backend`."""
        return {name: Patience(*record) for name, record in (self.read("drains.json") or {}).items()}

    def keep_drains(self, drains: Mapping[str, Patience]) -> None:
        """Remember the same."""
        if drains or (self.folder / "drains.json").exists():
            self.write("drains.json", json.dumps(drains), durable=False)

    def entries(self) -> list[Entry]:
        """The log, oldest first; a line that was cut off ends it."""
        try:
            lines = (self.folder / LOG).read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found: list[Entry] = []
        end = 0
        for line in lines:
            end += len(line)
            try:
                found.append(Entry(**json.loads(line), end=end))
            except (ValueError, TypeError):
                break
        return found

    def log_size(self) -> int:
        """How long the log is, in bytes: another size than before means that another process has written to it."""
        try:
            return (self.folder / LOG).stat().st_size
        except FileNotFoundError:
            return 0

    def append(
        self, entries: list[Entry], old: Program, new: Program, *, config: str, why: str, at: float
    ) -> list[Entry]:
        """Write a new program to the log behind `entries`; what the log held beyond them is dropped.

        Returns the log as it is then; what the new entry changed is only in the file.
        """
        last = entries[-1] if entries else None
        before = "" if last is None else last.before if last.config == config else last.config
        changed: dict[str, str] = {
            owner: fragment.text
            for owner in new.differing(old)
            if (fragment := new.fragments.get(owner)) is not None
            and (owner not in old.fragments or old.fragments[owner].digest != fragment.digest)
        }
        changed |= {owner: "null" for owner in new.differing(old) if owner not in new.fragments}
        inner = ",".join(f"{json.dumps(owner)}:{text}" for owner, text in changed.items())
        facts = {"id": new.id, "at": at, "why": why, "config": config, "before": before}
        line = f'{json.dumps(facts)[:-1]}, "changed":{{{inner}}}}}\n'
        if entries and entries[-1].end > 4 * entries[0].end + _SPARE:
            kept = compacted([entry for entry in self.entries() if entry.end <= entries[-1].end])
            self.write(LOG, kept + line, durable=False)
            self._forget_configs({config, before, entries[-1].config, entries[-1].before})
            return self.entries()
        descriptor = os.open(self.folder / LOG, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, entries[-1].end if entries else 0)
            os.lseek(descriptor, 0, os.SEEK_END)
            with open(descriptor, "w", closefd=False) as file:
                file.write(line)
            # Not flushed to the disk: who loses the page cache has lost the kernel's program too.
        finally:
            os.close(descriptor)
        end = (entries[-1].end if entries else 0) + len(line)
        return [*entries, Entry(new.id, at, why, {}, config, before, end)]

    def _forget_configs(self, kept: set[str]) -> None:
        for path in self.folder.glob(_config_file("*")):
            if path.name not in {_config_file(name) for name in kept}:
                path.unlink(missing_ok=True)


def _config_file(name: str) -> str:
    return f"config-{name}.json"
