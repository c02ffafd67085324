"""Real SNMP agents on a lab's hosts, and load to see by them.

An agent is Debian's snmpd. It tells its host's own load average (`markway.lab.load_average`), for all hosts are one
machine; hrProcessorLoad is the machine's, the interfaces are the host's.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gufo.snmp import SnmpError
from gufo.snmp.sync import SnmpSession

from markway.kernel import netns
from markway.lab import build
from markway.lab.load_average import ENTRY
from markway.lab.topology import LabError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from markway.lab.lab import Place

COMMUNITY = "public"
USER = "markway"
AUTH, AUTH_PASSPHRASE = "sha", "knows-the-lab"
PRIVACY, PRIVACY_PASSPHRASE = "aes", "keeps-the-lab"

_PORT = 161
_START_SECONDS = 20.0
_MINUTE = 60.0
_CONFIGURATION = """\
# Written by `markway lab`: host {host}.
agentaddress udp:{port},udp6:{port}
rocommunity {community}
rocommunity6 {community}
createUser {user} {auth} "{auth_passphrase}" {privacy} "{privacy_passphrase}"
rouser {user} auth
pass_persist {entry} {python} -m markway.lab.load_average {seconds:g}
"""


def serve(place: Place, *, seconds: float = _MINUTE) -> subprocess.Popen[str]:
    """Start an agent on a host, on UDP port 161 of both families, and return when it answers.

    SNMP 2c with COMMUNITY, SNMP 3 with USER. `seconds` is what laLoad.1 averages over: 60 as in the kernel, less for
    those in a hurry. It ends with the host's servers. LabError, with what it said, if it does not start.
    """
    folder = build.directory(place.lab) / place.host.name / "snmpd"
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "snmpd.conf"
    configuration.write_text(_configuration(place, seconds), encoding="utf-8")
    configuration.chmod(0o600)
    # Nothing of this machine's configuration, no text MIBs (they are not free, so not there), state in the lab.
    env = build.environment(place.lab) | {"SNMP_PERSISTENT_DIR": str(folder / "state"), "MIBS": ""}
    # Without its own laTable, which would go before ours.
    program = ["snmpd", "-f", "-C", "-c", str(configuration), "-Lf", str(folder / "log"), "-I", "-smux,loadave"]
    process = netns.start(place.namespace, program, env=env)
    _await(place, process, folder / "log")
    return process


@contextmanager
def stress(place: Place, processes: int = 2) -> Iterator[None]:
    """So many processes that do nothing but work, on a host, for the block; the machine's other work goes first."""
    loop = ["nice", "-n", "19", "sh", "-c", "while :; do :; done"]
    env = build.environment(place.lab)
    working: list[subprocess.Popen[str]] = []
    try:
        working.extend(netns.start(place.namespace, loop, env=env) for _ in range(processes))
        yield
    finally:
        for process in working:
            process.kill()
            process.wait()


def _configuration(place: Place, seconds: float) -> str:
    return _CONFIGURATION.format(
        host=place.host.name,
        port=_PORT,
        community=COMMUNITY,
        user=USER,
        auth=AUTH.upper(),
        auth_passphrase=AUTH_PASSPHRASE,
        privacy=PRIVACY.upper(),
        privacy_passphrase=PRIVACY_PASSPHRASE,
        entry=ENTRY,
        python=sys.executable,
        seconds=seconds,
    )


def _await(place: Place, process: subprocess.Popen[str], log: Path) -> None:
    """Wait for its first answer; the load average runs from then on."""
    with netns.enter(place.namespace):
        session = SnmpSession("127.0.0.1", _PORT, community=COMMUNITY, timeout=1.0)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(TimeoutError, SnmpError, OSError):
            session.get(f"{ENTRY.lstrip('.')}.5.1")
            return
        time.sleep(0.01)  # refused at once until the port is open
    process.kill()
    process.wait()
    why = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else "no message"
    raise LabError(f"host {place.host.name}: snmpd did not start: {why}")
