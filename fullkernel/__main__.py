"""The command line: `python -m fullkernel test|run|shell|account`; see docs/testing.md."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fullkernel import account, cache, table
from fullkernel.choice import chosen
from fullkernel.guest import JOB, GuestError, environment, run
from fullkernel.packages import PackageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fullkernel.guest import Kernel

RESULTS = Path("test-results")
TESTS = ("tests/kernel", "tests/fullkernel")
_SIDE_BY_SIDE = ("-n2", "--dist=worksteal")  # half of the time they wait; neighbours share a lab


def main() -> int:
    """Do what the command line says; the exit status is that of what ran in the kernel."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the guest
    if options.what == "account":
        return account.report(options.records)
    if os.geteuid() != 0:
        cache.say("needs root, for the guest's root to own this machine's files: try sudo")
        return 1
    try:
        if options.what == "table":
            return table.write(environment("table"), RESULTS)
        return both(options) if options.what == "both" else _in_kernel(options)
    except (GuestError, PackageError) as error:
        cache.say(str(error))
        return 1


def _in_kernel(options: argparse.Namespace) -> int:
    kernel = chosen(options.kernel)
    if options.what == "shell":
        shell = options.argument or ["bash", "--login"]
        return run(kernel, shell, environment(kernel.name), RESULTS, interactive=True)
    if options.what == "test":
        return _test(kernel, options)
    virtual_time = kernel.virtual_time and not options.real_time
    env = environment(kernel.name, virtual_time=virtual_time)
    return run(kernel, options.argument, env, RESULTS, virtual_time=virtual_time, limit=options.limit)


def both(options: argparse.Namespace) -> int:
    """The kernel tests here and, beside them, what is left (or all of them) in a full kernel; and an account of it."""
    here, left = RESULTS / "machine.json", RESULTS / "left.json"
    there = [RESULTS / "uml.json", RESULTS / "debian.json"]
    for record in (here, left, *there):
        record.unlink(missing_ok=True)
    pytest = [sys.executable, "-m", "pytest", *TESTS]
    collected = subprocess.run([*pytest, "--collect-only", f"--record={left}"], check=False, stdout=subprocess.PIPE)
    if collected.returncode:
        sys.stdout.buffer.write(collected.stdout)
        return collected.returncode
    # Its processes must agree on what is left: a probe may say now this and now that on a busy machine.
    argv = [*pytest, *_SIDE_BY_SIDE, f"--leave={left}", f"--junit-xml={here.with_suffix('.xml')}", f"--record={here}"]
    tests = [] if options.all else account.left_over(left)
    with ExitStack() as stack:
        full = [sys.executable, "-m", "fullkernel", "test", *tests]
        ended = stack.enter_context(_beside(full)) if options.all or tests else lambda: 0
        failed = subprocess.run(argv, check=False).returncode
        failed |= ended()
    return account.report(record for record in (here, *there) if record.exists()) or failed


@contextmanager
def _beside(argv: Sequence[str]) -> Iterator[Callable[[], int]]:
    """A command that has the time which others leave; what it gives waits for its end, and then prints what it said."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(["nice", *argv], stdin=subprocess.DEVNULL, stdout=said) as process,
    ):

        def ended() -> int:
            status = process.wait()
            said.seek(0)
            sys.stdout.buffer.write(said.read())
            return status

        try:
            yield ended
        finally:
            process.terminate()


def _test(kernel: Kernel, options: argparse.Namespace) -> int:
    virtual_time = kernel.virtual_time and not options.real_time
    env = environment(kernel.name, virtual_time=virtual_time)
    argv = _pytest(kernel, options)
    return run(kernel, argv, env, RESULTS, virtual_time=virtual_time, limit=options.limit)


def _pytest(kernel: Kernel, options: argparse.Namespace) -> list[str]:
    """The pytest command, whose records come back."""
    tests = options.argument or TESTS
    results = JOB / "results"
    records = [f"--junit-xml={results}/{kernel.name}.xml", f"--record={results}/{kernel.name}.json"]
    color = f"--color={'yes' if sys.stdout.isatty() else 'no'}"
    return [sys.executable, "-m", "pytest", color, "-p", "no:cacheprovider", *records, *tests]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fullkernel")
    commands = parser.add_subparsers(dest="what", required=True)
    for name, help_ in (
        ("test", "run pytest; default: the kernel tests"),
        ("run", "run a command"),
        ("shell", "look around by hand"),
        ("both", "run pytest in this machine's kernel, and what that cannot do in the full one"),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument("--kernel", choices=("auto", "uml", "debian"), default="auto")
        command.add_argument("--real-time", action="store_true", help="let the guest's clock be")
        command.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="of this machine's time")
        command.add_argument("--all", action="store_true", help="both: everything in the full kernel too")
        command.add_argument("argument", nargs="*")
    commands.add_parser("table", help="write docs/kernels.md anew, from all three kernels")
    counted = commands.add_parser("account", help="say what ran where, from the records of several runs")
    counted.add_argument("records", nargs="+", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
