"""Named network namespaces: make them, remove them, work inside them.

Named as iproute2 names them (`ip netns list` shows them, `ip netns exec` enters them). Nothing here
changes the namespace of any thread but the caller's, and only inside `enter`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from markway.kernel import batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NETNS_DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x4000_0000  # linux/sched.h

_libc = ctypes.CDLL(None, use_errno=True)


class NetnsError(Exception):
    """Work in a namespace failed; the message names the namespace, the command and the kernel's reason."""


def create(names: Iterable[str]) -> None:
    """Make empty namespaces, all in one go; the first that cannot be made raises NetnsError."""
    ip(None, [f"netns add {name}" for name in names])


def delete(names: Iterable[str]) -> None:
    """Remove those of the namespaces that exist. The kernel frees their devices in the background."""
    present = [name for name in names if exists(name)]
    if present:
        ip(None, [f"netns del {name}" for name in present])


def exists(name: str) -> bool:
    """Whether a namespace of this name exists."""
    return (NETNS_DIRECTORY / name).exists()


def names(prefix: str = "") -> list[str]:
    """The named namespaces of this machine that begin with `prefix`, sorted."""
    with suppress(FileNotFoundError):
        return sorted(path.name for path in NETNS_DIRECTORY.iterdir() if path.name.startswith(prefix))
    return []


@contextmanager
def enter(name: str) -> Iterator[None]:
    """Put the calling thread into a namespace for the block.

    Sockets made and processes started in the block belong to the namespace for good. Never `await`
    inside: whatever else runs on this thread would run in the namespace too.
    """
    with (
        _opened(NETNS_DIRECTORY / name, name) as there,
        _opened(Path("/proc/thread-self/ns/net"), "home") as here,
    ):
        _setns(there, name)
        try:
            yield
        finally:
            _setns(here, "home")


def start(
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[str] | None = subprocess.DEVNULL,
    stdout: int | IO[str] | None = subprocess.DEVNULL,
    stderr: int | IO[str] | None = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start a process in a namespace and return at once.

    The child inherits the namespace of the thread that forks it, so this needs no `ip netns exec`
    (3 ms) and no preexec_fn (unsafe with threads). Unlike `ip netns exec` it leaves /sys as it is:
    a program that reads /sys/class/net sees the devices of the caller's namespace.
    """
    with enter(name):
        try:
            return subprocess.Popen(argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr, text=True)
        except OSError as error:
            raise NetnsError(f"{name}: {argv[0]}: {error.strerror}") from error


def run(
    name: str,
    argv: Sequence[str],
    *,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a namespace, give it `text` on stdin, and return what it printed.

    NetnsError when it exits with anything but 0 (if `check`) or takes more than `timeout` seconds.
    """
    pipe = subprocess.PIPE
    source = subprocess.DEVNULL if text is None else pipe
    with start(name, argv, env=env, stdin=source, stdout=pipe, stderr=pipe) as process:
        try:
            out, err = process.communicate(text, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise NetnsError(f"{name}: {' '.join(argv)}: no end after {timeout:g} s") from error
        except BaseException:
            process.kill()
            raise
    if check and process.returncode:
        why = err.strip() or out.strip() or "no message"
        raise NetnsError(f"{name}: {' '.join(argv)}: exit status {process.returncode}: {why}")
    return subprocess.CompletedProcess(list(argv), process.returncode, out, err)


def ip(name: str | None, lines: Sequence[str]) -> None:
    """Run `ip` commands (without the leading `ip`) in one process; None is the caller's namespace."""
    _batch("ip", name, lines)


def tc(name: str | None, lines: Sequence[str]) -> None:
    """Run `tc` commands (without the leading `tc`) in one process; None is the caller's namespace."""
    _batch("tc", name, lines)


def sysctl(name: str, settings: Mapping[str, str]) -> None:
    """Write kernel settings of a namespace; keys are paths below /proc/sys/net, as `ipv4/ip_forward`."""
    with enter(name):  # /proc/sys/net shows the namespace of the thread that opens it
        for key, value in settings.items():
            try:
                Path("/proc/sys/net", key).write_text(value, encoding="ascii")
            except OSError as error:
                raise NetnsError(f"{name}: net/{key} = {value}: {error.strerror}") from error


def processes(spaces: Iterable[str]) -> list[int]:
    """The processes whose main thread is in one of the namespaces."""
    wanted = set()
    for space in spaces:
        with suppress(OSError):
            wanted.add(_identity(NETNS_DIRECTORY / space))
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended meanwhile
                if _identity(entry / "ns/net") in wanted:
                    found.append(int(entry.name))
    return found


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Signal exactly the process that `pidfd` was opened on; one that has ended is left in peace."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _batch(tool: str, name: str | None, lines: Sequence[str]) -> None:
    try:
        batch.run(tool, lines, name)
    except batch.BatchError as error:
        raise NetnsError(f"{name or 'this namespace'}: {error}") from error


@contextmanager
def _opened(path: Path, name: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetnsError(f"{name}: no such network namespace ({error.strerror})") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _setns(descriptor: int, name: str) -> None:
    # os.setns is Python 3.12's.
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise NetnsError(f"{name}: cannot enter the network namespace: {os.strerror(ctypes.get_errno())}")


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino
