"""What shaping means, and what is said of what is probably not meant."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from markway.config.load import load_text
from markway.config.model import PortRange
from markway.config.problems import ConfigError, WrongValue
from markway.config.rates import parse_bandwidth, parse_size, show_bandwidth
from markway.config.shaping import (
    Direction,
    Discipline,
    FilterKind,
    Key,
    MarkRule,
    Match,
    Realm,
    RealmRoute,
    Shape,
    ShapeClass,
    Shaping,
    Uplink,
    Way,
)
from markway.config.u32 import parse_selector


def shaping(text: str) -> Shaping:
    return load_text(text).config.shaping


def shape(lines: str = 'rate = "1mbit"', rest: str = "") -> Shape:
    return shaping(f'[shape.wan]\ndevice = "eth0"\n{lines}\n{rest}').shapes[0]


def classes(rest: str, rate: str = "1mbit") -> dict[str, ShapeClass]:
    found = shape(f'rate = "{rate}"\ndefault = "rest"', rest).classes
    return {one.name: one for one in found}


def match(keys: str) -> Match:
    [found] = classes(f"[shape.wan.class.rest]\nmatch = {{ {keys} }}")["rest"].matches
    return found


def filters(text: str) -> tuple[tuple[int, str, str], ...]:
    found = shape('rate = "1mbit"\ndefault = "rest"', f"[shape.wan.class.rest]\n{text}").filters
    return tuple((one.preference, one.kind.value, one.protocol) for one in found)


def warned(text: str) -> list[str]:
    return [str(problem) for problem in load_text(text, "m").warnings]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("8", 8), ("1024kbit", 1_024_000), ("1.5mbit", 1_500_000), ("1Mbit", 10**6), ("2gbit", 2 * 10**9),
        ("1tbit", 10**12), ("1kibit", 1024), ("1mibit", 1 << 20), ("1gibit", 1 << 30), ("100bps", 800),
        ("1kbps", 8000), ("1mbps", 8 * 10**6), ("1MBps", 8 * 10**6), ("1kibps", 8192), ("10 mbit", 10**7),
    ],
)  # fmt: skip
def test_rates_are_those_of_tc(text, rate):
    assert parse_bandwidth(text) == rate


@pytest.mark.parametrize(
    ("text", "size"),
    [("1600", 1600), ("15k", 15360), ("15kb", 15360), ("1m", 1 << 20), ("1G", 1 << 30), ("1b", 1), ("8kbit", 1024),
     ("1mbit", 1 << 17), ("1.5k", 1536)],
)  # fmt: skip
def test_sizes_are_those_of_tc(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["0", "7", "11tbit", "0.5bit", "-1", "", "kbit", "1e6", "1kbit/s"])
def test_other_rates_are_refused(text):
    with pytest.raises(WrongValue):
        parse_bandwidth(text)


@pytest.mark.parametrize("rate", ["8bit", "1kbit", "1024kbit", "1500kbit", "20mbit", "3gbit", "1234567bit"])
def test_rates_are_shown_as_they_are_written(rate):
    assert show_bandwidth(parse_bandwidth(rate)) == rate


def test_the_smallest_shape():
    assert shape() == Shape("wan", "eth0", rate=10**6)


def test_a_file_may_hold_nothing_but_a_shape_or_an_uplink():
    assert shaping("[uplink.dsl]\ntable = 100") == Shaping(uplinks=(Uplink("dsl", 100),))
    with pytest.raises(ConfigError, match="the file asks for nothing"):
        load_text("[shape]")


def test_every_key_of_a_shape():
    found = shape(
        'direction = "ingress"\ninside = "lan0"\nrate = 2000000\nburst = "10k"\noverhead = 18\nstrict = true\n'
        'optional = true\nleaf = { kind = "sfq", perturb = "10s", strict = true }'
    )
    assert found == Shape(
        "wan", "eth0", Direction.INGRESS, ("lan0",), 2_000_000, 10240, 18, leaf=Discipline("sfq", (("perturb", "10"),),
        strict=True), strict=True, optional=True,
    )  # fmt: skip
    assert shape('rate = "1mbit"\ndirection = "ingress"\ninside = ["lan0", "lan1"]').inside == ("lan0", "lan1")


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("kind = 'tbf', rate = '1mbit'", "rate 1000000bit latency 50000us burst 2000"),
        ("kind = 'tbf', rate = '1mbit', burst = '5k', limit = '30k', peakrate = '2mbit', mtu = '1540'",
         "rate 1000000bit burst 5120 limit 30720 peakrate 2000000bit mtu 1540"),
        ("kind = 'sfq', perturb = '0s', limit = 127, quantum = 1514, flows = 64, divisor = 512, depth = 10",
         "limit 127 perturb 0 quantum 1514 flows 64 divisor 512 depth 10"),
        ("kind = 'fq_codel', limit = 100, flows = 64, target = '5ms', interval = '0.1s', quantum = '1k', ecn = false",
         "limit 100 flows 64 target 5000us interval 100000us quantum 1024 noecn"),
        ("kind = 'fq_codel', ecn = true, ce-threshold = '1ms', memory-limit = '1m'",
         "ecn ce_threshold 1000us memory_limit 1048576"),
        ("kind = 'cake', bandwidth = '1mbit', diffserv = 'besteffort', isolation = 'flows', nat = true, wash = false",
         "bandwidth 1000000bit besteffort flows nat nowash"),
        ("kind = 'cake', ack-filter = 'aggressive', split-gso = false, ingress = true, rtt = '1s', memory-limit = '4m'",
         "ack-filter-aggressive no-split-gso ingress rtt 1000000us memlimit 4194304"),
        ("kind = 'cake', ack-filter = true", "ack-filter"),
        ("kind = 'fq', limit = 10, flow-limit = 5, quantum = 3028, maxrate = '1mbit', pacing = false",
         "limit 10 flow_limit 5 quantum 3028 maxrate 1000000bit nopacing"),
        ("kind = 'pfifo', limit = 10", "limit 10"),
        ("kind = 'bfifo', limit = '10k'", "limit 10240"),
        ("kind = 'pfifo_fast'", ""),
        ("kind = 'prio', bands = 3", "bands 3"),
    ],
)  # fmt: skip
def test_options_are_told_to_tc_in_its_words(written, options):
    leaf = shape(f'rate = "1mbit"\nleaf = {{ {written} }}').leaf
    assert " ".join(word for option in leaf.options for word in option if word) == options


@pytest.mark.parametrize(
    ("lines", "rate", "options"),
    [
        ('rate = "1mbit"\ndiscipline = "cake"', 10**6, {"bandwidth": "1000000bit"}),
        ('discipline = { kind = "cake", bandwidth = "1mbit" }', 10**6, {"bandwidth": "1000000bit"}),
        ('discipline = "cake"', 0, {}),
        ('rate = "8mbit"\ndiscipline = "tbf"\noverhead = 18', 8 * 10**6,
         {"rate": "8000000bit", "burst": "4000", "latency": "50000us", "overhead": "18"}),
        ('rate = "1mbit"\nburst = "9k"\ndiscipline = "tbf"', 10**6,
         {"rate": "1000000bit", "burst": "9216", "latency": "50000us"}),
        ('discipline = "fq_codel"', 0, {}),
    ],
)  # fmt: skip
def test_a_root_has_the_rate_of_its_shape(lines, rate, options):
    found = shape(lines)
    assert (found.rate, dict(found.root.options)) == (rate, options)


def test_the_tree_of_classes():
    found = shape(
        'rate = "1mbit"\ndefault = "rest"',
        """[shape.wan.class]
