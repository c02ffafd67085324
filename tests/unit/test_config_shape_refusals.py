"""Every refusal of shaping, word for word: this table is what an operator reads."""

from __future__ import annotations

import pytest
from tests.unit.test_config_refusals import cases, problems


def shape(lines: str = "", rest: str = "") -> str:
    """A shape whose own lines start at 4; `web` is a leaf, `inner` is not."""
    return f"""[shape.wan]
device = "eth0"
default = "web"
{lines or 'rate = "1mbit"'}
[shape.wan.class]
web = {{ rate = "100kbit" }}
inner = {{ rate = "200kbit" }}
below = {{ rate = "100kbit", parent = "inner" }}
{rest}"""


def said(text: str) -> str:
    return "\n".join(problem.removeprefix("m:") for problem in problems(text))


IN_SHAPE = r"""
rate = 1024
    6:9: shape.wan.class.web.rate: 100kbit is more than the shape has: 1024bit (nobody can be sure of it)
    7:11: shape.wan.class.inner.rate: 200kbit is more than the shape has: 1024bit (nobody can be sure of it)
rate = "1Mbps"
    4:1: shape.wan.rate: "Mbps" could be bits or bytes: tc takes it for bytes (did you mean "1mbit"? For bytes,
        write "1mbps")
rate = "1 Mbit/s"
    4:1: shape.wan.rate: "1 Mbit/s" has the unknown unit "Mbit/s" (did you mean "1mbit"?)
rate = "1m"
    4:1: shape.wan.rate: "1m" has the unknown unit "m" (did you mean "1mbit"?)
rate = "fast"
    4:1: shape.wan.rate: "fast" is not a rate of bits (for example "1024kbit" or "20mbit")
rate = true
    4:1: shape.wan.rate: expected a rate of bits, got true (for example rate = "1024kbit")
overhead = 18
    1:8: shape.wan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
    4:1: shape.wan.overhead: without a rate it means nothing (for example rate = "1024kbit")
rate = "1mbit"
burst = "15 kB/s"
    5:1: shape.wan.burst: "15 kB/s" has the unknown unit "kB/s" (for example "1600", "15k" or "2mb")
rate = "1mbit"
inside = "lan0"
    5:1: shape.wan.inside: what a device sends is shaped on it (it is for direction = "ingress")
rate = "1mbit"
direction = "ingress"
inside = ["lan0", "eth0"]
    6:19: shape.wan.inside[1]: eth0 is the device itself (name the one towards the inner network)
rate = "1mbit"
preset = "office"
    5:1: shape.wan.preset: expected "home", got "office"
rate = "1mbit"
classes = 1
    5:1: shape.wan: unknown key "classes" (did you mean "class"?)
rate = "1mbit"
discipline = "cake"
    3:1: shape.wan.default: cake has no classes (leave out discipline for "htb", which has)
    6:12: shape.wan.class: cake has no classes (leave out discipline for "htb", which has)
rate = "1mbit"
discipline = "hfsc"
    5:1: shape.wan.discipline: expected "htb", "tbf", "prio", "sfq", "fq_codel", "cake", "fq", "pfifo", "bfifo",
        "pfifo_fast" or a table, got "hfsc"
rate = "1mbit"
leaf = "fqcodel"
    5:1: shape.wan.leaf: expected "htb", "tbf", "prio", "sfq", "fq_codel", "cake", "fq", "pfifo", "bfifo",
        "pfifo_fast" or a table, got "fqcodel" (did you mean "fq_codel"?)
rate = "1mbit"
leaf = { perturb = "10s" }
    5:1: shape.wan.leaf: nothing says which discipline it is (for example kind = "sfq")
rate = "1mbit"
leaf = { kind = "sfq", perturb = "10ms" }
    5:24: shape.wan.leaf.perturb: "10ms" is not a whole number of seconds up to an hour (for example "10s")
rate = "1mbit"
leaf = { kind = "sfq", perturb = 10 }
    5:24: shape.wan.leaf.perturb: expected a duration with its unit, got the integer 10 (did you mean "10s"?)
rate = "1mbit"
leaf = { kind = "sfq", limit = "30k" }
    5:24: shape.wan.leaf.limit: "30k" is no number of packets (1 to 1000000, without a unit)
rate = "1mbit"
leaf = { kind = "sfq", limit = 1 }
    5:24: shape.wan.leaf.limit: one packet is none to share with (2 or more)
rate = "1mbit"
leaf = { kind = "sfq", divisor = 1000 }
    5:24: shape.wan.leaf.divisor: 1000 is not a power of two (did you mean 512?)
rate = "1mbit"
leaf = { kind = "sfq", target = "5ms" }
    5:24: shape.wan.leaf.target: sfq has no use for it (it is for fq_codel)
rate = "1mbit"
leaf = { kind = "fq_codel", target = "0ms" }
    5:29: shape.wan.leaf.target: "0ms" is too short (1us to 1h)
rate = "1mbit"
leaf = "htb"
    5:1: shape.wan.leaf: htb holds classes, and a leaf has none (for example leaf = "fq_codel")
rate = "1mbit"
leaf = "tbf"
    5:1: shape.wan.leaf: tbf keeps to a rate, and has none (for example { kind = "tbf", rate = "500kbit" })
rate = "1mbit"
filter = { fw = 1 }
    5:1: shape.wan.filter: expected a list of tables, got a table (write [[shape.wan.filter]] in double brackets)
"""

