"""What probes need besides the kernel."""

from __future__ import annotations

import shutil
import subprocess

from markway.kernel.capabilities.feature import UnknownError


def need(program: str) -> None:
    """Give up the probe where a program is not installed."""
    if shutil.which(program) is None:
        raise UnknownError(f"{program} is not installed")


def load_module(name: str) -> None:
    """Have a module loaded that the kernel does not ask for by itself; it may be built in, or not exist."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", name], check=False, stdin=subprocess.DEVNULL)
