"""Which kernel: user-mode Linux where it can be built and run, else Debian's in qemu."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fullkernel import cache, debian, uml
from fullkernel.guest import GuestError, run
from fullkernel.packages import PackageError

if TYPE_CHECKING:
    from fullkernel.guest import Kernel


def chosen(name: str) -> Kernel:
    """A kernel that boots here.

    Raises:
        GuestError: none does.
        PackageError: what it is made of cannot be had.
    """
    if name == "debian":
        return debian.kernel()
    try:
        kernel = uml.UserMode(uml.binary())
        _try(kernel)
    except (GuestError, PackageError) as error:
        if name == "uml":
            raise
        cache.say(f"user-mode Linux does not run here: {error}")
        cache.say("taking Debian's kernel in qemu instead: no virtual time, and slower")
        return debian.kernel()
    return kernel


def _try(kernel: Kernel) -> None:
    with tempfile.TemporaryDirectory() as nowhere:
        if run(kernel, ["true"], {}, Path(nowhere), limit=60):
            raise GuestError("it boots, but runs no program")
