"""Probes of kinds of devices, and of programs on them."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

from markway.kernel import netns
from markway.kernel.capabilities.feature import Feature, UnknownError

if TYPE_CHECKING:
    from markway.kernel.capabilities.network import Network

_BPF = {"x86_64": 321, "aarch64": 280}  # the system call's number
_PROG_LOAD, _LINK_CREATE = 5, 28  # linux/bpf.h
_PROG_TYPE_XDP, _ATTACH_XDP, _DROP = 6, 37, 1
_GENERIC, _NATIVE = 1 << 1, 1 << 2  # XDP_FLAGS_* in linux/if_link.h
_VRF_TABLE = 105

_libc = ctypes.CDLL(None, use_errno=True)


def _dummy(network: Network) -> bool:
    network.ip("link add sink type dummy", "link set sink up", "route add 10.99.4.0/24 dev sink")
    network.arrived([(4000, 9)], to="10.99.4.1")
    return network.device_packets("sink") >= 1


def _vrf(network: Network) -> bool:
    passed = network.passes()
    network.ip(f"link add red type vrf table {_VRF_TABLE}", "link set red up", "link set right master red")
    apart = network.stops()
    network.ip("link set left master red")
    return passed and apart and network.passes()


def _xdp(mode: int, network: Network) -> bool:
    passed = network.passes()
    with netns.enter(network.middle):
        program = _load_dropper()
        try:
            link = _bpf(_LINK_CREATE, struct.pack("=IIII", program, socket.if_nametoindex("left"), _ATTACH_XDP, mode))
        finally:
            os.close(program)
    try:
        stopped = network.stops()
    finally:
        os.close(link)
    return passed and stopped


def _load_dropper() -> int:
    """A program of two instructions: r0 = XDP_DROP; exit."""
    code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, _DROP, 0x95, 0, 0, 0))
    license_ = ctypes.create_string_buffer(b"GPL")
    places = ctypes.addressof(code), ctypes.addressof(license_)
    return _bpf(_PROG_LOAD, struct.pack("=IIQQ", _PROG_TYPE_XDP, 2, *places))


def _bpf(command: int, attributes: bytes) -> int:
    number = _BPF.get(platform.machine())
    if number is None:
        raise UnknownError(f"the number of bpf(2) on {platform.machine()} is not known")
    descriptor = int(_libc.syscall(number, command, attributes, len(attributes)))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor


FEATURES = (
    Feature("dummy", "dummy devices", "a routed packet is counted by the device", "an address on lo", _dummy),
    Feature("vrf", "VRF devices", "two devices reach each other only inside one VRF", "rules and tables", _vrf),
    Feature(
        "xdp_generic",
        "XDP, generic",
        "a program of two instructions drops a packet",
        "nftables, which Markway uses anyway",
        partial(_xdp, _GENERIC),
    ),
    Feature(
        "xdp",
        "XDP in the driver (veth)",
        "a program of two instructions drops a packet",
        "nftables, which Markway uses anyway",
        partial(_xdp, _NATIVE),
    ),
)
