"""How this kernel takes a packet to the queue worker, found out in a few milliseconds before a program is compiled.

Whether a queue works is not asked here (`nft_queue` and `xt_nfqueue` do), only which of the two the kernel has at all:
it says so when a rule is tried that is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.compiler.asking import QUEUE, Asking
from markway.kernel import nft
from markway.kernel.netlink import CREATE, Message, Netlink, NetlinkError, text
from markway.kernel.rules import target_messages
from markway.program.nft import Chain, Written

if TYPE_CHECKING:
    from markway.config.model import Config

_TABLE, _CHAIN = "markway-asking", "ask"
_NEW_TABLE, _NEW_CHAIN = 10 << 8, 10 << 8 | 3
_INET = 1


def asking_for(config: Config) -> Asking:
    """How a configuration's connections get to a worker here; the kernel is asked only if one's do.

    Raises:
        NftMissingError: libnftables is not installed.
    """
    asked = any(guard.connections for guard in config.guards) or any(one.schedule.queued for one in config.services)
    return asking() if asked else Asking.QUEUE


def asking() -> Asking:
    """How packets get to the worker in this kernel; nft's own expression is preferred."""
    if _has_queue():
        return Asking.QUEUE
    return Asking.TARGET if _has_target() else Asking.NOT


def _has_queue() -> bool:
    place = f"inet {_TABLE} {_CHAIN}"
    rule = f"add rule {place} queue flags bypass to {QUEUE}"
    try:
        nft.run(f"add table inet {_TABLE}\nadd chain {place}\n{rule}", check=True)
    except nft.NftError:
        return False
    return True


def _has_target() -> bool:
    table = text(1, _TABLE)
    chain = Chain(_CHAIN, ((Written(f"xt target NFQUEUE {QUEUE} bypass"),),))
    messages = [
        Message(_NEW_TABLE, CREATE, _INET, table),
        Message(_NEW_CHAIN, CREATE, _INET, table + text(3, _CHAIN)),
        *target_messages([chain], _TABLE),
    ]
    try:
        with Netlink() as netlink:
            netlink.check(messages)
    except NetlinkError:
        return False
    return True
