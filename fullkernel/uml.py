"""User-mode Linux from Debian's source package: built once, then a program like any other."""

from __future__ import annotations

import os
import re
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fullkernel import cache
from fullkernel.guest import INIT, pinned
from fullkernel.packages import PackageError, installed_version, need

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import ExitStack

    from fullkernel.guest import Job

_CONFIG = Path(__file__).with_name("uml.config")
_PACKAGE = "linux-source-6.12"
_SOURCE = Path("/usr/src/linux-source-6.12.tar.xz")
# A tenth of the sources, and none of user-mode Linux.
_UNUSED = ("*/drivers/gpu/drm/amd/include", "*/tools/testing", "*/arch/*/boot/dts")


# The first second of 2026. With a start of its own, a guest in virtual time prints the same at every run.
_EPOCH = 1767225600 * 10**9


@dataclass(frozen=True, slots=True)
class UserMode:
    """Linux as a process, in virtual time if wanted."""

    binary: Path
    name: str = "uml"
    virtual_time: bool = True

    def booted(self, job: Job, stack: ExitStack) -> list[str]:
        """See `guest.Kernel`."""
        del stack
        console = "con0=fd:0,fd:1" if job.interactive else "con0=null,fd:1"
        time = ["time-travel=inf-cpu", f"time-travel-start={_EPOCH}"] if job.virtual_time else []
        root = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]
        init = [f"init={INIT}", "con=null", console, "quiet", *time, "--", "uml", str(job.folder)]
        return pinned([str(self.binary), f"mem={job.memory}", *root, *init])


def binary() -> Path:
    """The kernel, which is built now if this configuration and source package were never built."""
    need("fullkernel")
    name = f"uml-{cache.key(_CONFIG.read_text(encoding='ascii'), installed_version(_PACKAGE))}"
    return cache.kept(name, _build) / "linux"


def _build(folder: Path) -> None:
    cache.say(f"building user-mode Linux from {_PACKAGE}, once: some ten minutes on two cores")
    tree = folder / "source"
    tree.mkdir()
    excluded = [f"--exclude={pattern}" for pattern in _UNUSED]
    _run(["tar", "-xf", str(_SOURCE), "-C", str(tree), "--strip-components=1", *excluded], "unpacking")
    config = tree / ".config"
    config.write_bytes(_CONFIG.read_bytes())
    _make(tree, "olddefconfig", "configuring")
    _insist(config)
    _make(tree, "linux", "compiling")
    (tree / "linux").rename(folder / "linux")
    config.rename(folder / "config")
    _run(["strip", "--strip-debug", str(folder / "linux")], "stripping")
    _run(["rm", "-rf", str(tree)], "cleaning")


def _make(tree: Path, target: str, what: str) -> None:
    jobs = len(os.sched_getaffinity(0))
    _run(["make", "-C", str(tree), "ARCH=um", f"-j{jobs}", "KBUILD_BUILD_TIMESTAMP=2026-01-01", target], what)


def _insist(config: Path) -> None:
    """Every option asked for must be in force: one lost to a missing dependency is a test that cannot run."""
    asked = set(re.findall(r"^CONFIG_\w+=.+$", _CONFIG.read_text(encoding="ascii"), re.MULTILINE))
    lost = sorted(asked - set(config.read_text(encoding="ascii").splitlines()))
    if lost:
        raise PackageError(f"this kernel's source does not take {', '.join(lost)}")


def _run(argv: Sequence[str], what: str) -> None:
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        cache.progress(_noted(process.stdout or (), last), what)
    if process.returncode:
        raise PackageError(f"{what} failed:\n{''.join(last)}")


def _noted(lines: Iterable[str], last: deque[str]) -> Iterator[str]:
    for line in lines:
        last.append(line)
        yield line