IN_DEVICE = r"""
device = "a-very-long-name0"
    1:8: shape.lan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
    2:1: shape.lan.device: "a-very-long-name0" is longer than a device's name can be (up to 15 characters)
device = "eth 0"
    1:8: shape.lan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
    2:1: shape.lan.device: "eth 0" cannot be the name of a device (for example "eth0")
device = "eth/0"
    1:8: shape.lan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
    2:1: shape.lan.device: "eth/0" cannot be the name of a device (for example "eth0")
device = "eth*"
    1:8: shape.lan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
    2:1: shape.lan.device: "eth*" is a pattern, and one device is needed (for example "eth0")
direction = "egress"
    1:8: shape.lan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
    1:8: shape.lan: nothing says whose traffic is shaped (for example device = "eth0")
device = "eth0"
discipline = "prio"
    1:8: shape.lan: prio has no classes to choose from (write [shape.lan.class.NAME], one for each band)
device = "eth0"
discipline = { kind = "cake", bandwidth = "2mbit" }
rate = "1mbit"
    3:1: shape.lan.discipline: it has another rate than the shape (say it once, as the shape's rate)
device = "eth0"
discipline = { kind = "tbf", latency = "50ms", limit = "5k" }
rate = "1mbit"
    3:48: shape.lan.discipline.limit: latency and limit say the same (keep one of them)
device = "eth0"
discipline = { kind = "tbf", peakrate = "2mbit" }
rate = "1mbit"
    3:30: shape.lan.discipline.peakrate: without mtu it means nothing (for example mtu = "1540")
device = "eth0"
discipline = "cake"
preset = "home"
    4:1: shape.lan.preset: its classes have rates, and cake has none (leave out discipline)
device = "eth0"
preset = "home"
    1:8: shape.lan: nothing says how fast it is, and htb keeps to a rate (for example rate = "1024kbit")
"""

IN_CLASS = r"""
dns = { rate = "50kbit", parent = "iner" }
    9:26: shape.wan.class.dns.parent: there is no class "iner" (did you mean "inner"?)
dns = { rate = "50kbit", ceil = "10kbit" }
    9:26: shape.wan.class.dns.ceil: 10kbit is less than the rate, which is 50kbit (a class may borrow up to its
        ceil: it is the rate or more)
dns = { rate = "2mbit" }
    9:9: shape.wan.class.dns.rate: 2mbit is more than the shape has: 1mbit (nobody can be sure of it)
dns = { rate = "700kbit" }
mail = { parent = "inner" }
more = { parent = "mail" }
none = {}
    12:1: shape.wan.class.none: no rate is given, and the other classes leave nothing of the shape's 1mbit (give
        it a rate, and the others less)
dns = { rate = "50kbit", parent = "mail" }
mail = { rate = "50kbit", parent = "dns" }
    9:26: shape.wan.class.dns.parent: the class is above itself: dns → mail → dns (one of them belongs to the top)
dns = { rate = "50kbit", parent = "dns" }
    9:26: shape.wan.class.dns.parent: the class is above itself: dns → dns (one of them belongs to the top)
dns = { rate = "50kbit", prio = 8 }
    9:26: shape.wan.class.dns.prio: expected an integer from 0 to 7, got the integer 8 (for example prio = 1)
dns = { rate = "50kbit", quantum = 100 }
    9:26: shape.wan.class.dns.quantum: expected an integer from 1000 to 200000, got the integer 100 (for example
        quantum = 1514)
dns = { rate = "50kbit", match = [{ port = 1 }], leaf = "sfq" }
mail = { rate = "50kbit", parent = "dns" }
    9:26: shape.wan.class.dns.match: the class has children such as "mail", and only classes without any hold
        packets (match in a child, or write one for the rest)
    9:50: shape.wan.class.dns.leaf: the class has children such as "mail", and only classes without any hold
        packets (match in a child, or write one for the rest)
"Dns" = { rate = "50kbit" }
    9:1: shape.wan.class.Dns: the name "Dns" cannot be used: a name is 1 to 63 of a-z, 0-9, _, . and -, and starts
        with a letter or digit (did you mean "dns"?)
dns = { rate = "50kbit", match = {} }
    9:26: shape.wan.class.dns.match: nothing is asked for: every packet would match (for example { protocol =
        "tcp" })
dns = { rate = "50kbit", match = [1] }
    9:35: shape.wan.class.dns.match[0]: expected a table, got the integer 1 (for example { service = "shop" })
dns = { rate = "50kbit", match = 1 }
    9:26: shape.wan.class.dns.match: expected a table or a list of tables, got the integer 1 (for example match =
        [{ service = "shop" }, { protocol = "tcp", source-port = 80 }])
dns = { rate = "50kbit", match = [{ protcol = "udp" }] }
    9:37: shape.wan.class.dns.match[0]: unknown key "protcol" (did you mean "protocol"?)
"""

IN_MATCH = r"""
guard = "ssh"
    9:36: shape.wan.class.dns.match.guard: there is no guard "ssh"
service = "wep"
    9:36: shape.wan.class.dns.match.service: there is no service "wep" (did you mean "web"?)
service = "mail"
    9:36: shape.wan.class.dns.match.service: there is no service "mail" (there is "web")
service = "web", backend = "c"
    9:53: shape.wan.class.dns.match.backend: there is no backend in service "web" called "c" (there are "a" and
        "b")
backend = "a"
    9:36: shape.wan.class.dns.match.backend: nothing says of which service (for example service = "web")
protocol = "tpc"
    9:36: shape.wan.class.dns.match.protocol: "tpc" is no protocol (did you mean "tcp"?)
protocol = "256"
    9:36: shape.wan.class.dns.match.protocol: "256" is no protocol (there are icmp, igmp, tcp, udp, dccp, gre,
        esp, ah, icmpv6, sctp and udplite)
protocol = "icmp", port = 53
    9:55: shape.wan.class.dns.match.port: icmp has none (it is for tcp, udp, dccp, sctp and udplite)
protocol = "udp", tcp-flags = "ack"
    9:54: shape.wan.class.dns.match.tcp-flags: udp has none (it is for tcp)
tcp-flags = "ack/syn"
    9:36: shape.wan.class.dns.match.tcp-flags: ack is not among the flags that are looked at: nothing could match
        (did you mean "ack/syn,ack"?)
tcp-flags = "acc"
    9:36: shape.wan.class.dns.match.tcp-flags: "acc" is no TCP flag (did you mean "ack"?)
icmp-type = "echo-request"
    9:36: shape.wan.class.dns.match.icmp-type: nothing says of which protocol (write protocol = "icmp" or
        "icmpv6")
protocol = "icmp", icmp-type = "packet-too-big"
    9:55: shape.wan.class.dns.match.icmp-type: icmp has no message "packet-too-big"
port = "domain"
    9:36: shape.wan.class.dns.match.port: "domain" is not a port number (did you mean 53?)
port = [53, "60-50"]
    9:48: shape.wan.class.dns.match.port[1]: the port range "60-50" runs backwards (did you mean "50-60"?)
port = []
    9:36: shape.wan.class.dns.match.port: an empty list matches nothing (leave it out to ask for nothing)
port = true
    9:36: shape.wan.class.dns.match.port: expected a port, a range of ports or a list of these, got true (for
        example port = 53)
source = "10.0.0.1/8"
    9:36: shape.wan.class.dns.match.source: "10.0.0.1/8" has bits set beyond its prefix (did you mean the network
        "10.0.0.0/8" or the address "10.0.0.1"?)
source = "10.0.0.1", destination = "fd00::1"
    9:57: shape.wan.class.dns.match.destination: this is IPv6, and the other keys are of IPv4: no packet is both
family = 6, protocol = "icmp"
    9:48: shape.wan.class.dns.match.protocol: this is IPv4, and the other keys are of IPv6: no packet is both
family = 5
    9:36: shape.wan.class.dns.match.family: expected 4 or 6, got the integer 5 (for example family = 4)
dscp = "efg"
    9:36: shape.wan.class.dns.match.dscp: "efg" is no DSCP (did you mean "ef"?)
dscp = 64
    9:36: shape.wan.class.dns.match.dscp: "64" is no DSCP (a name such as ef or cs1, or 0 to 63)
length = "128-0"
    9:36: shape.wan.class.dns.match.length: the range "128-0" runs backwards (did you mean "0-128"?)
state = "establshed"
    9:36: shape.wan.class.dns.match.state: "establshed" is no state of a connection (did you mean "established"?)
bytes-over = "10 mbit/s"
    9:36: shape.wan.class.dns.match.bytes-over: "10 mbit/s" has the unknown unit "mbit/s" (for example "1600",
        "15k" or "2mb")
user = "a b"
    9:36: shape.wan.class.dns.match.user: "a b" is no user or group (for example "backup" or 1000)
cgroup = "/system.slice"
    9:36: shape.wan.class.dns.match.cgroup: "/system.slice" is a path from the root (did you mean "system.slice"?)
mark = "0x50/0x0f"
    9:36: shape.wan.class.dns.match.mark: "0x50/0x0f" has bits outside its mask: nothing could match (did you mean
        "0x50/0x5f" or "0x0/0xf"?)
mark = "0x100000000"
    9:36: shape.wan.class.dns.match.mark: "0x100000000" is wider than a mark, which has 32 bits (up to 0xffffffff)
outgoing-device = "eth0"
    9:36: shape.wan.class.dns.match.outgoing-device: all of it goes out by eth0 (leave it out)
nft = "ip dscp ef accept"
    9:36: shape.wan.class.dns.match.nft: "accept" does something: a match only looks (the class says what becomes
        of it)
nft = "tcp dport { 1, 2"
    9:36: shape.wan.class.dns.match.nft: "{" is never closed
nft = "tcp dport 1 }"
    9:36: shape.wan.class.dns.match.nft: "}" closes nothing
nft = "tcp dport 1; drop"
    9:36: shape.wan.class.dns.match.nft: ";" could begin something else: one expression is needed
nft = 'iifname "lan0'
    9:36: shape.wan.class.dns.match.nft: a string is never closed (a " is missing)
nft = "ip ttl 1 # all"
    9:36: shape.wan.class.dns.match.nft: "#" could begin something else: one expression is needed
nft = "ip\nttl 1"
    9:36: shape.wan.class.dns.match.nft: "\u000a" could begin something else: one expression is needed
nft = " "
    9:36: shape.wan.class.dns.match.nft: an empty expression means nothing (for example nft = "ip dscp ef")
"""

SERVICE = """[service.web]
listen = "192.0.2.10:80"
[service.web.backend]
a.address = "192.168.1.10:80"
b.address = "192.168.1.11:80"
"""

IN_FILTER = r"""
class = "web"
    9:13: shape.wan.filter[0]: nothing says how to ask (there are `u32`, `fw` and `route`)
class = "web"
fw = 1
u32 = "u32 0 0"
    9:13: shape.wan.filter[0]: "u32" and "fw" at once: only one can ask (keep one)
fw = 1
    9:13: shape.wan.filter[0]: nothing says which class gets what it finds (for example class = "web")
fw = 1
class = "wep"
    11:1: shape.wan.filter[0].class: there is no class "wep" (did you mean "web"?)
fw = 1
class = "inner"
    11:1: shape.wan.filter[0].class: class "inner" has children, and only classes without any hold packets (for
        example "below")
fw = 0
class = "web"
    10:1: shape.wan.filter[0].fw: 0 is the mark of packets without one, which fw does not find (leave them to
        default)
fw = "eighty"
class = "web"
    10:1: shape.wan.filter[0].fw: "eighty" is no mark (for example "0x50/0xff" or 80)
fw = 1
class = "web"
priority = 65536
    12:1: shape.wan.filter[0].priority: expected an integer from 1 to 65535, got the integer 65536 (for example
        priority = 10)
fw = 1
class = "web"
protocol = "ipv4"
    12:1: shape.wan.filter[0].protocol: expected "all", "ip", "ipv6", "arp", "802.1Q" or "802.1ad", got "ipv4"
        (did you mean "ipv6"?)
fw = 1
class = "web"
priority = 5
[[shape.wan.filter]]
fw = "2/0xff"
class = "web"
priority = 5
    13:13: shape.wan.filter[1]: all filters of priority 5 have one mask: 0xff is not 0xffffffff, at m:9:13 (give
        it a priority of its own)
fw = 1
class = "web"
priority = 5
[[shape.wan.filter]]
u32 = "u32 0 0"
class = "web"
priority = 5
    13:13: shape.wan.filter[1]: all filters of priority 5 have one kind: u32 is not fw, at m:9:13 (give it a
        priority of its own)
fw = 1
class = "web"
priority = 5
[[shape.wan.filter]]
fw = 2
protocol = "ip"
class = "web"
priority = 5
    13:13: shape.wan.filter[1]: all filters of priority 5 have one protocol: ip is not all, at m:9:13 (give it a
        priority of its own)
route = {}
class = "web"
    10:1: shape.wan.filter[0].route: nothing says which realm (for example route = { from = "office" })
route = { from = "ofice" }
class = "web"
[realm.office]
number = 5
    10:11: shape.wan.filter[0].route.from: there is no realm "ofice" (did you mean "office"?)
route = { to = 256 }
class = "web"
    10:11: shape.wan.filter[0].route.to: there is no realm 256 (1 to 255)
"""


