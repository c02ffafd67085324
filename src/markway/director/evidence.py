"""The kernel's own signs that a backend died, as they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from markway.compiler.evidence import GROUP
from markway.kernel.nflog import Log

if TYPE_CHECKING:
    from collections.abc import Callable


class Evidence:
    """Signs of dead backends: a first packet sent again, a reset for an answer, ICMP that says unreachable.

    The kernel tells of each mark at most ten times a second (`markway.compiler.evidence`), and only of services whose
    check is passive. A sign is a reason to ask the backend, not to believe it dead: over UDP, two datagrams before the
    first answer look like one that is sent again.
    """

    def __init__(self, mask: int, group: int = GROUP) -> None:
        """Begin to collect, in the network namespace of the thread.

        Args:
            mask: the backend field; `mask` may be set anew when a program has another.
            group: the group of the kernel's log messages.

        Raises:
            NetlinkError: EPERM if another process collects already, or without CAP_NET_ADMIN.
        """
        self.mask = mask
        self._log = Log(group)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def lost(self) -> int:
        """How often more came than could be kept; what was lost comes again while the backend is dead."""
        return self._log.lost

    def watch(self, callback: Callable[[int], None]) -> None:
        """Call back with the mark of a backend whenever there is a sign, from the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._log.fileno(), self._tell, callback)

    def _tell(self, callback: Callable[[int], None]) -> None:
        """Each mark once, however often it is in what has come."""
        for mark in sorted({mark & self.mask for mark in self._log.marks()} - {0}):
            callback(mark)

    def close(self) -> None:
        """Stop collecting."""
        if self._loop and not self._loop.is_closed():
            self._loop.remove_reader(self._log.fileno())
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
