"""Where the state of a network namespace is kept."""

from __future__ import annotations

import os
from pathlib import Path

_NAMED = Path("/run/netns")


def state_folder() -> Path:
    """The state folder of the network namespace that this process is in.

    `MARKWAY_STATE_DIR` decides if it is set. The machine's own namespace, that of process 1,
    has /var/lib/markway. Any other does not survive a reboot, and its folder under /run neither:
    it has the namespace's name (ip-netns(8)), or its inode.
    """
    if chosen := os.environ.get("MARKWAY_STATE_DIR"):
        return Path(chosen)
    own = Path("/proc/self/ns/net").stat()
    if _same(own, Path("/proc/1/ns/net")):
        return Path("/var/lib/markway")
    if _NAMED.is_dir():
        for path in sorted(_NAMED.iterdir()):
            if _same(own, path):
                return Path("/run/markway/netns") / path.name
    return Path("/run/markway/netns") / str(own.st_ino)


def _same(own: os.stat_result, path: Path) -> bool:
    try:
        other = path.stat()
    except OSError:
        return False
    return (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)
