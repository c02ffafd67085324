"""`markway run`: the daemon."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from markway.cli.common import DEFAULT_PATH, File, fail, load, need_root, sources, told, unreadable

if TYPE_CHECKING:
    from markway.config.load import Loaded


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="In the foreground, for systemd (Type=notify; see contrib/markway.service). What is in force is "
        "taken over as it is, whether FILE has changed or not; where nothing is, FILE is applied. SIGHUP applies FILE. "
        "Killed or stopped, it leaves everything in force; a command or the next `run` takes over."
    )(run)


_FILES = 65536
"""Files that may be open: each check that waits for its answer is one."""


def run(
    file: File = DEFAULT_PATH,
    log: Annotated[str, typer.Option("--log", metavar="FORM", help="How to log: text or json.")] = "text",
) -> None:
    """Keep what is in force true while servers fail, recover, drain and load up."""
    import asyncio
    import gc

    from markway.api.server import beside
    from markway.apply.place import state_folder
    from markway.apply.store import Store
    from markway.config.load import load as load_sources
    from markway.config.problems import ConfigError
    from markway.director.journal import journal
    from markway.director.service import serve

    if log not in {"text", "json"}:
        fail(f'--log is text or json, not "{log}"', 2)
    need_root("run")
    gc.enable()
    _allow_files()

    def read() -> Loaded:
        return load_sources(sources(file))

    tell = journal(log, sys.stderr, systemd="JOURNAL_STREAM" in os.environ and not sys.stderr.isatty())
    store = Store(state_folder(), lazy=True)
    with told():
        try:
            asyncio.run(serve(store, read, tell, beside))
        except ConfigError:
            load(file)  # says what is wrong, line by line
            raise
        except OSError as error:
            if error.filename is None:
                raise
            fail(unreadable(file, error))


def _allow_files() -> None:
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
