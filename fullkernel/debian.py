"""Debian's own cloud kernel, unmodified, in qemu: the cross-check of user-mode Linux."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fullkernel import cache
from fullkernel.guest import INIT, GuestError, pinned
from fullkernel.packages import PackageError, need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from fullkernel.guest import Job

_NAME = r"linux-image-6\.12\.\d+\+deb12-cloud-(amd64|arm64)"
_DAEMON = Path("/usr/lib/qemu/virtiofsd")
_READY = 10.0

# An instruction is a nanosecond and a cycle. While the guest waits, its clock goes on with this machine's (sleep=on,
# the default): with sleep=off it would jump, and run into time-outs while a file is read.
_COUNTING = ("-icount", "shift=0")
_COUNTING_CLOCK = "tsc_early_khz=1000000"


@dataclass(frozen=True, slots=True)
class Emulated:
    """A kernel in qemu, all in software: this needs no help of the processor."""

    folder: Path
    """`vmlinux` and `lib/modules`, as the package has them."""
    counted: bool = False
    """Whether its clock counts its own instructions, one a nanosecond, instead of this machine's time."""
    name: str = "debian"
    virtual_time: bool = False

    def booted(self, job: Job, stack: ExitStack) -> list[str]:
        """See `guest.Kernel`."""
        (job.folder / "modules").symlink_to(self.folder)
        memory = f"memory-backend-memfd,id=memory,size={job.memory},share=on"
        shares = [
            option
            for tag, folder in (("root", Path("/")), ("job", job.folder))
            for option in _shared(tag, folder, job.folder, stack)
        ]
        line = ["rootfstype=virtiofs", "root=root", "ro", "reboot=t", "panic=-1", "quiet", "console=ttyS0"]
        line += [_COUNTING_CLOCK if self.counted else _clock(), "mitigations=off", "random.trust_cpu=on"]
        line += [f"init={INIT}", "--", self.name, str(job.folder)]
        machine = ["-machine", "microvm,pcie=on,rtc=on,memory-backend=memory", "-cpu", "max", "-smp", "1"]
        display = ["-nodefaults", "-no-user-config", "-no-reboot", "-nographic", "-serial", "stdio"]
        kernel = ["-kernel", str(self.folder / "vmlinux"), "-append", " ".join(line)]
        qemu = ["qemu-system-x86_64", *machine, "-m", job.memory, "-object", memory]
        argv = [*qemu, *display, *kernel, *shares]
        # What is counted is the same on every processor: it may go where there is room.
        return [*argv, *_COUNTING] if self.counted else pinned(argv)


def kernel(*, counted: bool = False) -> Emulated:
    """The newest of Debian's 6.12 cloud kernels, downloaded if it is not there yet; see `Emulated`."""
    need("fullkernel-debian")
    package = _newest()
    name = f"debian-{package.removeprefix('linux-image-')}"
    return Emulated(cache.kept(name, lambda folder: _fetch(package, folder)), counted)


def _newest() -> str:
    """By name: the package is never installed, for nobody wants to boot this machine with it."""
    listed = _output(["apt-cache", "search", "--names-only", "^linux-image-6.12.*cloud"])
    found = [line.split()[0] for line in listed.splitlines() if re.fullmatch(_NAME, line.split()[0])]
    if not found:
        kept = sorted(cache.directory().glob("debian-*-cloud-*[!k]"))
        if kept:
            return f"linux-image-{kept[-1].name.removeprefix('debian-')}"
        raise PackageError("apt knows no linux-image-6.12.*-cloud: is this Debian 12, with its security updates?")
    return max(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def _fetch(package: str, folder: Path) -> None:
    cache.say(f"downloading {package}, once")
    _output(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], folder)
    [archive] = folder.glob("*.deb")
    _output(["dpkg-deb", "-x", str(archive), str(folder / "unpacked")])
    unpacked = folder / "unpacked"
    modules = unpacked / "lib" / "modules"
    modules.rename(_made(folder / "lib") / "modules")
    [image] = (unpacked / "boot").glob("vmlinuz-*")
    (folder / "vmlinux").write_bytes(_uncompressed(image.read_bytes()))
    [release] = (folder / "lib" / "modules").iterdir()
    _output(["depmod", "-b", str(folder), release.name])
    shutil.rmtree(unpacked)
    archive.unlink()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _uncompressed(image: bytes) -> bytes:
    """The ELF image inside a bzImage, which is what a machine without firmware starts (scripts/extract-vmlinux)."""
    for magic, program in ((b"\xfd7zXZ\0", ["xz", "-dc"]), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"])):
        at = image.find(magic)
        while at >= 0:
            done = subprocess.run(program, input=image[at:], capture_output=True, check=False)
            if done.stdout.startswith(b"\x7fELF"):  # what follows the stream is not of it: the program complains
                return done.stdout
            at = image.find(magic, at + 1)
    raise PackageError("no kernel was found inside the package's image")


def _shared(tag: str, folder: Path, place: Path, stack: ExitStack) -> Sequence[str]:
    """Serve a folder of this machine to the guest; the options of qemu that connect it."""
    path = place / f"{tag}.socket"
    log = stack.enter_context((place / f"{tag}.log").open("wb"))
    command = [str(_DAEMON), f"--socket-path={path}", "-o", f"source={folder}", "-o", "cache=auto,sandbox=chroot"]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(daemon.wait)
    stack.callback(daemon.kill)
    deadline = time.monotonic() + _READY
    while not path.exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise GuestError(f"virtiofsd did not start: {(place / f'{tag}.log').read_text(errors='replace')}")
        time.sleep(0.01)
    device = f"vhost-user-fs-pci,chardev={tag},tag={tag}"
    return ["-chardev", f"socket,id={tag},path={path}", "-device", device]


def _output(argv: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise PackageError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def _clock() -> str:
    """The guest's clock is this machine's cycle counter, and its frequency is told.

    To find it out the guest would race a timer that qemu serves late on a busy machine; then it has no clock, and
    hangs.
    """
    found = re.search(r"^cpu MHz\s*: ([\d.]+)", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    return f"tsc_early_khz={float(found[1]) * 1000:.0f}" if found else "no_timer_check"
