"""A kernel as far as the commands of steps go: what they make, and what it refuses."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, TypeAlias

from markway.program.plumbing import ESTIMATOR

Place: TypeAlias = tuple[str, str]
"""A device, and a parent or class on it."""


class RefusedError(Exception):
    """The kernel says no."""


class Queue(NamedTuple):
    kind: str
    handle: str
    options: frozenset[str]


class Kernel:
    """Devices are there; what stands on them and beside them is made by commands."""

    def __init__(self, devices: set[str]) -> None:
        self.devices = set(devices)
        self.roots: dict[str, Queue] = {}
        self.arrivals: set[str] = set()
        self.classes: dict[Place, tuple[str, str]] = {}  # to its parent and options
        self.leaves: dict[Place, Queue] = {}
        self.filters: dict[tuple[str, str, str], dict[str, tuple[str, ...]]] = {}  # by place and preference
        self.routes: dict[tuple[str, str], str] = {}
        self.rules: set[str] = set()

    @property
    def state(self) -> tuple[object, ...]:
        """All of it, to be compared."""
        filters = {place: dict(found) for place, found in self.filters.items() if found}
        return (
            *(set(self.devices), dict(self.roots), set(self.arrivals), dict(self.classes)),
            *(dict(self.leaves), filters, dict(self.routes), set(self.rules)),
        )

    def do(self, tool: str, text: str) -> None:
        """Carry a command out, or raise RefusedError."""
        words = text.replace(f" {ESTIMATOR}", "").split()
        if tool == "sysctl":
            return
        getattr(self, f"_{words[0]}")(words[1], words[2:])

    def _check(self, *, true: bool, why: str) -> None:
        if not true:
            raise RefusedError(why)

    def _device(self, words: list[str]) -> str:
        device = words[words.index("dev") + 1]
        self._check(true=device in self.devices, why=f"no device {device}")
        return device

    def _link(self, verb: str, words: list[str]) -> None:
        if verb == "add":
            self._check(true=words[0] not in self.devices, why="exists")
            self.devices.add(words[0])
        elif verb == "del":
            self._check(true=words[0] in self.devices, why="not there")
            self._uproot(words[0])
            self.devices.remove(words[0])

    def _uproot(self, device: str) -> None:
        self.roots.pop(device, None)
        for place in [place for place in self.classes if place[0] == device]:
            del self.classes[place]
        for place in [place for place in self.leaves if place[0] == device]:
            del self.leaves[place]
        for group in [group for group in self.filters if group[0] == device and group[1] != "ffff:fff2"]:
            del self.filters[group]

    def _qdisc(self, verb: str, words: list[str]) -> None:
        device = self._device(words)
        if words[2] == "ingress":
            self._check(true=(device in self.arrivals) == (verb == "del"), why="ingress")
            (self.arrivals.add if verb == "add" else self.arrivals.remove)(device)
            return
        root = words[2] == "root"
        rest = words[3:] if root else words[4:]
        if verb == "del":
            held = self.roots.get(device) if root else self.leaves.get((device, words[3]))
            self._check(true=held is not None, why="no discipline")
            if root:
                self._uproot(device)
            else:
                del self.leaves[device, words[3]]
            return
        handle, rest = (rest[1], rest[2:]) if rest[0] == "handle" else ("", rest)
        queue = Queue(rest[0], handle, frozenset(_pairs(rest[1:])))
        if root:
            held = self.roots.get(device)
            if held and held.handle == handle:
                self._change(held, queue)
            else:
                self._uproot(device)
            self.roots[device] = queue
            return
        place = device, words[3]
        self._check(true=place in self.classes, why="no class")
        self._check(true=place not in self._parents(), why="an inner class has no queue")
        held = self.leaves.get(place)
        if held and held.kind == queue.kind:
            self._change(held, queue)
        self.leaves[place] = queue

    def _change(self, held: Queue, queue: Queue) -> None:
        self._check(true=held.kind == queue.kind, why="must match the existing one")
        self._check(true=held.kind != "htb", why="change not supported")
        kept = {word.partition(" ")[0] for word in held.options} - {w.partition(" ")[0] for w in queue.options}
        self._check(true=not kept, why=f"{kept} would stay as it was")

    def _parents(self) -> set[Place]:
        return {(device, parent) for (device, _), (parent, _) in self.classes.items()}

    def _class(self, verb: str, words: list[str]) -> None:
        device = self._device(words)
        classid = words[words.index("classid") + 1]
        place = device, classid
        self._check(true=(place in self.classes) == (verb != "add"), why=f"class {classid} and {verb}")
        if verb == "del":
            self._check(true=place not in self._parents(), why="has classes below")
            bound = [f for group, found in self.filters.items() for f in found.values() if group[0] == device]
            self._check(true=all(f[2] != classid for f in bound), why="filters aim at it")
            del self.classes[place]
            self.leaves.pop(place, None)
            return
        parent = words[words.index("parent") + 1]
        held = self.roots.get(device)
        known = (device, parent) in self.classes or (held is not None and held.handle == parent)
        self._check(true=known, why=f"no parent {parent}")
        if verb == "change":
            self._check(true=self.classes[place][0] == parent, why="cannot move")
        self.leaves.pop((device, parent), None)
        self.classes[place] = parent, " ".join(words[words.index("htb") :])

    def _filter(self, verb: str, words: list[str]) -> None:
        device = self._device(words)
        parent, protocol, preference = (words[words.index(name) + 1] for name in ("parent", "protocol", "pref"))
        there = self.roots[device].handle == parent if device in self.roots else False
        self._check(true=there or (parent == "ffff:fff2" and device in self.arrivals), why="no parent")
        group = device, parent, preference
        found = self.filters.setdefault(group, {})
        rest = words[words.index("pref") + 2 :]
        if not rest:
            self._check(true=bool(found), why="no filter")
            self._check(true=not any(key.endswith(":") for key in found), why="the kernel would keep its tables")
            del self.filters[group]
            return
        handle, rest = (rest[1], rest[2:]) if rest[0] == "handle" else ("", rest)
        kind = rest[0]
        self._check(true=all(f[:2] == (protocol, kind) for f in found.values()), why="another kind or protocol")
        if verb == "del":
            self._check(true=handle in found, why="no such filter")
            self._check(true=not any(f" link {handle} " in f"{f[3]} " for f in found.values()), why="linked")
            nodes = [key for key in found if key == handle or (handle[-1] == ":" and key.startswith(f"{handle}:"))]
            for key in nodes:
                del found[key]
            return
        table = "" if handle[:1] in {"", ":"} or kind != "u32" or handle[-1] == ":" else handle.partition(":")[0] + ":"
        self._check(true=not table or table in found, why="no such table")
        self._check(true=handle not in found or verb == "replace", why="handle taken")
        classid = next((word for before, word in pairwise(rest) if before == "classid"), "")
        self._check(true=not classid or (device, classid) in self.classes, why="no such class")
        found[handle] = protocol, kind, classid, " ".join(rest)
        self.filters[group] = found

    def _route(self, verb: str, words: list[str]) -> None:
        place = words[0], words[words.index("table") + 1]
        self._check(true=(place in self.routes) == (verb == "del") or verb == "replace", why="route")
        if verb == "del":
            del self.routes[place]
        else:
            self.routes[place] = " ".join(words)

    def _rule(self, verb: str, words: list[str]) -> None:
        text = " ".join(words)
        self._check(true=(text in self.rules) == (verb == "del"), why="rule")
        (self.rules.add if verb == "add" else self.rules.remove)(text)


def _pairs(words: list[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        if word[0].isalpha():
            found.append(word)
        else:
            found[-1] += f" {word}"
    return found