mail = { parent = "people", rate = "100kbit", ceil = "1mbit", burst = 1600, cburst = "2k", prio = 2, mtu = 1600 }
people = { rate = "500kbit", ceil = "1mbit" }
rest = { quantum = 1514, leaf = "sfq" }
bulk = {}
""",
    )
    assert [(one.name, one.parent, one.rate, one.ceil) for one in found.classes] == [
        ("people", "", 500_000, 10**6),
        ("mail", "people", 100_000, 10**6),
        ("rest", "", 250_000, None),
        ("bulk", "", 250_000, None),
    ]
    mail, rest = found.classes[1], found.classes[2]
    assert (mail.burst, mail.cburst, mail.prio, mail.mtu) == (1600, 2048, 2, 1600)
    assert (rest.quantum, rest.leaf, found.default) == (1514, Discipline("sfq"), "rest")
    assert mail.origin == ("shape", "wan", "class", "mail")


def test_bands_of_prio_are_its_classes():
    text = '[shape.wan.class.first]\nmatch.dscp = "ef"\n[shape.wan.class.rest]\n'
    found = shape('discipline = "prio"\ndefault = "rest"', text)
    assert [one.name for one in found.classes] == ["first", "rest"]


def test_every_key_of_a_match():
    assert match(
        'family = 4, protocol = ["TCP", "17"], source = ["10.0.0.0/8", "192.0.2.1"], destination = "203.0.113.0/24", '
        'source-port = 80, destination-port = ["8000-8010", 443], port = "1,2"'
    ) == Match(
        family=4,
        protocol=("tcp", "udp"),
        source=(ip_network("10.0.0.0/8"), ip_network("192.0.2.1")),
        destination=(ip_network("203.0.113.0/24"),),
        source_port=(PortRange(80, 80),),
        destination_port=(PortRange(443, 443), PortRange(8000, 8010)),
        port=(PortRange(1, 1), PortRange(2, 2)),
    )
    assert match(
        'incoming-device = "lan0", dscp = ["EF", 4, "0x0a"], length = "0-128", state = ["new", "related"], '
        'bytes-over = "10m", user = ["backup", 0], group = 100, cgroup = "a/b", mark = "0x50/0xff", nft = " ip ttl 1 "'
    ) == Match(
        incoming_device="lan0",
        dscp=(46, 4, 10),
        length=(0, 128),
        state=("new", "related"),
        bytes_over=10 << 20,
        user=("backup", "0"),
        group=("100",),
        cgroup="a/b",
        packet_mark=(0x50, 0xFF),
        raw="ip ttl 1",
    )


def test_ports_and_flags_have_their_protocol():
    assert match("port = 53").protocol == ("tcp", "udp")
    assert match('port = 53, protocol = "sctp"').protocol == ("sctp",)
    assert match('tcp-flags = "ack", port = 22').protocol == ("tcp",)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("ack", (("ack",), ("ack",))),
        ("syn/syn,ack", (("syn", "ack"), ("syn",))),
        ("/syn,ack", (("syn", "ack"), ())),
        ("ack, SYN", (("syn", "ack"), ("syn", "ack"))),
    ],
)
def test_flags(text, flags):
    assert match(f'tcp-flags = "{text}"').tcp_flags == flags


@pytest.mark.parametrize(
    "text", ['iifname \\"log\\"', "ct state { new, related }", "ip daddr @mine", "th dport != 1-9"]
)
def test_expressions_that_only_look(text):
    assert match(f'nft = "{text}"').raw == text.replace("\\", "")


def test_priorities_follow_the_order_of_the_file():
    u32, fw = (
        '[[shape.wan.filter]]\nclass = "rest"\nu32 = "u32 0 0"\n',
        '[[shape.wan.filter]]\nclass = "rest"\nfw = 1\n',
    )
    assert filters(u32 + u32 + fw + u32) == (
        (10, "u32", "ip"), (10, "u32", "ip"), (20, "fw", "all"), (30, "u32", "ip"),
    )  # fmt: skip
    assert filters(f"{u32}priority = 100\n{fw}{u32}priority = 5\n") == (
        (5, "u32", "ip"), (100, "u32", "ip"), (110, "fw", "all"),
    )  # fmt: skip


def test_filters():
    found = shape(
        'rate = "1mbit"\ndefault = "rest"',
        """[shape.wan.class.rest]
