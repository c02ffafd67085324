"""What this kernel can do of what a file asks for, found out before the file is compiled.

Only what the file has a use for is tried: first whether the kernel takes it, which costs milliseconds, then, where
kernels are known to take and ignore it, whether it works. What does is remembered until the machine boots again; what
does not is tried again by the next process, for a module may have been installed.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from markway.compiler.abilities import STAND_INS, Abilities
from markway.config.shaping import Direction
from markway.kernel import batch, netns
from markway.kernel.capabilities import FEATURES, Answer, probe
from markway.kernel.capabilities.asking import asking_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from markway.config.model import Config
    from markway.config.shaping import Shaping

_REMEMBERED = Path("/run/markway/abilities.json")  # gone with the next boot

_OPTIONS = {"tbf": "rate 1mbit burst 10k latency 10ms"}
_FILTERS = {
    "u32": "u32 match u32 0 0 flowid 1:1",
    "fw": "handle 1 fw classid 1:1",
    "route": "route to 5 classid 1:1",
}
_PROBES = {"u32": "cls_u32", "fw": "cls_fw", "route": "cls_route", "ifb": "ifb", "synproxy": "nft_synproxy"}
_ALONE = "protocol ip pref 1"

_tried: dict[str, bool] = {}


def abilities_for(config: Config) -> Abilities:
    """What the kernel has of what a configuration may want.

    Raises:
        NftMissingError: libnftables is not installed.
    """
    wanted = set(_wanted(config.shaping)) | {"synproxy" for policy in config.firewalling.policies if policy.synproxy}
    unknown = wanted - _tried.keys()
    if unknown:
        _tried.update(dict.fromkeys(unknown & _remembered(), True))
        _try(sorted(unknown - _tried.keys()))
    has = frozenset(name for name in wanted if _tried[name])
    kinds = frozenset(name.removeprefix("sch_") for name in has if name.startswith("sch_"))
    return Abilities(
        asking_for(config),
        kinds,
        has & _FILTERS.keys(),
        "ifb" not in wanted or "ifb" in has,
        "synproxy" not in wanted or "synproxy" in has,
    )


def _wanted(shaping: Shaping) -> Iterator[str]:
    """Names of kinds of disciplines, with `sch_` before them, and of filters; and `ifb`."""
    for shape in shaping.shapes:
        asked = {shape.root.kind, shape.leaf.kind, "htb", *(c.leaf.kind for c in shape.classes if c.leaf)}
        yield from (f"sch_{kind}" for one in asked for kind in (one, *STAND_INS.get(one, ())))
        yield from (item.kind.value for item in shape.filters)
        if shape.direction is Direction.INGRESS:
            yield from ("ifb", "u32")


def _try(names: list[str]) -> None:
    """Let the kernel try these."""
    if not names:
        return
    taken = _taken(names)
    for name in names:
        _tried[name] = name in taken and (name not in _PROBES or probe(FEATURES[_PROBES[name]]).answer is Answer.YES)
    _remember(name for name in names if _tried[name])


def _taken(names: list[str]) -> set[str]:
    """What the kernel does not refuse, in a namespace of its own."""
    space = f"mwask-{os.getpid()}"
    netns.create([space])
    try:
        return {name for name in names if _accepted(space, name)}
    finally:
        netns.delete([space])


def _accepted(space: str, name: str) -> bool:
    root = "qdisc replace dev lo root handle"
    if name in _FILTERS:
        target = "class replace dev lo parent 1: classid 1:1 htb rate 1mbit"
        return _takes("tc", space, f"{root} 1: htb", target, f"filter add dev lo parent 1: {_ALONE} {_FILTERS[name]}")
    if name == "ifb":
        redirected = "u32 match u32 0 0 action mirred egress redirect dev copy"
        arriving = ("qdisc add dev lo ingress", f"filter add dev lo parent ffff: {_ALONE} {redirected}")
        return _takes("ip", space, "link add copy type ifb") and _takes("tc", space, *arriving)
    if name == "synproxy":
        return True  # only its probe can tell
    kind = name.removeprefix("sch_")
    return _takes("tc", space, f"{root} 2: {kind} {_OPTIONS.get(kind, '')}", "qdisc del dev lo root")


def _takes(tool: str, space: str, *lines: str) -> bool:
    try:
        batch.run(tool, lines, space)
    except batch.BatchError:
        return False
    return True


def _remembered() -> set[str]:
    with suppress(OSError, ValueError):
        return set(json.loads(_REMEMBERED.read_text()))
    return set()


def _remember(names: Iterable[str]) -> None:
    with suppress(OSError):  # then it is tried again
        _REMEMBERED.parent.mkdir(parents=True, exist_ok=True)
        fresh = _REMEMBERED.with_name(f".{_REMEMBERED.name}.{os.getpid()}")
        fresh.write_text(json.dumps(sorted(_remembered().union(names))))
        fresh.replace(_REMEMBERED)