IN_BAND = r"""
[shape.wan.class.one]
rate = "1mbit"
match.port = 1
    5:12: shape.wan.class: 1 bands: prio has 2 to 16 (discipline = "htb" has as many classes as you like)
    6:1: shape.wan.class.one.rate: a band of prio has none: the first that waits goes first (leave it out)
[shape.wan.class.one]
[shape.wan.class.two]
parent = "one"
    7:1: shape.wan.class.two.parent: a band of prio has none: the first that waits goes first (leave it out)
[shape.wan.class.only]
    4:1: shape.wan.default: there is no class "one" (there is "only")
    5:12: shape.wan.class: 1 bands: prio has 2 to 16 (discipline = "htb" has as many classes as you like)
"""

IN_U32 = r"""
"ip dport 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 6 0xff" or "ip protocol 17 0xff")
"ip sport 53 0xffff", "ip protocol 1 0xff"
    11:8: shape.wan.filter[0].u32[0]: protocol 1 has no such field: nothing could match as meant
"tcp dst 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 6 0xff")
"tcp dst 53 0xffff", "ip protocol 17 0xff"
    11:8: shape.wan.filter[0].u32[0]: protocol 17 has no such field: nothing could match as meant
"udp src 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 17 0xff")
"icmp type 8 0xff"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 1 0xff")
"ip icmp_type 8 0xff"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 1 0xff")
"u8 0x10 0xff at nexthdr+13"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 1 0xff" or "ip protocol 6 0xff" or "ip protocol 17 0xff")
"tcp ack"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 6 0xff")
"ip protocol 6 0x0f", "ip dport 53 0xffff"
    11:30: shape.wan.filter[0].u32[1]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip protocol 6 0xff" or "ip protocol 17 0xff")
"ip protocol 6 0xff", "ip protocol 17 0xff"
    11:30: shape.wan.filter[0].u32[1]: another selector asks for the contrary: nothing could match (write another
        filter)
"ip protocol 6 0xff", "u16 0x0011 0x00ff at 8"
    11:30: shape.wan.filter[0].u32[1]: another selector asks for the contrary: nothing could match (write another
        filter)
"ip6 dport 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: u32 compares bits alone: packets of any protocol that has these there would
        match (add "ip6 protocol 6 0xff" or "ip6 protocol 17 0xff")
"ip6 protocol 58 0xff", "icmp type 8 0xff", "ip ttl 1 0xff"
    11:8: shape.wan.filter[0].u32[0]: it reads the header of IPv6, and the filter looks at IPv4
"u16 53 0xffff at 21"
    11:8: shape.wan.filter[0].u32[0]: "u16 53 0xffff at 21": 2 bytes begin at a multiple of 2, and 21 is none (use
        smaller selectors, such as u8 … at 21)
"u32 0 0 at 2"
    11:8: shape.wan.filter[0].u32[0]: "u32 0 0 at 2": 4 bytes begin at a multiple of 4, and 2 is none (use smaller
        selectors, such as u8 … at 2)
"u32 0 0 at nexthdr+2"
    11:8: shape.wan.filter[0].u32[0]: "u32 0 0 at nexthdr+2": 4 bytes begin at a multiple of 4, and 2 is none (use
        smaller selectors, such as u8 … at 2)
"u8 256 0xff at 0"
    11:8: shape.wan.filter[0].u32[0]: "u8 256 0xff at 0": the value 0x100 is wider than 8 bits (up to 0xff)
"u16 0x10000 0xffff at 0"
    11:8: shape.wan.filter[0].u32[0]: "u16 0x10000 0xffff at 0": the value 0x10000 is wider than 16 bits (up to
        0xffff)
"u8 1 0x1ff at 0"
    11:8: shape.wan.filter[0].u32[0]: "u8 1 0x1ff at 0": the mask 0x1ff is wider than 8 bits (up to 0xff)
"u8 0x1f 0x0f at 0"
    11:8: shape.wan.filter[0].u32[0]: "u8 0x1f 0x0f at 0": the value has bits outside the mask, which tc would
        drop (did you mean 0x1f 0x1f or 0xf 0xf?)
"u32 00100000 00ff0000 at 0"
    11:8: shape.wan.filter[0].u32[0]: "u32 00100000 00ff0000 at 0": "00100000" is not a number: tc would read it
        as octal (did you mean 0x100000 or 100000?)
"u8 ten 0xff at 0"
    11:8: shape.wan.filter[0].u32[0]: "u8 ten 0xff at 0": "ten" is not a number (for example 80 0xff)
"u8 10 mask at 0"
    11:8: shape.wan.filter[0].u32[0]: "u8 10 mask at 0": "mask" is not a hexadecimal mask (for example 0xff)
"u8 10"
    11:8: shape.wan.filter[0].u32[0]: "u8 10" has no mask (did you mean "u8 10 0xff"?)
"u8 10 0xff 0xff"
    11:8: shape.wan.filter[0].u32[0]: "u8 10 0xff 0xff": a value and a mask are needed (for example 80 0xff)
"u8 10 0xff at"
    11:8: shape.wan.filter[0].u32[0]: "u8 10 0xff at": at is followed by an offset in bytes (for example "at 16"
        or "at nexthdr+13")
"u8 10 0xff at ten"
    11:8: shape.wan.filter[0].u32[0]: "u8 10 0xff at ten": at is followed by an offset in bytes (for example "at
        16" or "at nexthdr+13")
"u8 10 0xff at -20"
    11:8: shape.wan.filter[0].u32[0]: "u8 10 0xff at -20": there is nothing at -20 (-16 to 65532)
"u8 10 0xff at nexthdr-4"
    11:8: shape.wan.filter[0].u32[0]: "u8 10 0xff at nexthdr-4": at is followed by an offset in bytes (for example
        "at 16" or "at nexthdr+13")
"ip protocol 17"
    11:8: shape.wan.filter[0].u32[0]: "ip protocol 17" has no mask (did you mean "ip protocol 17 0xff"?)
"ip protocol udpp 0xff"
    11:8: shape.wan.filter[0].u32[0]: "ip protocol udpp 0xff": "udpp" is not a number (for example 80 0xff)
"ip ttl 64 0xff at 9"
    11:8: shape.wan.filter[0].u32[0]: "ip ttl 64 0xff at 9": ttl has its own place (leave out at, or write u8)
"ip port 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: "ip port 53 0xffff": ip has no "port" (did you mean "dst"?)
"ip"
    11:8: shape.wan.filter[0].u32[0]: "ip" says nothing of ip (it has tos, dsfield, precedence, ihl, protocol,
        ttl, sport, dport, icmp_type, icmp_code, src, dst, nofrag, firstfrag, df and mf)
"tcp dport 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: "tcp dport 53 0xffff": tcp has no "dport" (did you mean "dst"?)
"tcp src"
    11:8: shape.wan.filter[0].u32[0]: "tcp src": a value and a mask are needed (for example 80 0xffff)
"ip src 10.0.0.0/8/8"
    11:8: shape.wan.filter[0].u32[0]: "10.0.0.0/8/8" has no valid prefix length (0 to 32 follows the slash)
"ip src 10.1.0.0/8"
    11:8: shape.wan.filter[0].u32[0]: "10.1.0.0/8" has bits set beyond its prefix (did you mean the network
        "10.0.0.0/8" or the address "10.1.0.0"?)
"ip src fd00::/8"
    11:8: shape.wan.filter[0].u32[0]: fd00::/8 is IPv6 (write ip6)
"ip6 dst 10.0.0.0/8"
    11:8: shape.wan.filter[0].u32[0]: 10.0.0.0/8 is IPv4 (write ip)
"ip src"
    11:8: shape.wan.filter[0].u32[0]: "ip src": one address or network follows src (for example "10.0.0.0/8")
"match ip protocol 17 0xff"
    11:8: shape.wan.filter[0].u32[0]: "match ip protocol 17 0xff": the word match is not written here (did you
        mean "ip protocol 17 0xff"?)
"ip protocol 17 0xff match ip dport 53 0xffff"
    11:8: shape.wan.filter[0].u32[0]: these are several selectors: each is a text of its own (did you mean ["ip
        protocol 17 0xff", "ip dport 53 0xffff"]?)
"mark 1 0xff"
    11:8: shape.wan.filter[0].u32[0]: many kernels take a mark in u32 and ignore it (write fw = "VALUE/MASK"
        instead of u32)
"ether src 00:11:22:33:44:55"
    11:8: shape.wan.filter[0].u32[0]: "ether" begins no selector (there are u8, u16, u32, ip, ip6, tcp, udp and
        icmp)
"ipv6 dst fd00::/8"
    11:8: shape.wan.filter[0].u32[0]: "ipv6" begins no selector (did you mean "ip6"?)
""
    11:8: shape.wan.filter[0].u32[0]: an empty selector finds nothing (for example "ip protocol 17 0xff")
"""

