"""Boot a kernel over this machine's files, run one command in it, and give back its output and exit status."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fullkernel import cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READY, END = b"fullkernel: ready", b"\x1c"  # what guest-init prints around the command's own output
INIT = Path(__file__).with_name("guest-init")
JOB = Path("/run/job")  # in the guest
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class GuestError(Exception):
    """The kernel did not boot, or ended without an exit status."""


class Kernel(Protocol):
    """A kernel that can be run here."""

    @property
    def name(self) -> str:
        """As the tests' records call it."""

    @property
    def virtual_time(self) -> bool:
        """Whether its clock can be made to jump."""

    def booted(self, job: Job, stack: ExitStack) -> list[str]:
        """The command line that boots it; what must run beside it is left on the stack."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a guest is to do; its folder is /run/job in the guest, for what is to come back."""

    folder: Path
    virtual_time: bool = True
    interactive: bool = False
    memory: str = "2G"  # an upper bound: it is taken as it is used


def run(
    kernel: Kernel,
    argv: Sequence[str],
    env: Mapping[str, str],
    results: Path,
    *,
    virtual_time: bool = True,
    interactive: bool = False,
    limit: float | None = None,
) -> int:
    """Run a command in the kernel, its output live on ours; its exit status.

    Args:
        kernel: which one.
        argv: the command, as on this machine.
        env: its whole environment.
        results: where the files come that the command left in /run/job/results.
        virtual_time: let the guest's clock jump whenever all of it waits (if the kernel can).
        interactive: connect this terminal, and let the clock be.
        limit: end the guest after so many seconds of this machine's time.

    Raises:
        GuestError: it did not boot, took too long, or ended without a status.
    """
    results.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="markway-fullkernel-")))
        job = Job(folder, virtual_time and not interactive, interactive)
        (folder / "results").mkdir()
        _write_command(folder / "command", argv, env, interactive=interactive)
        booting = kernel.booted(job, stack)
        log = _attached(booting) if interactive else _piped(booting, limit)
        for file in (folder / "results").iterdir():
            (results / file.name).write_bytes(file.read_bytes())
        with suppress(FileNotFoundError, ValueError):
            return int((folder / "status").read_text())
    raise GuestError(f"the {kernel.name} kernel ended without a result:\n{log}")


def environment(kernel: str, *, virtual_time: bool = False) -> Mapping[str, str]:
    """What the guest knows of ours, and no more: two runs are to be alike."""
    path = [str(Path(sys.executable).parent), *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    path += [place for place in _SYSTEM_PATH if place not in path]
    size = shutil.get_terminal_size()
    return {
        "PATH": os.pathsep.join(path),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "COLUMNS": str(size.columns),
        "TMPDIR": "/run/tmp",
        "PYTHONHASHSEED": "0",
        "MARKWAY_TEST_KERNEL": kernel,
        "MARKWAY_VIRTUAL_TIME": "1" if virtual_time else "",
    }


def pinned(argv: Sequence[str]) -> list[str]:
    """On one processor, the last: user-mode Linux is twice as fast when it does not wander."""
    return ["taskset", "-c", str(max(os.sched_getaffinity(0))), *argv]


def _write_command(path: Path, argv: Sequence[str], env: Mapping[str, str], *, interactive: bool) -> None:
    variables = [f"{key}={value}" for key, value in env.items()]
    terminal = ["setsid", "-c", "-w"] if interactive else []
    line = shlex.join(["env", "-i", *variables, *terminal, *argv])
    console = "< /dev/console > /dev/console 2>&1" if interactive else "< /dev/null 2>&1"
    sane = "stty sane < /dev/console\n" if interactive else ""
    path.write_text(f"#!/bin/sh\ncd {shlex.quote(str(Path.cwd()))}\n{sane}exec {line} {console}\n", encoding="utf-8")
    path.chmod(0o755)


def _piped(argv: Sequence[str], limit: float | None) -> str:
    """Copy what comes after the guest is ready; what came before is returned, to explain a failure."""
    before: list[bytes] = []
    with _started(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process, _deadline(process, limit):
        out = process.stdout
        if out is None:
            raise GuestError("no output")
        for line in iter(out.readline, b""):
            if line.strip() == READY:
                break
            before.append(line)
        while chunk := out.read(1 << 16):
            own, end, rest = chunk.partition(END)
            sys.stdout.buffer.write(own)
            sys.stdout.buffer.flush()
            if end:  # the kernel has the last word
                before.append(rest)
                break
        before += iter(out.readline, b"")
    return b"".join(before).decode(errors="replace")


def _attached(argv: Sequence[str]) -> str:
    """Give the guest this terminal; user-mode Linux leaves it raw."""
    before = termios.tcgetattr(0) if os.isatty(0) else None
    try:
        with _started(argv, stdin=None, stdout=None):
            pass
    finally:
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
    return ""


@contextmanager
def _started(argv: Sequence[str], stdin: int | None, stdout: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A kernel with all its processes, which end with the block."""
    own_group = 0 if stdin is not None else None  # a group in the background may not read the terminal
    with subprocess.Popen(
        argv, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT, bufsize=0, process_group=own_group
    ) as process:
        try:
            yield process
            process.wait()
        finally:
            with suppress(ProcessLookupError):
                if own_group is not None:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()


@contextmanager
def _deadline(process: subprocess.Popen[bytes], limit: float | None) -> Iterator[None]:
    def end() -> None:
        cache.say(f"no end after {limit:g} s: ended")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit, end) if limit else None
    if timer:
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()
