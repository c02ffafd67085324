"""Whether what the kernel has is what was asked for: it clips numbers, and ignores what it was built without.

Layouts: linux/pkt_sched.h (struct tc_htb_opt, tc_tbf_qopt), linux/pkt_cls.h (struct tc_u32_sel).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from markway.kernel.held import PROTOCOLS, ROOT, number, protocol_of, redirected, spelled
from markway.program.plumbing import Class, Filter, Qdisc, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from markway.kernel.held import Held
    from markway.program.plumbing import Part

_RATE = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
_HTB = struct.Struct("=5I")  # buffer, cbuffer, quantum, level, prio
_RATE64 = struct.Struct("=Q")
_TICK = 64
"""Nanoseconds; the kernel counts bursts in the time that they take (PSCHED_SHIFT in net/pkt_sched.h)."""

_KEY = re.compile(r"match u(8|16|32) (0x[0-9a-f]+) (0x[0-9a-f]+) at (nexthdr\+)?(-?\d+)")
_MARK = re.compile(r"match mark (\w+) (\w+)")
_CLASS_OF = {"u32": 1, "fw": 1, "route": 1, "matchall": 1, "flower": 1}
_TBF_RATE = re.compile(r"\brate (\d+)bit\b")


def fault(part: Part, held: Held, devices: Mapping[str, int]) -> str:
    """How a thing in the kernel differs from the part that it should be; empty if it does not.

    Of what can be asked for, rates, places, kinds, classes and selectors are compared.
    """
    if isinstance(part, Class):
        return next(_class(part, held), "")
    if isinstance(part, Qdisc):
        return next(_discipline(part, held), "")
    if isinstance(part, Filter):
        return next(_filter(part, held, devices), "")
    return next(_route(part, held), "") if isinstance(part, Route) else ""


def as_held(part: Class, held: Held) -> Class:
    """The class as the kernel has it."""
    told = held.options[1]
    rate, ceil = _rates(held)
    burst, cburst, quantum, level, prio = _HTB.unpack_from(told, 2 * _RATE.size)
    if level:  # of classes with others below them, the kernel takes no notice (htb_change_class)
        quantum, prio = part.quantum, part.prio
    sizes = (_size(burst, rate), _size(cburst, ceil))
    parent = f"{number(part.classid) >> 16:x}:" if held.parent == ROOT else spelled(held.parent)
    overhead = _RATE.unpack_from(told)[2]
    return Class(part.device, parent, part.classid, rate * 8, ceil * 8, *sizes, prio, quantum, None, overhead)


def _rates(held: Held) -> tuple[int, int]:
    """Rate and ceil of a class of htb, in bytes per second."""
    found = []
    for offset, wide in ((0, 6), (_RATE.size, 7)):  # TCA_HTB_RATE64, CEIL64
        long = held.options.get(wide)
        found.append(_RATE64.unpack(long)[0] if long else _RATE.unpack_from(held.options[1], offset)[-1])
    return found[0], found[1]


def _size(ticks: int, rate: int) -> int:
    return round(ticks * _TICK * rate / 1_000_000_000)


def _class(part: Class, held: Held) -> Iterator[str]:
    if held.kind != "htb" or 1 not in held.options:
        yield f"a class of {held.kind} stands there"
        return
    if held.parent != _parent(part.parent):
        yield f"it is below {spelled(held.parent)} instead of {part.parent}"
    for name, asked, got in zip(("rate", "ceil"), (part.rate, part.ceil), _rates(held), strict=True):
        if got != asked // 8:
            yield f"its {name} is {got * 8} bit/s instead of {asked}"
    rate, ceil = _rates(held)
    burst, cburst, quantum, level, prio = _HTB.unpack_from(held.options[1], 2 * _RATE.size)
    for name, size, ticks, speed in (("burst", part.burst, burst, rate), ("cburst", part.cburst, cburst, ceil)):
        if size is not None and abs(_size(ticks, speed) - size) > max(size / 50, 2 * _TICK * speed / 1e9 + 1):
            yield f"its {name} is {_size(ticks, speed)} bytes instead of {size}"
    if prio != part.prio and not level:
        yield f"its prio is {prio} instead of {part.prio}"
    if quantum != part.quantum is not None and not level:
        yield f"its quantum is {quantum} bytes instead of {part.quantum}"
    if part.overhead != _RATE.unpack_from(held.options[1])[2]:
        yield f"its overhead is not {part.overhead} bytes"


def _parent(text: str) -> int:
    """Classes right below the discipline have the root for a parent (htb_dump_class in net/sched/sch_htb.c)."""
    return number(text) if not text.endswith(":") else ROOT


def _discipline(part: Qdisc, held: Held) -> Iterator[str]:
    if part.parent == "ingress":
        return
    if held.kind != part.kind:
        yield f"it is {held.kind} instead of {part.kind}"
        return
    if part.handle and held.handle != number(part.handle):
        yield f"its handle is {spelled(held.handle)} instead of {part.handle}"
    if part.kind == "tbf" and (asked := _TBF_RATE.search(part.options)):
        long = held.options.get(4)  # TCA_TBF_RATE64
        got = _RATE64.unpack(long)[0] if long else _RATE.unpack_from(held.options[1])[-1]
        if got != int(asked[1]) // 8:
            yield f"its rate is {got * 8} bit/s instead of {asked[1]}"


def _filter(part: Filter, held: Held, devices: Mapping[str, int]) -> Iterator[str]:
    if held.kind != part.kind:
        yield f"it is {held.kind} instead of {part.kind}"
        return
    if part.protocol in PROTOCOLS and protocol_of(held) != part.protocol:
        yield f"its protocol is {protocol_of(held)} instead of {part.protocol}"
    target = held.options.get(_CLASS_OF.get(part.kind, 0), b"")
    if part.classid and target != struct.pack("=I", number(part.classid)):
        yield f"it leads to {spelled(int.from_bytes(target, 'little')) if target else 'no class'}, not {part.classid}"
    if part.kind == "u32":
        yield from _u32(part, held, devices)


def _u32(part: Filter, held: Held, devices: Mapping[str, int]) -> Iterator[str]:
    words = part.options.split()
    if (mark := _MARK.search(part.options)) and held.options.get(10, b"")[:8] != struct.pack(
        "=II", int(mark[1], 0), int(mark[2], 0)
    ):
        yield "it ignores the mark: this kernel has no CONFIG_CLS_U32_MARK"
    if part.options.count("match ") == len(keys := _KEY.findall(part.options)) and keys:
        asked = _merged(keys)
        if asked != _merged_in(held.options.get(5, b"")):
            yield "it looks at other bytes than asked for"
    if "redirect" in words and redirected(held.options) != devices.get(words[-1], 0):
        yield f"it does not send packets to {words[-1]}"


def _merged(keys: list[tuple[str, str, str, str, str]]) -> dict[tuple[int, bool], tuple[int, int]]:
    """Value and mask of each word of 32 bits, as tc joins them (pack_key in tc/f_u32.c)."""
    found: dict[tuple[int, bool], tuple[int, int]] = {}
    for width, value, mask, behind, offset in keys:
        shift = 32 - int(width) - 8 * (int(offset) & 3)
        place = int(offset) & ~3, bool(behind)
        before = found.get(place, (0, 0))
        bits = int(mask, 16) << shift
        found[place] = before[0] | int(value, 16) << shift & bits, before[1] | bits
    return found


def _merged_in(selector: bytes) -> dict[tuple[int, bool], tuple[int, int]]:
    """The same of what the kernel has: struct tc_u32_sel, then its keys."""
    found: dict[tuple[int, bool], tuple[int, int]] = {}
    for mask, value, offset, behind in _keys(selector):
        before = found.get((offset, behind), (0, 0))
        found[offset, behind] = before[0] | value, before[1] | mask
    return found


def _keys(selector: bytes) -> Iterator[tuple[int, int, int, bool]]:
    for at in range(16, 16 + 16 * selector[2] if selector else 0, 16):
        mask, value = struct.unpack_from("!II", selector, at)
        offset, behind = struct.unpack_from("=ii", selector, at + 8)
        yield mask, value, offset, bool(behind)


def _route(part: Route, held: Held) -> Iterator[str]:
    words = part.options.split()
    asked = dict(zip(words[::2], words[1::2], strict=False))
    if "realm" in asked and held.options.get(11, b"") != struct.pack("=I", int(asked["realm"])):  # RTA_FLOW
        yield "it has no realm: this kernel has no CONFIG_IP_ROUTE_CLASSID"
    if "dev" in asked and held.device != asked["dev"]:
        yield f"it leads to {held.device} instead of {asked['dev']}"