IN_PROTOCOL = r"""
u32 = "ip ttl 64 0xff"
protocol = "ipv6"
    11:1: shape.wan.filter[0].u32: it reads the header of IPv4, and the filter looks at IPv6
u32 = "ip6 hlimit 64 0xff"
protocol = "ip"
    11:1: shape.wan.filter[0].u32: it reads the header of IPv6, and the filter looks at IPv4
u32 = ["ip protocol 6 0xff", "tcp dst 80 0xffff"]
protocol = "all"
    11:8: shape.wan.filter[0].u32[0]: it reads an IP header, and protocol = "all" brings others (write protocol =
        "ip")
    11:30: shape.wan.filter[0].u32[1]: it reads an IP header, and protocol = "all" brings others (write protocol =
        "ip")
u32 = "ip6 hlimit 64 0xff"
protocol = "802.1Q"
    11:1: shape.wan.filter[0].u32: it reads an IP header, and protocol = "802.1Q" brings others (write protocol =
        "ipv6")
u32 = []
    11:1: shape.wan.filter[0].u32: nothing is asked for (for example u32 = "ip protocol 17 0xff")
u32 = [1]
    11:8: shape.wan.filter[0].u32[0]: expected a string, got the integer 1 (for example "u8 64 0xff at 8")
"""

