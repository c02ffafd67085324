"""`markway lab`: networks of namespaces in which a configuration is tried before it is applied."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from markway.cli.common import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markway.config.model import Config, Service
    from markway.lab.build import Record
    from markway.lab.topology import Topology

app = typer.Typer(
    name="lab",
    no_args_is_help=True,
    help="Try a file in a network of its own: clients, a director, a real server for each backend.",
)

_DEFAULT = "lab"

Name = Annotated[str, typer.Option("--name", help="The lab's name: a-z, 0-9 and _.")]


@app.command(
    epilog="""Examples:

markway lab up    (the example that comes with Markway)

markway lab up markway.toml

markway lab exec client1 -- curl -s http://192.0.2.10/

The hosts are network namespaces: mw-lab-director, mw-lab-client1 and so on. Backends have nginx, with plain \
HTTP on every port (443 too), and a small UDP server; both answer with the backend's name. Services with \
helper = "ftp" have vsftpd, if it is installed. Of more than 64 ports, the first 8 and 80, 443 and 8080 are served. \
Nothing outside the lab changes."""
)
def up(
    file: Annotated[
        Path | None, typer.Argument(help="The configuration: a file or a directory. Default: an example.")
    ] = None,
    name: Name = _DEFAULT,
    apply: Annotated[bool, typer.Option("--apply/--no-apply", help="Apply the file on the lab's director.")] = True,
) -> None:
    """Build a lab from a file, start its servers, and apply the file on its director."""
    from markway.lab.build import command
    from markway.lab.build import up as build_up
    from markway.lab.plan import plan_lab

    _need_root("up")
    begun = time.monotonic()
    with _told():
        path = _example() if file is None else file.absolute()
        loaded = load(path)
        for warning in loaded.warnings if not apply else ():  # else apply says them
            typer.echo(f"warning: {warning}", err=True)
        config = loaded.config
        topology = plan_lab(config, name)
        build_up(topology)
        if apply:
            _apply(topology.name, path)
    typer.echo(f'lab "{name}" is up in {time.monotonic() - begun:.1f} s, from {path}')
    _show(topology)
    for trial in _trials(config, topology):
        typer.echo(f"try:    {trial}")
    typer.echo(f"remove: {command()} lab down{'' if name == _DEFAULT else ' ' + name}")


@app.command(
    epilog="""Examples:

markway lab down

markway lab down demo

markway lab down --all"""
)
def down(
    name: Annotated[str, typer.Argument(help="The lab's name.")] = _DEFAULT,
    every: Annotated[bool, typer.Option("--all", help="Remove every lab on this machine.")] = False,
) -> None:
    """Remove a lab, also a half-built one: its processes, namespaces and files."""
    from markway.lab.build import down as build_down
    from markway.lab.build import names

    _need_root("down")
    with _told():
        for lab in names() if every else [name]:
            left = build_down(lab)
            typer.echo(f'lab "{lab}" is removed')
            if left:
                pids = ", ".join(map(str, left))
                typer.echo(f"not started in the lab, left alone in its nameless namespace: process {pids}")


