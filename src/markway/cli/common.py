"""What the commands share: reading the file, standing before the kernel, failing in one line."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.load import Loaded, Source
    from markway.config.problems import ConfigError

DEFAULT_PATH = Path("/etc/markway")

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="The configuration: a TOML file, or a directory of *.toml files.",
        show_default=True,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[
    str,
    typer.Option("--wait", metavar="TIME", help="How long to wait for another command that changes the machine."),
]

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}


def fail(message: str, status: int = 1) -> NoReturn:
    """End the command with one message on standard error."""
    print(f"markway: {message}", file=sys.stderr)
    raise typer.Exit(status)


def say(message: str) -> None:
    """Say something beside what was asked for."""
    print(f"markway: {message}", file=sys.stderr)


def seconds(text: str) -> float:
    """A duration from the command line, as `60s` or `5m`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)", text)
    if not match:
        fail(f'"{text}" is no duration: write for example 60s or 5m', 2)
    return float(match[1]) * _UNITS[match[2]]


def need_root(command: str) -> None:
    """End the command unless it may change the kernel's network."""
    if os.geteuid() != 0:
        fail(f"{command} needs root, to talk to the kernel: try sudo markway {command}")


def load(path: Path, *, as_json: bool = False) -> Loaded:
    """Read a configuration; end the command with all its problems if it has any."""
    from markway.config.load import load as load_sources
    from markway.config.problems import ConfigError

    try:
        return load_sources(sources(path))
    except OSError as error:
        fail(unreadable(path, error))
    except ConfigError as error:
        refuse(error, as_json=as_json)


def refuse(error: ConfigError, *, as_json: bool = False) -> NoReturn:
    """End the command with all problems of a configuration."""
    if as_json:
        import json

        print(json.dumps({"problems": [problem.as_dict() for problem in error.problems]}, indent=2))
    else:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"{count(len(error.problems), 'problem')}; nothing was changed", file=sys.stderr)
    raise typer.Exit(1) from None


def sources(path: Path) -> list[Source]:
    """The files of a configuration, read; OSError if they cannot be."""
    from markway.config.load import LARGEST_FILE, Source

    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(errno.ENOENT, "it has no *.toml file", path)
    found = []
    for file in files:
        with file.open("rb") as opened:
            found.append(Source(str(file), opened.read(LARGEST_FILE + 1)))
    return found


def unreadable(path: Path, error: OSError) -> str:
    """Why a configuration cannot be read."""
    return f"cannot read {error.filename or path}: {error.strerror}"


@contextmanager
def told(*, as_json: bool = False) -> Iterator[None]:
    """Turn what can go wrong with the machine, or with a configuration on this machine, into one message."""
    from markway.apply.confirm import NothingAwaitedError, NothingToUndoError
    from markway.apply.folder import BusyError, StoreError
    from markway.apply.transaction import ApplyError
    from markway.config.problems import ConfigError
    from markway.kernel.netlink import NetlinkError
    from markway.kernel.nft import NftMissingError
    from markway.marks import MarksError

    try:
        yield
    except ConfigError as error:
        refuse(error, as_json=as_json)
    except (BusyError, StoreError, ApplyError, MarksError, NftMissingError) as error:
        fail(str(error))
    except (NothingAwaitedError, NothingToUndoError) as error:
        fail(str(error))
    except NetlinkError as error:
        fail(f"the kernel refused: {error.strerror}")