BESIDE = r"""
[mark.slow]
    9:7: mark.slow: nothing is set (for example class = "wan.bulk" or uplink = "dsl")
    9:7: mark.slow: nothing says which packets (for example match = [{ source = "10.0.0.7" }])
[mark.slow]
match.port = 1
    9:7: mark.slow: nothing is set (for example class = "wan.bulk" or uplink = "dsl")
[mark.slow]
match.port = 1
class = "web"
    11:1: mark.slow.class: "web" says not of which shape (did you mean "wan.web"?)
[mark.slow]
match.port = 1
class = "lan.web"
    11:1: mark.slow.class: there is no shape "lan" (did you mean "wan"?)
[mark.slow]
match.port = 1
class = "wam.web"
    11:1: mark.slow.class: there is no shape "wam" (did you mean "wan"?)
[mark.slow]
match.port = 1
class = "wan.wep"
    11:1: mark.slow.class: there is no class "wep" (did you mean "web"?)
[mark.slow]
match.port = 1
class = "wan.inner"
    11:1: mark.slow.class: class "inner" has children, and only classes without any hold packets (for example
        "below")
[mark.slow]
match.port = 1
uplink = "dls"
[uplink.dsl]
table = 100
    11:1: mark.slow.uplink: there is no uplink "dls" (did you mean "dsl"?)
[mark.slow]
match.user = "backup"
class = "wan.web"
on = ["forwarded", "local"]
    12:7: mark.slow.on[0]: forwarded packets have no socket here whose owner could be asked for (leave it out)
[mark.slow]
match.port = 1
class = "wan.web"
on = "forward"
    12:1: mark.slow.on: "forward" is none of the ways of a packet (did you mean "forwarded"?)
[mark.slow]
match = [{ outgoing-device = "eth1" }]
class = "wan.web"
on = "incoming"
    12:1: mark.slow.on: incoming packets leave by no device (leave it out)
[mark.slow]
match = [{ incoming-device = "eth1", user = 0 }]
class = "wan.web"
    10:1: mark.slow.match: no packet can have all of these (write several rules)
[mark.slow]
match.port = 1
uplink = "dsl"
class = "wan.web"
[uplink.dsl]
table = 100
[marks]
mask = "0xfff"
    16:1: marks.mask: the mask 0x00000fff has 12 bits, and 8 for backends, 1 for classes and 4 for uplinks are
        needed (for example mask = "0x00001fff")
[uplink.dsl]
    9:9: uplink.dsl: nothing says which routing table (for example table = 100)
[uplink.dsl]
table = 254
    10:1: uplink.dsl.table: table 254 is the kernel's own (for example table = 100)
[uplink.dsl]
table = 100
[uplink.lte]
table = 100
    12:1: uplink.lte.table: table 100 is another uplink's already, at m:10:1
[realm.office]
    9:8: realm.office: the realm has no number (for example number = 5)
[realm.office]
number = 0
    10:1: realm.office.number: expected an integer from 1 to 255, got the integer 0 (for example number = 5)
[realm.office]
number = 5
[realm.branch]
number = 5
    12:1: realm.branch.number: 5 is another realm's already, at m:10:1
[realm.office]
number = 5
routes = [{ via = "10.0.0.9" }]
    11:11: realm.office.routes[0]: the route leads nowhere (for example to = "10.1.0.0/16")
[realm.office]
number = 5
routes = [{ to = "10.1.0.0/16" }]
    11:11: realm.office.routes[0]: nothing says by what it leads there (for example via = "10.0.0.9")
[realm.office]
number = 5
routes = [{ to = "default", via = "10.0.0.9" }]
    11:13: realm.office.routes[0].to: "default" is every address (did you mean "0.0.0.0/0"?)
[realm.office]
number = 5
routes = [{ to = "fd00::/8", via = "fd00::1" }]
    11:13: realm.office.routes[0].to: "fd00::/8" is IPv6, whose routes have no realms (for example "10.1.0.0/16")
    11:30: realm.office.routes[0].via: "fd00::1" is IPv6, whose routes have no realms (for example "10.0.0.9")
[realm.office]
number = 5
routes = [{ to = "10.1.0.0/16", device = "eth1" }, { to = "10.1.0.0/16", device = "eth2" }]
    11:52: realm.office.routes[1]: a second route to 10.1.0.0/16, at m:11:11 (give one of them another metric)
[shape.again]
device = "eth0"
rate = "1mbit"
    10:1: shape.again.device: eth0 has a shape of its egress already, at m:2:1
[realm."a b"]
number = 1
    9:8: realm."a b": the name "a b" cannot be used: a name is 1 to 63 of a-z, 0-9, _, . and -, and starts with a
        letter or digit (did you mean "a-b"?)
"""


