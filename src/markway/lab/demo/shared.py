"""The demo's act about shaping: two classes share the director's way out, and one borrows what the other leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.lab.transfers import GOODPUT, Path, Transfer, rates, single_packets

if TYPE_CHECKING:
    from markway.lab.demo.promises import Promises
    from markway.lab.demo.screen import Screen
    from markway.lab.lab import Lab

SHAPE = """
[shape.uplink]
device  = "eth0"
rate    = "2mbit"
default = "rest"

[shape.uplink.class.web]
rate  = "1600kbit"
match = { protocol = "tcp", source-port = 443 }

[shape.uplink.class.rest]
rate = "400kbit"
ceil = "2mbit"
"""
_WEB, _OTHER = 443, 873
_ASKED = {"web": 1600, "rest": 400, "rest, alone": 2000}
"""Kilobits per second."""
_SECONDS = 2.0
_LEAST, _MOST = 0.94, 1.02  # of what was asked
_TRIES = 3  # a busy machine may send less than it could


def shared(lab: Lab, screen: Screen, promises: Promises) -> None:
    """Measure it, in a lab where the file with SHAPE is in force."""
    single_packets(lab)
    found: dict[str, float] = {}
    for _ in range(_TRIES):
        found = _measured(lab)
        if all(_LEAST < got / _ASKED[name] < _MOST for name, got in found.items()):
            break
    for name, got in found.items():
        screen.note(f"  {name:<12} {_ASKED[name]:>5} kbit/s asked {got:>7.0f} arrived")
    screen.note(f"A class counts whole frames: of its rate {GOODPUT:.1%} can arrive as a server's bytes.", "dim")
    shares = {name: got / _ASKED[name] for name, got in found.items()}
    said = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    promises.rates.judge(all(_LEAST < share < _MOST for share in shares.values()), f"{said} of what was asked")


def _measured(lab: Lab) -> dict[str, float]:
    client, director = lab.clients[0], lab.director

    def transfer(port: int) -> Transfer:
        return Transfer(Path(client.namespace, director.namespace, director.address(4), port))

    with transfer(_OTHER) as other:
        with transfer(_WEB) as web:
            both = rates([web, other], _SECONDS)
        alone = rates([other], _SECONDS)
    return {name: got / 1000 for name, got in zip(_ASKED, [*both, *alone], strict=True)}
