"""Files that the rates of shaping are measured with, live and in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markway.lab.transfers import Path

if TYPE_CHECKING:
    from markway.lab.lab import Lab

SERVER = "192.168.1.11"
"""Of backend `a`, behind the director."""

SERVICE = """
[service.web]
listen = "192.0.2.10:80/tcp"
backend.a = { address = "192.168.1.11:8080" }
"""


def path(lab: Lab, port: int, client: str = "198.51.100.11") -> Path:
    """From a server's port behind the director to an address of client1."""
    return Path(lab.clients[0].namespace, lab.host("a").namespace, SERVER, port, client)


class Class(NamedTuple):
    """A class whose rate is measured: its bits per second, and the port that its server sends from."""

    name: str
    rate: int
    port: int

    @property
    def realm(self) -> int:
        """The realm of the route to its client."""
        return self.port - 5000

    @property
    def client(self) -> str:
        """An address of client1 that is in the realm."""
        return f"198.51.100.{100 + self.realm}"

    @property
    def buffer(self) -> int:
        """What a sender has under way: a quarter of a second."""
        return max(8_192, self.rate // 32)

    def path(self, lab: Lab) -> Path:
        """To the client of its own."""
        return path(lab, self.port, self.client)


CLASSES = (
    Class("modem", 200_000, 5001),
    Class("dsl", 1_024_000, 5002),
    Class("cable", 20_000_000, 5003),
    Class("fibre", 100_000_000, 5004),
)

HEAD = """
[shape.wan]
device = "eth0"
rate = "200mbit"
leaf = "pfifo"
default = "rest"
[shape.wan.class.rest]
rate = "1mbit"
"""

WAYS = {
    "match": '[shape.wan.class.{0.name}]\nrate = "{0.rate}bit"\nmatch.protocol = "tcp"\nmatch.source-port = {0.port}\n',
    "mark": '[mark.{0.name}]\nmatch.source-port = {0.port}\nclass = "wan.{0.name}"\n',
    "u32": '[[shape.wan.filter]]\nu32 = ["ip protocol 6 0xff", "ip sport {0.port} 0xffff"]\nclass = "{0.name}"\n',
    "fw": '[[shape.wan.filter]]\nfw = {0.port}\nclass = "{0.name}"\n',
    "route": (
        "[realm.{0.name}]\nnumber = {0.realm}\n"
        'routes = [{{ to = "{0.client}/32", via = "198.51.100.11", device = "eth0" }}]\n'
        '[[shape.wan.filter]]\nroute.to = "{0.name}"\nclass = "{0.name}"\n'
    ),
}
"""How traffic reaches its class."""

MARKING = "table ip others {{ chain forward {{ type filter hook forward priority 0;\n{}\n}}; }}".format(
    "\n".join(f"tcp sport {each.port} meta mark set {each.port}" for each in CLASSES)
)
"""Somebody else's marks, for `fw`."""


def four_classes(way: str) -> str:
    """The four classes in one tree, reached in one way."""
    text = SERVICE + HEAD
    for each in CLASSES:
        if way != "match":
            text += f'[shape.wan.class.{each.name}]\nrate = "{each.rate}bit"\n'
        text += WAYS[way].format(each)
    return text


BORROWING = (
    SERVICE
    + """
[shape.wan]
device = "eth0"
rate = "20mbit"
default = "rest"
[shape.wan.class.rest]
rate = "100kbit"
ceil = "2mbit"
[shape.wan.class.small]
rate = "4mbit"
ceil = "20mbit"
match.source-port = 5001
[shape.wan.class.large]
rate = "15900kbit"
ceil = "20mbit"
match.source-port = 5002
"""
)
"""`small` and `large` borrow from each other, `rest` too, up to 2 Mbit/s."""

CLASSIC = """
[marks]
mask = "0xff00"
[shape.wan]
device = "eth0"
rate = "1224kbit"
default = "rest"
[shape.wan.class.rest]
rate = "1024kbit"
[shape.wan.class.web]
rate = "200kbit"
[[shape.wan.filter]]
fw = "80/0xff"
class = "web"
"""
CLASSIC_MARKING = """
table ip others { chain output { type filter hook output priority mangle; tcp sport 80 meta mark set 80; }; }
"""
"""The web server's packets are marked 80, as the classic scripts do, and shaped by the mark."""
