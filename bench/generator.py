"""Packets from nowhere: an XDP test run puts a table of prepared packets on a device, in this thread.

`BPF_PROG_TEST_RUN` with live frames runs a program once per packet and hands the packet to the kernel as the
device's driver would. Our program copies the next packet of a table into the frame. Reception, forwarding and the
sink's drop all happen inside the one system call, so the thread's own CPU time is what the director spent.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SYS_BPF = {"x86_64": 321, "aarch64": 280}
MAP_CREATE, PROG_LOAD, PROG_TEST_RUN = 0, 5, 10
ARRAY, XDP = 2, 6
MMAPABLE = 1 << 10
LIVE_FRAMES = 2
DROP, PASS = 1, 2
LOOKUP = 1  # the helper bpf_map_lookup_elem

SLOT = 56  # bytes of the table per packet: Ethernet, IPv4 and TCP header, and 2 of padding
FRAME = 60
TABLE = 1 << 16

SYN, ACK = 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Flow:
    """One direction of a TCP connection; addresses and ports in host order."""

    source: int
    source_port: int
    target: int
    target_port: int


def ipv4(text: str) -> int:
    return int.from_bytes(socket.inet_aton(text), "big")


def dotted(number: int) -> str:
    return socket.inet_ntoa(number.to_bytes(4, "big"))


def packet(flow: Flow, flags: int, mac: str) -> bytes:
    """Write one TCP packet without payload; its TCP checksum is zero (the director is told not to look)."""
    words = (0x4500, 40, 0, 0x4000, 0x4006, flow.source >> 16, flow.source & 0xFFFF)
    total = sum(words) + (flow.target >> 16) + (flow.target & 0xFFFF)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    sequence, acknowledged = (0, 0) if flags == SYN else (0, 1) if flags & SYN else (1, 1)
    return struct.pack(
        "!6s6sHHHHHHHIIHHIIBBHHHxx",
        bytes.fromhex(mac.replace(":", "")),
        b"\x02\0\0\0\0\xff",
        0x0800,
        *(0x4500, 40, 0, 0x4000, 0x4006, ~total & 0xFFFF),
        *(flow.source, flow.target, flow.source_port, flow.target_port),
        *(sequence, acknowledged, 0x50, flags, 0xFFFF, 0, 0),
    )


def packets(flows: Iterable[Flow], flags: int, mac: str) -> bytes:
    """Write one packet of each flow, as the table has them."""
    return b"".join(packet(flow, flags, mac) for flow in flows)


class Generator:
    """A table of packets in the kernel and the programs that send it."""

    def __init__(self) -> None:
        self._table, table = _array(SLOT, TABLE)
        self._cursor, cursor = _array(8, 1)
        self._descriptors = [table, cursor]
        self._programs = {verdict: _load(_program(table, cursor, verdict)) for verdict in (DROP, PASS)}

    def close(self) -> None:
        """Give the kernel back what it holds for us."""
        self._table.close()
        self._cursor.close()
        for descriptor in (*self._descriptors, *self._programs.values()):
            os.close(descriptor)

    def fill(self, data: bytes) -> None:
        """Put packets at the start of the table and begin there."""
        self._table[: len(data)] = data
        self.rewind()

    def rewind(self) -> None:
        """Begin with the table's first packet again."""
        self._cursor[:8] = bytes(8)

    def send(self, count: int, ifindex: int, verdict: int = PASS) -> float:
        """Send the next `count` packets and return the seconds of CPU that it took."""
        frame = ctypes.create_string_buffer(FRAME)
        context = ctypes.create_string_buffer(struct.pack("=6I", 0, FRAME, 0, ifindex, 0, 0), 24)
        attributes = struct.pack(
            "=4I2Q4I2Q3I4x",
            *(self._programs[verdict], 0, FRAME, 0),
            *(ctypes.addressof(frame), 0),
            *(count, 0, 24, 0),
            *(ctypes.addressof(context), 0),
            *(LIVE_FRAMES, 0, 64),
        )
        begin = time.thread_time()
        _bpf(PROG_TEST_RUN, attributes)
        return time.thread_time() - begin


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result: int = _libc.syscall(SYS_BPF[os.uname().machine], command, buffer, len(buffer))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf({command}): {os.strerror(error)}")
    return result


def _array(size: int, entries: int) -> tuple[mmap.mmap, int]:
    """Make an array that we and the kernel share."""
    descriptor = _bpf(MAP_CREATE, struct.pack("=5I", ARRAY, 4, size, entries, MMAPABLE))
    length = -(-size * entries // mmap.PAGESIZE) * mmap.PAGESIZE
    return mmap.mmap(descriptor, length), descriptor


def _load(code: bytes) -> int:
    program, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    where = (ctypes.addressof(program), ctypes.addressof(licence))
    return _bpf(PROG_LOAD, struct.pack("=2I2Q2IQ", XDP, len(code) // 8, *where, 0, 0, 0))


def _instruction(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | of << 4, offset, value)


def _program(table: int, cursor: int, verdict: int) -> bytes:
    """Assemble: frame = table[cursor++]; return verdict (or drop at the table's end)."""
    op = _instruction
    key = [op(0xBF, 2, 10), op(0x07, 2, value=-4)]  # r2 = &stack[-4]

    def look(array: int) -> list[bytes]:
        return [op(0x18, 1, 1, value=array), op(0), *key, op(0x85, value=LOOKUP)]

    copy = [op(0x79, 5, 0, at) + op(0x7B, 2, 5, at) for at in range(0, SLOT, 8)]
    ending = [op(0xB7, 0, value=verdict), op(0x95), op(0xB7, 0, value=DROP), op(0x95)]
    tail = [op(0x61, 2, 6, 0), op(0x61, 3, 6, 4), op(0xBF, 4, 2), op(0x07, 4, value=SLOT)]
    to_drop = len(copy) * 2 + 2
    tail += [op(0x2D, 4, 3, to_drop), *copy, *ending]  # if data + SLOT > data_end, drop
    second = look(table)
    to_drop = 5 + to_drop
    second += [op(0x15, 0, offset=to_drop)]  # no such packet: drop
    middle = [op(0x79, 7, 0), op(0x63, 10, 7, -4), op(0x07, 7, value=1), op(0x7B, 0, 7)]
    to_drop += len(middle) + len(second)
    first = [op(0xBF, 6, 1), op(0x62, 10, offset=-4), *look(cursor), op(0x15, 0, offset=to_drop)]
    return b"".join([*first, *middle, *second, *tail])
