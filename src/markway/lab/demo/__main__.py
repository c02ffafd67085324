"""`python -m markway.lab.demo`: options, the lab's life, and how it all ends."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_PROGRAMS = {"nginx": "nginx-light", "snmpd": "snmpd", "ip": "iproute2", "prlimit": "util-linux"}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FEWEST = 100
_MARK, _RUNNING = "demo", "running"  # a file in the lab's directory, and what it says
_BROKEN, _UNABLE = 1, 2
_EPILOG = """\
Exit status: 0 every promise held; 1 one did not; 2 it could not run.
It needs root and nginx, takes about a minute, and removes what it made, also when interrupted.
Nothing outside its own network namespaces changes.
"""


class _InterruptedError(SystemExit):
    """A signal ends the demo; nothing on the way may take it for a failure of its own."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(self.status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = _parser().parse_args(argv)
    for number in _SIGNALS:
        signal.signal(number, _interrupted)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without ✓
    from markway.kernel.netns import NetnsError  # noqa: PLC0415 - the signals first
    from markway.lab.topology import LabError  # noqa: PLC0415

    try:
        _check()
        with _alone(options.name):
            return _run(options)
    except (LabError, NetnsError) as error:
        sys.stderr.write(f"markway demo: {error}\n")
        return _UNABLE
    except _InterruptedError as interrupted:
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write("\nmarkway demo: interrupted; its lab is removed\n")
        return interrupted.status


def _run(options: argparse.Namespace) -> int:
    from markway.config.load import Source, load  # noqa: PLC0415
    from markway.lab.demo import facts  # noqa: PLC0415
    from markway.lab.demo.promises import Promises  # noqa: PLC0415
    from markway.lab.demo.screen import Screen  # noqa: PLC0415
    from markway.lab.demo.story import BrokenError, Story  # noqa: PLC0415
    from markway.lab.lab import Lab  # noqa: PLC0415

    begun = time.monotonic()
    file, shown = _file()
    config = load([Source(shown, file.read_bytes())]).config
    screen = Screen([backend.name for service in config.services for backend in service.backends])
    promises = Promises.made()
    if options.brief:
        promises.leave_out(promises.rates, promises.guarded, promises.dead, promises.loaded, promises.drained)
    _remove_stale(options.name)
    before = facts.outside()
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.up(config, options.name))
        stack.callback(_ignore_signals)  # before the lab is removed
        _mark(lab.name, _RUNNING)
        screen.head(lab, shown, time.monotonic() - begun)
        try:
            Story(lab, file, shown, screen, promises, connections=options.connections, brief=options.brief).run()
        except BrokenError:
            screen.broken()
        if options.keep:
            _mark(lab.name, "kept")
            stack.pop_all()
    after = facts.outside()
    changed = ", ".join(name for name, text in before.items() if after[name] != text)
    said = f"changed: {changed}" if changed else f"this machine's own {', '.join(before)} are as before"
    promises.outside.judge(not changed, said)
    screen.summary(promises, time.monotonic() - begun)
    if options.keep:
        screen.entrances(options.name)
    return 0 if promises.kept else _BROKEN


def _check() -> None:
    """LabError, with how to mend it, if something is missing."""
    from markway.lab.topology import LabError  # noqa: PLC0415

    if os.geteuid() != 0:
        raise LabError("it builds network namespaces, which needs root: try sudo make demo")
    for place in ("/usr/local/sbin", "/usr/sbin", "/sbin"):  # a plain `su` leaves them out
        if place not in os.environ.get("PATH", "").split(os.pathsep):
            os.environ["PATH"] = os.environ.get("PATH", os.defpath) + os.pathsep + place
    missing = [program for program in _PROGRAMS if not shutil.which(program)]
    if missing:
        packages = " ".join(_PROGRAMS[program] for program in missing)
        raise LabError(f"needs {' and '.join(missing)}: apt-get install {packages}")


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Run no second demo of this name. The kernel forgets an abstract socket with its process."""
    from markway.lab.topology import LabError  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0markway-demo-{name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise LabError("another demo is running; wait for its end, or use another --name") from error
        yield


def _remove_stale(name: str) -> None:
    """Remove the lab of a demo that was killed; LabError if it is anyone else's."""
    from markway.lab import build  # noqa: PLC0415
    from markway.lab.topology import LabError, check_name  # noqa: PLC0415

    check_name(name)
    if name not in build.names():
        return
    try:
        state = (build.directory(name) / _MARK).read_text(encoding="ascii")
    except OSError:
        state = ""
    if state != _RUNNING:
        raise LabError(f'the lab "{name}" is up; remove it first: {build.command()} lab down {name}')
    build.down(name)
    sys.stderr.write("markway demo: removed the lab of a demo that was killed\n")


def _mark(name: str, state: str) -> None:
    """Say in the lab's directory that it is a demo's."""
    from markway.lab import build  # noqa: PLC0415

    (build.directory(name) / _MARK).write_text(state, encoding="ascii")


def _file() -> tuple[Path, str]:
    """The file that is applied, and how to call it."""
    shown = Path("examples/three-servers.toml")
    for parent in Path(__file__).resolve().parents:
        if (parent / shown).is_file():
            return parent / shown, str(shown)
    from markway.lab.topology import LabError  # noqa: PLC0415

    raise LabError(f"{shown} is missing: run it from a checkout, by make demo")


def _interrupted(number: int, _: FrameType | None) -> NoReturn:
    _ignore_signals()
    raise _InterruptedError(number)


def _ignore_signals() -> None:
    """From now on the lab is removed, in peace."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m markway.lab.demo",
        description="Build a lab, balance thousands of real connections in it, change the file meanwhile, "
        "and say which promises held.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab up and say how to enter it")
    parser.add_argument(
        "--connections",
        type=_enough,
        default=12_000,
        metavar="N",
        help="connections in each of three rounds (%(default)s)",
    )
    parser.add_argument("--brief", action="store_true", help="leave out the last act, in which the daemon watches")
    parser.add_argument("--name", default="demo", help="the lab's name (%(default)s)")
    return parser


def _enough(text: str) -> int:
    if not text.isdigit() or int(text) < _FEWEST:
        raise argparse.ArgumentTypeError(f"a number of at least {_FEWEST}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
