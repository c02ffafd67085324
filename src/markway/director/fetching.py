"""Lists of addresses from where they are published: files and URLs, read again when they change.

What was read last is kept in the state folder, so that a reboot without a network, a file that is gone and a download
that is broken all leave the list as it was. Everything here blocks: it runs in a thread.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from markway.director.download import Download, FetchError, download
from markway.guard.lists import Listed, parse

if TYPE_CHECKING:
    from collections.abc import Collection

    from markway.config.blocklisting import Blocklist

LOOK = 1.0
"""Seconds between two looks at a file."""

_RETRY = 60.0
_SHRUNK = 10
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Note:
    """What is remembered of a list beside its text. Times are seconds since the epoch."""

    source: str = ""
    etag: str = ""
    modified: str = ""
    """What the server called the content's time, in its own words."""
    asked: float = 0.0
    changed: float = 0.0
    failure: str = ""
    """Why the last attempt came to nothing."""
    entries: int = 0
    hosts: int = 0
    faulty: int = 0
    fault: str = ""
    """Of the lines that were left out, the first."""


class Shelf:
    """Where the texts of lists are kept: a folder with a text and a note for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> tuple[bytes, Note] | None:
        """A list's text and note; None if there is none that can be read."""
        note = self.note(name)
        try:
            return ((self.folder / name).read_bytes(), note) if note else None
        except OSError:
            return None

    def note(self, name: str) -> Note | None:
        """A list's note; None if there is none that can be read."""
        try:
            return Note(**json.loads(self._note(name).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, name: str, note: Note, text: bytes | None = None) -> None:
        """Keep a list's note, and its text if that is another.

        Raises:
            OSError: it could not be written; what was kept still is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if text is not None:
            _replace(self.folder / name, text)
        _replace(self._note(name), json.dumps(asdict(note)).encode())

    def loaded(self, name: str) -> str:
        """Which content the kernel was last found to hold, as `keep_loaded` was told; empty if that is not known."""
        try:
            return self._loaded(name).read_text()
        except (OSError, ValueError):
            return ""

    def keep_loaded(self, name: str, content: str) -> None:
        """Remember the same; empty before the kernel is changed. Not flushed to the disk: a reboot ends both.

        Raises:
            OSError: it could not be written.
        """
        if content:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._loaded(name).write_text(content)
        else:
            self._loaded(name).unlink(missing_ok=True)

    def forget_others(self, names: Collection[str]) -> None:
        """Remove lists that are none of these."""
        wanted = {path for name in names for path in (self.folder / name, self._note(name), self._loaded(name))}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _note(self, name: str) -> Path:
        return self.folder / f".{name}.json"

    def _loaded(self, name: str) -> Path:
        return self.folder / f".{name}.loaded"


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole: whoever reads it, and a reboot, find the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


class Source:
    """Where one list comes from, and what it said last."""

    def __init__(self, item: Blocklist, shelf: Shelf) -> None:
        self.item = item
        self.note = Note(item.source)
        self.listed: Listed | None = None
        self._shelf = shelf
        self._unkept: bytes | None = None
        self._failure_kept = ""
        self._seen: tuple[int, ...] = ()
        self._read: tuple[int, ...] = ()
        self._read_failure = ""

    def restore(self) -> Listed | None:
        """What was kept of the list, with no look at its source; None if nothing, or if it was of another source."""
        name = self.item.name
        note = self._shelf.note(name)
        if note and note.source == self.item.source:
            self.note, self._failure_kept = note, note.failure
            kept = self._shelf.read(name) if note.changed else None  # else the text is another source's
            self.listed = parse(kept[0]) if kept else None
        return self.listed

    def next_look(self) -> float:
        """When to look again, in seconds since the epoch."""
        item, note = self.item, self.note
        if item.file:
            return note.asked + LOOK
        wait = min(item.every, _RETRY) if note.failure else item.every
        return note.asked + max(wait, item.minimum_age)

    def look(self, now: float) -> Listed | None:
        """Look at the source, and keep what it says; as `ask`."""
        listed = self.ask(now)
        self.keep()
        return listed

    def ask(self, now: float) -> Listed | None:
        """Look at the source: what it says now, or None if that is what it said before, or nothing of use.

        `note.failure` tells these two apart.
        """
        self.note = replace(self.note, asked=now)
        listed, text = None, None
        try:
            found = self._changed_file() if self.item.file else self._fetched()
            if found is None:
                failure = self._read_failure if self.item.file else ""
            else:
                text = unpacked(found.data, self.item.largest)
                listed = vetted(text, self.item, self.listed)
                self.note = _noted(self.note, found, listed, now)
                failure = self._read_failure = ""
        except FetchError as error:
            failure = self._read_failure = str(error)
        except OSError as error:
            failure = error.strerror or str(error)
        self.note = replace(self.note, failure=failure)
        if listed:
            self.listed, self._unkept = listed, text
        return listed

    def keep(self) -> None:
        """Keep what was read last for the next process."""
        text, self._unkept = self._unkept, None
        if text is None and self.item.file and self.note.failure == self._failure_kept:
            return  # a look at a file every second is nothing to write down
        self._failure_kept = self.note.failure
        try:
            self._shelf.write(self.item.name, self.note, text)
        except OSError as error:
            self._unkept = text
            self.note = replace(self.note, failure=f"it cannot be kept: {error.strerror or error}")

    def _changed_file(self) -> Download | None:
        """The file's content, if it is another than was read last; not while it is being written.

        A file that differs from the last look is read at the next, if it is the same then.
        """
        with Path(self.item.file).open("rb") as file:
            found = os.fstat(file.fileno())
            seen, self._seen = self._seen, (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._seen == self._read or (seen and seen != self._seen):
                return None
            self._read = self._seen
            return Download(file.read(self.item.largest + 1))

    def _fetched(self) -> Download | None:
        known = self.note if self.listed else Note()
        return download(self.item, known.etag, known.modified)


def _noted(note: Note, found: Download, listed: Listed, now: float) -> Note:
    return replace(
        note,
        etag=found.etag,
        modified=found.modified,
        changed=now,
        entries=listed.entries,
        hosts=listed.hosts,
        faulty=listed.faulty,
        fault=str(listed.faults[0]) if listed.faults else "",
    )


def unpacked(data: bytes, largest: int) -> bytes:
    """The text, also of a gzip file (RFC 1952).

    Raises:
        FetchError: it is broken, or longer than `largest`.
    """
    if len(data) > largest:
        raise FetchError(f"it is longer than {largest} octets")
    if not data.startswith(_GZIP):
        return data
    unpacker = zlib.decompressobj(31)
    try:
        text = unpacker.decompress(data, largest + 1)
    except zlib.error as error:
        raise FetchError("it is a broken gzip file") from error
    if len(text) > largest:
        raise FetchError(f"it is longer than {largest} octets")
    if not unpacker.eof:
        raise FetchError("it is a gzip file without an end")
    return text


def vetted(text: bytes, item: Blocklist, before: Listed | None) -> Listed:
    """What a text says, if it can be what was meant.

    Raises:
        FetchError: it is no list, or too short to be believed.
    """
    if text.lstrip()[:1] == b"<":
        raise FetchError("it is a page of HTML or XML, not a list")
    listed = parse(text)
    if not listed.entries:
        raise FetchError("it has no addresses" + (f": {listed.faults[0]}" if listed.faults else ""))
    if listed.faulty > listed.entries:
        raise FetchError(f"{listed.faulty} lines are no addresses, only {listed.entries} are: {listed.faults[0]}")
    if listed.entries < item.least:
        raise FetchError(f"it has {listed.entries} entries, fewer than the {item.least} asked for")
    if item.url and item.least == 1 and before and listed.entries * _SHRUNK < before.entries:
        raise FetchError(
            f"it has {listed.entries} entries, before it had {before.entries}; if that is right, say least = 2 or more"
        )
    if listed.content.count(4) > 1 << 31:
        raise FetchError("it has more than half of all addresses of IPv4")
    return listed