@app.command("list")
def list_labs(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the labs on this machine, their hosts and what these serve."""
    import json
    from dataclasses import asdict

    from markway.lab.build import names, record

    with _told():
        records = [record(name) for name in names()]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in records], indent=1))
    elif not records:
        typer.echo("no lab is up; build one: sudo markway lab up [FILE]")
    for one in [] if as_json else records:
        _show_record(one)


@app.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""Examples:

markway lab exec client1 -- curl -s http://192.0.2.10/

markway lab exec director -- markway status

markway lab exec director -- nft list table inet markway

markway lab exec --name demo a -- bash

markway lab exec client1 -- python -m markway.lab.client 192.0.2.10:80 --count 1000""",
)
def execute(
    host: Annotated[str, typer.Argument(help="director, client1, client2, or a backend's host.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
    name: Name = _DEFAULT,
) -> None:
    """Run a command on a host of a lab; its exit status is the command's.

    It sees the host's network and this machine's files. Markway keeps a state for each host, apart from the machine's.
    """
    import os

    from markway.lab.build import environment, record
    from markway.lab.topology import LabError, namespace

    _need_root("exec")
    with _told():
        hosts = record(name).hosts
        if host not in hosts:
            raise LabError(f'lab "{name}" has no host "{host}"; it has {", ".join(hosts)}')
        own = command[1:] if command[0] == "--" else command
        argv = ["ip", "netns", "exec", namespace(name, host), *own]
        os.execvpe(argv[0], argv, environment(name))  # noqa: S606 - no shell is meant


def _apply(name: str, path: Path) -> None:
    from markway.kernel import netns
    from markway.lab.build import down as build_down
    from markway.lab.build import environment
    from markway.lab.topology import DIRECTOR, LabError, namespace

    argv = [sys.executable, "-m", "markway", "apply", str(path)]
    try:
        done = netns.run(namespace(name, DIRECTOR), argv, env=environment(name), check=False)
    except BaseException:
        build_down(name)
        raise
    if done.returncode:
        build_down(name)
        typer.echo(done.stdout + done.stderr, nl=False, err=True)
        raise LabError("the file could not be applied; the lab is removed. To look: lab up --no-apply")
    typer.echo(done.stderr, nl=False, err=True)


def _show(topology: Topology) -> None:
    from markway.lab.topology import served

    for host in topology.hosts:
        serves = " ".join(served(host.servers))
        addresses = " ".join(map(str, (*host.addresses, *host.loopback)))
        typer.echo(f"  {host.name:<12} {addresses}{'  serves ' + serves if serves else ''}")


def _trials(config: Config, topology: Topology) -> Iterator[str]:
    """A command for the first listener of each service: what to do now."""
    from markway.config.model import Protocol
    from markway.lab.build import command
    from markway.lab.servers import has_ftp
    from markway.lab.topology import CLIENTS

    where = f"{command()} lab exec{'' if topology.name == _DEFAULT else ' --name ' + topology.name} {CLIENTS[0]} --"
    for service in config.services:
        listener = service.listeners[0]
        version = listener.address.version
        shown = f"[{listener.address}]" if version == 6 else listener.address  # noqa: PLR2004
        target = f"{shown}:{listener.ports[0].first}"
        if listener.protocol is Protocol.UDP:
            trial = f"{where} python -m markway.lab.client {target} --udp"
        elif service.helper == "ftp" and has_ftp():
            trial = f"{where} curl -s ftp://{target}/server"
        else:
            trial = f"{where} curl -s http://{target}/"
        yield trial + _refused(service, version, topology)
        if service.helper == "ftp" and not has_ftp():
            yield f"(no FTP server is installed, nginx answers for {service.name}: apt-get install vsftpd)"


def _refused(service: Service, version: int, topology: Topology) -> str:
    """A remark where the service does not let the lab's first client in."""
    from markway.lab.topology import CLIENTS

    own = next(address for address in topology.host(CLIENTS[0]).addresses if address.version == version)
    allowed = not service.allow or any(own in network for network in service.allow)
    if allowed and not any(own in network for network in service.deny):
        return ""
    return f"  # refused: {service.name} does not allow {own}"


def _show_record(one: Record) -> None:
    state = f"up since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(one.created))}"
    if not one.ready:
        state = f"half-built; remove it: sudo markway lab down {one.name}"
    typer.echo(f"{one.name}  {state}")
    for host, addresses in one.hosts.items():
        serves = " ".join(one.servers.get(host, ()))
        typer.echo(f"  {host:<12} {' '.join(addresses)}{'  serves ' + serves if serves else ''}")


def _example() -> Path:
    import markway.lab

    return Path(markway.lab.__file__).with_name("example.toml")


def _need_root(command: str) -> None:
    import os

    if os.geteuid() != 0:
        _fail(f"namespaces need root: sudo markway lab {command} ...")


@contextmanager
def _told() -> Iterator[None]:
    """End with one line and exit status 1 where the reason is known."""
    from markway.kernel.netns import NetnsError
    from markway.lab.topology import LabError

    try:
        yield
    except (LabError, NetnsError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"markway lab: {message}", err=True)
    raise typer.Exit(1)
