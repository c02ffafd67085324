"""Kernel settings of this network namespace, from /proc/sys (sysctl(8))."""

from __future__ import annotations

from pathlib import Path

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def forwarding(version: int) -> bool:
    """Whether packets of this IP version are forwarded at all."""
    try:
        return (Path("/proc/sys") / _FORWARDING[version]).read_text().strip() != "0"
    except OSError:
        return False


def forwarding_name(version: int) -> str:
    """The setting's name, as sysctl(8) wants it."""
    return _FORWARDING[version].replace("/", ".")
