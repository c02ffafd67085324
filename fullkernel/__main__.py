"""The command line: `python -m fullkernel test|run|shell|account`; see docs/testing.md."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fullkernel import account, cache, table
from fullkernel.choice import chosen
from fullkernel.guest import JOB, GuestError, environment, run
from fullkernel.packages import PackageError

if TYPE_CHECKING:
    from fullkernel.guest import Kernel

RESULTS = Path("test-results")
TESTS = ("tests/kernel", "tests/fullkernel")


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
    """The kernel tests here, then what is left (or all of them) in a full kernel; and an account of it."""
    here = RESULTS / "machine.json"
    here.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "pytest", f"--junit-xml={here.with_suffix('.xml')}", f"--record={here}", *TESTS]
    failed = subprocess.run(argv, check=False).returncode
    if not here.exists():
        return failed or 1
    options.left_over = None if options.all else here
    records = [here]
    if options.all or account.left_over(here):
        kernel = chosen("auto")
        there = RESULTS / f"{kernel.name}.json"
        there.unlink(missing_ok=True)
        failed |= _test(kernel, options)
        records += [there] if there.exists() else []
    return account.report(records) or failed


def _test(kernel: Kernel, options: argparse.Namespace) -> int:
    virtual_time = kernel.virtual_time and not options.real_time
    env = environment(kernel.name, virtual_time=virtual_time)
    argv = _pytest(kernel, options)
    return run(kernel, argv, env, RESULTS, virtual_time=virtual_time, limit=options.limit)


def _pytest(kernel: Kernel, options: argparse.Namespace) -> list[str]:
    """The pytest command, whose records come back."""
    tests = account.left_over(options.left_over) if options.left_over else options.argument or TESTS
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
        command.set_defaults(left_over=None)
        command.add_argument("argument", nargs="*")
    commands.add_parser("table", help="write docs/kernels.md anew, from all three kernels")
    counted = commands.add_parser("account", help="say what ran where, from the records of several runs")
    counted.add_argument("records", nargs="+", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