def in_match(keys: str) -> str:
    return shape(rest=f'dns = {{ rate = "50kbit", match = {{ {keys} }} }}\n' + SERVICE)


def in_u32(selectors: str) -> str:
    return shape(rest=f'[[shape.wan.filter]]\nclass = "web"\nu32 = [{selectors}]')


def in_bands(classes: str) -> str:
    return f'[shape.wan]\ndevice = "eth0"\ndiscipline = "prio"\ndefault = "one"\n{classes}'


TABLES = [
    ("IN_SHAPE", shape),
    ("IN_DEVICE", lambda lines: f"[shape.lan]\n{lines}"),
    ("IN_CLASS", lambda lines: shape(rest=lines)),
    ("IN_MATCH", in_match),
    ("IN_BAND", in_bands),
    ("IN_FILTER", lambda lines: shape(rest=f"[[shape.wan.filter]]\n{lines}")),
    ("IN_U32", in_u32),
    ("IN_PROTOCOL", lambda lines: shape(rest=f'[[shape.wan.filter]]\nclass = "web"\n{lines}')),
    ("BESIDE", lambda lines: shape(rest=lines)),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(wrap(written), told, id=written)
        for name, wrap in TABLES
        for written, told in cases(globals()[name])
    ],
)
def test_what_is_said(text, expected):
    assert " ".join(said(text).split()) == expected
