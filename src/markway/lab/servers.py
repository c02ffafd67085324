"""The servers of a lab's hosts: Debian's nginx for TCP, vsftpd for FTP if it is installed, `udp_echo` for UDP.

nginx speaks plain HTTP on every TCP port, 443 too: a lab tries the way to a server, not its certificates.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from markway.config.model import Protocol
from markway.kernel import netns
from markway.lab.topology import Host, LabError, Server, namespace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping, Sequence

LAB_VARIABLE = "MARKWAY_LAB"
"""In the environment of every process started in a lab, and so of its children: by it `stop` knows them."""

_OPEN_FILES = 16_384
_CONNECTIONS = 8_192  # per host; nginx reserves memory for each
_START_SECONDS = 20.0
_ROUNDS = 4  # a server that goes to the background is found as its child the second time
_STOP_SECONDS = 1.0

_NGINX = """\
# Written by `markway lab`: host {host}.
daemon on;
master_process off;  # one process: started and stopped at once
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{servers}}}
"""
_VSFTPD = """\
# Written by `markway lab`: one port of one host.
background=YES
listen=NO
listen_ipv6=YES
listen_port={port}
anonymous_enable=YES
no_anon_password=YES
anon_root={directory}/ftp
secure_chroot_dir={directory}/empty
ftpd_banner={answer}
xferlog_enable=NO
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
"""
_NGINX_SERVER = '    server {{ {listen} location / {{ return 200 "{answer}\\n"; }} }}\n'
_NGINX_LISTEN = "listen {port} reuseport backlog=4096; listen [::]:{port} reuseport backlog=4096;"


def start(lab: str, hosts: Sequence[Host], directory: Path, env: Mapping[str, str]) -> None:
    """Start the servers of the hosts, all at once, and return when every port is open.

    `directory` gets a directory for each host. LabError, with what the server said, if one does not start.
    """
    if any(map(_is_http, chain.from_iterable(host.servers for host in hosts))) and not _installed("nginx"):
        raise LabError("the backends need nginx: apt-get install nginx-light")
    started = []
    for host in hosts:
        place = directory / host.name
        for argv in _commands(host, place):
            log = place / "start.log"
            with log.open("a") as output:
                process = netns.start(namespace(lab, host.name), argv, env=env, stdout=output, stderr=output)
            started.append((host, process, log))
    # Both kinds go to the background once their ports are open: the end of the first process is the news.
    deadline = time.monotonic() + _START_SECONDS
    for host, process, log in started:
        _await(host, process, log, deadline)
    for host in hosts:
        for server in host.servers if has_ftp() else ():
            if server.ftp:  # vsftpd goes to the background first
                _await_port(namespace(lab, host.name), server.port, deadline)


def has_ftp() -> bool:
    """Whether this machine has an FTP server for the labs; without it nginx is on those ports too."""
    return _installed("vsftpd")


def _installed(program: str) -> bool:
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin") is not None


def stop(lab: str, spaces: Iterable[str]) -> list[int]:
    """End the processes that were started in a lab; return those found there that were not.

    Only a process that is in one of the namespaces *and* has the lab's variable in its environment is
    ended, through a pidfd: no other process can be hit. First SIGTERM, after a second SIGKILL.
    """
    spaces = list(spaces)
    for _ in range(_ROUNDS):
        ours, strangers = _found(lab, spaces)
        if not ours:
            break
        _end(ours, signal.SIGTERM, _STOP_SECONDS)
        _end(ours, signal.SIGKILL, _STOP_SECONDS)
        for descriptor in ours:
            os.close(descriptor)
    return strangers


def _found(lab: str, spaces: Sequence[str]) -> tuple[list[int], list[int]]:
    """The lab's processes in its namespaces, as pidfds, and the others there."""
    mine = f"{LAB_VARIABLE}={lab}".encode()
    strangers = []
    ours: list[int] = []
    for pid in netns.processes(spaces):
        with suppress(ProcessLookupError, FileNotFoundError):
            descriptor = os.pidfd_open(pid)
            # Looked at after the pidfd was opened: what we read is of the process that we hold.
            if pid != os.getpid() and mine in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                ours.append(descriptor)
            else:
                os.close(descriptor)
                strangers.append(pid)
    return ours, strangers


def nginx_configuration(host: Host, directory: Path) -> str:
    """The nginx.conf of a host: one server for each answer, on its ports and both families."""
    tcp = sorted((s for s in host.servers if _is_http(s)), key=_by_answer)
    servers = "".join(
        _NGINX_SERVER.format(answer=answer, listen=" ".join(_NGINX_LISTEN.format(port=s.port) for s in group))
        for answer, group in groupby(tcp, key=_by_answer)
    )
    return _NGINX.format(host=host.name, directory=directory, connections=_CONNECTIONS, servers=servers)


def _is_http(server: Server) -> bool:
    return server.protocol is Protocol.TCP and not (server.ftp and has_ftp())


def _by_answer(server: Server) -> str:
    return server.answer


def _commands(host: Host, directory: Path) -> list[list[str]]:
    commands = []
    directory.mkdir(parents=True, exist_ok=True)
    if any(_is_http(server) for server in host.servers):
        configuration = directory / "nginx.conf"
        configuration.write_text(nginx_configuration(host, directory), encoding="utf-8")
        log = str(directory / "error.log")
        limit = ["prlimit", f"--nofile={_OPEN_FILES}"]
        commands.append([*limit, "nginx", "-c", str(configuration), "-p", str(directory), "-e", log])
    commands += [_vsftpd(s, directory) for s in host.servers if s.ftp and has_ftp()]
    udp = [f"{s.port}={s.answer}" for s in host.servers if s.protocol is Protocol.UDP]
    if udp:
        commands.append([sys.executable, "-m", "markway.lab.udp_echo", *udp])
    return commands


def _vsftpd(server: Server, directory: Path) -> list[str]:
    place = directory / f"vsftpd-{server.port}"
    for folder in ("ftp", "empty"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "ftp/server").write_text(server.answer + "\n", encoding="utf-8")
    configuration = place / "vsftpd.conf"
    configuration.write_text(_VSFTPD.format(port=server.port, directory=place, answer=server.answer), encoding="utf-8")
    return ["vsftpd", str(configuration)]


def _await_port(space: str, port: int, deadline: float) -> None:
    while True:
        with netns.enter(space), socket.socket() as opened:
            if opened.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise LabError(f"{space}: no FTP server on port {port} after {_START_SECONDS:g} s")
        time.sleep(0.01)


def _await(host: Host, process: subprocess.Popen[str], log: Path, deadline: float) -> None:
    descriptor = os.pidfd_open(process.pid)
    try:
        ended = _poll([descriptor], deadline - time.monotonic())
    finally:
        os.close(descriptor)
    if not ended:
        process.kill()
    if process.wait() or not ended:
        why = log.read_text(encoding="utf-8", errors="replace").strip()
        why = why or ("no message" if ended else f"not ready after {_START_SECONDS:g} s")
        raise LabError(f"host {host.name}: a server did not start: {why}")


def _end(descriptors: list[int], number: signal.Signals, seconds: float) -> None:
    """Signal all that still run and wait for their end; take the ended off the list."""
    for descriptor in descriptors:
        netns.send_signal(descriptor, number)
    deadline = time.monotonic() + seconds
    while descriptors and (left := deadline - time.monotonic()) > 0:
        for descriptor in _poll(descriptors, left):
            descriptors.remove(descriptor)
            os.close(descriptor)


def _poll(descriptors: Iterable[int], seconds: float) -> list[int]:
    """The pidfds of those that ended; waits for at least one, at most `seconds`."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)]