[[shape.wan.filter]]
class = "rest"
fw = "0x50/0xff"
[[shape.wan.filter]]
class = "rest"
route = { from = "office", to = "7" }
[realm.office]
number = 5
[[shape.wan.filter]]
class = "rest"
u32 = "ip6 hlimit 1 0xff"
""",
    ).filters
    assert [one.kind for one in found] == [FilterKind.FW, FilterKind.ROUTE, FilterKind.U32]
    assert (found[0].mark, found[1].from_realm, found[1].to_realm) == ((0x50, 0xFF), 5, 7)
    assert (found[2].protocol, found[2].keys) == ("ipv6", (Key(1, 1, 0xFF, 7),))


@pytest.mark.parametrize(
    ("text", "keys"),
    [  # the classic guide's (LARTC HOWTO, 12.1 and 15)
        ("ip tos 0x10 0xff", (Key(1, 0x10, 0xFF, 1),)),
        ("u32 0x00100000 0x00ff0000 at 0", (Key(4, 0x100000, 0xFF0000, 0),)),
        ("u8 64 0xff at 8", (Key(1, 64, 0xFF, 8),)),
        ("ip ttl 64 ff", (Key(1, 64, 0xFF, 8),)),
        ("u8 0x10 0xff at nexthdr+13", (Key(1, 0x10, 0xFF, 13, "next"),)),
        ("u8 0x10 0xff at nexthdr+ 13", (Key(1, 0x10, 0xFF, 13, "next"),)),
        ("u8 0x05 0x0f at 0", (Key(1, 5, 0xF, 0),)),
        ("u16 0x0000 0xffc0 at 2", (Key(2, 0, 0xFFC0, 2),)),
        ("u32 0xc0a80000 0xffff0000 at 16", (Key(4, 0xC0A80000, 0xFFFF0000, 16),)),
        ("ip dst 192.168.0.0/16", (Key(4, 0xC0A80000, 0xFFFF0000, 16),)),
        ("ip src 4.3.2.1/32", (Key(4, 0x04030201, 0xFFFFFFFF, 12),)),
        ("ip src any", (Key(4, 0, 0, 12),)),
        ("ip src 0.0.0.0/0", (Key(4, 0, 0, 12),)),
        ("ip protocol tcp 0xff", (Key(1, 6, 0xFF, 9),)),
        ("ip dport 53 0xffff", (Key(2, 53, 0xFFFF, 22),)),
        ("ip precedence 0xa0 0xe0", (Key(1, 0xA0, 0xE0, 1),)),
        ("ip nofrag", (Key(2, 0, 0x3FFF, 6),)),
        ("ip mf", (Key(2, 0x2000, 0x2000, 6),)),
        ("ip icmp_code 1 0xff", (Key(1, 1, 0xFF, 21),)),
        ("tcp dst 53 0xffff", (Key(2, 53, 0xFFFF, 2, "next"),)),
        ("udp src 53 0xffff", (Key(2, 53, 0xFFFF, 0, "next"),)),
        ("tcp syn", (Key(1, 2, 2, 13, "next"),)),
        ("tcp flags 0x02 0x12", (Key(1, 2, 0x12, 13, "next"),)),
        ("icmp type 8 0xff", (Key(1, 8, 0xFF, 0, "next"),)),
        ("u16 0x0800 0xffff at -2", (Key(2, 0x800, 0xFFFF, -2),)),
        ("ip6 priority 0xb8 0xfc", (Key(4, 0xB800000, 0xFC00000, 0),)),
        ("ip6 flowlabel 0x12345 0xfffff", (Key(4, 0x12345, 0xFFFFF, 0),)),
        ("ip6 dst 2001:db8::/36", (Key(4, 0x20010DB8, 0xFFFFFFFF, 24), Key(4, 0, 0xF0000000, 28))),
        ("ip6 src ::/0", (Key(4, 0, 0, 8),)),
        ("ip6 sport 53 0xffff", (Key(2, 53, 0xFFFF, 40),)),
    ],
)
def test_selectors(text, keys):
    assert parse_selector(text).keys == keys


def test_marks_uplinks_and_realms():
    found = shaping(
        """[shape."a.b"]
device = "eth0"
rate = "1mbit"
default = "c.d"
[shape."a.b".class."c.d"]
[mark.slow]
match = [{ source = "10.0.0.7" }, { user = "me" }]
class = "a.b.c.d"
uplink = "dsl"
[mark.local]
match.port = 1
uplink = "dsl"
on = ["local", "forwarded"]
[uplink.dsl]
table = 100
[realm.office]
number = 5
routes = [{ to = "10.1.0.0/16", via = "10.0.0.9", device = "eth1", metric = 7 }]
"""
    )
    assert found.uplinks == (Uplink("dsl", 100),)
    network, router = ip_network("10.1.0.0/16"), ip_address("10.0.0.9")
    assert found.realms == (Realm("office", 5, (RealmRoute(network, router, "eth1", 7),)),)
    slow, local = found.marks
    assert (slow.shape_class, slow.uplink, slow.on) == (("a.b", "c.d"), "dsl", (Way.LOCAL,))
    assert local == MarkRule(
        "local", (Match(protocol=("tcp", "udp"), port=(PortRange(1, 1),)),), None, "dsl", (Way.FORWARDED, Way.LOCAL)
    )


def test_classes_that_are_sure_of_more_than_there_is():
    text = '[shape.wan]\ndevice = "eth0"\nrate = "1mbit"\ndefault = "b"\n[shape.wan.class]\n'
    lines = 'a = { rate = "600kbit" }\nb = { rate = "600kbit", ceil = "2mbit" }\n'
    assert warned(text + lines) == [
        (
            "m:1:8: shape.wan: the classes at the top are sure of 1200kbit together, and there are 1mbit "
            "(when all send, none gets what it is sure of)"
        ),
        "m:7:25: shape.wan.class.b.ceil: never reached: the shape gets 1mbit at most",
    ]


def test_a_rate_that_lacks_its_unit_and_bits_behind_a_header():
    assert warned('[shape.wan]\ndevice = "eth0"\nrate = 1024') == [
        'm:3:1: shape.wan.rate: 1024 bits per second: a packet takes seconds (did you mean "1024kbit"?)'
    ]
    text = '[shape.wan]\ndevice = "eth0"\nrate = "1mbit"\ndefault = "b"\n[shape.wan.class.b]\n'
    [said] = warned(f'{text}[[shape.wan.filter]]\nclass = "b"\nu32 = "u16 53 0xffff at 22"')
    assert "it reads behind the IP header, where each protocol has something else" in said


def test_the_preset_of_a_home():
    found = shape('rate = "1024kbit"\npreset = "home"')
    by_name = {one.name: one for one in found.classes}
    assert [*by_name] == ["interactive", "bulk", "ssh", "web", "rest"]
    assert found.default == "rest"
    assert sum(one.rate for one in found.classes) <= found.rate
    assert all(one.ceil == found.rate for one in found.classes)
    assert sorted(by_name, key=lambda name: by_name[name].prio) == ["interactive", "ssh", "web", "rest", "bulk"]
    assert any(one.bytes_over for one in by_name["bulk"].matches)
    assert found.leaf.kind == "fq_codel"
    assert dict(found.leaf.options)["target"] == "18000us"
    assert shape('rate = "100mbit"\npreset = "home"').leaf == Discipline("fq_codel")


def test_what_the_file_says_goes_before_the_preset():
    found = shape(
        'rate = "1mbit"\npreset = "home"\nleaf = "sfq"\nburst = "3k"',
        '[shape.wan.class.bulk]\nrate = "50kbit"\n[shape.wan.class.voice]\nrate = "150kbit"\nmatch.dscp = "ef"\n',
    )
    by_name = {one.name: one for one in found.classes}
    assert next(iter(by_name)) == "voice"
    assert (by_name["bulk"].rate, by_name["bulk"].prio, by_name["voice"].rate) == (50_000, 7, 150_000)
    assert by_name["bulk"].matches
    assert sum(one.rate for one in found.classes) <= found.rate
    assert (found.leaf, found.burst) == (Discipline("sfq"), 3072)


def test_the_example_of_a_home_server():
    loaded = load_text(Path("examples/home-server.toml").read_text())
    [found] = loaded.config.shaping.shapes
    assert not loaded.warnings
    assert found.default == "rest"
    assert sum(one.rate for one in found.classes) == found.rate
    assert min(found.classes, key=lambda one: one.prio).name == "first"
    assert max(found.classes, key=lambda one: one.prio).name == "bittorrent"
