"""What shaping compiles to, by what the kernel can do. Whole programs are in tests/cases, 20 to 26."""

from __future__ import annotations

from dataclasses import replace

import pytest

from markway.compiler import Abilities, Compiled, CompileError, compile_config, reweigh
from markway.compiler.abilities import DISCIPLINES, FILTERS
from markway.compiler.disciplines import FRAME, HANDLES, burst, quantum
from markway.compiler.shape import ifb_name
from markway.config.load import load_text
from markway.marks import MarksError, Registry
from markway.program.diff import diff
from markway.program.model import Fragment
from markway.program.plumbing import HANDLES as OURS
from markway.program.plumbing import Class, Link, PolicyRule, Qdisc

SERVICE = """
[service.web]
listen = "192.0.2.10:80/tcp"
[service.web.backend.a]
address = "10.0.0.1:80"
[service.web.backend.b]
address = "10.0.0.2:80"
"""
WAN = """
[shape.wan]
device = "eth0"
rate = "10mbit"
default = "rest"
{lines}
[shape.wan.class.web]
rate = "2mbit"
{web}
[shape.wan.class.rest]
rate = "8mbit"
{more}
"""


def wan(lines: str = "", web: str = "", more: str = "") -> str:
    return WAN.format(lines=lines, web=web, more=more)


def compiled(text: str, abilities: Abilities | None = None, before: Compiled | None = None) -> Compiled:
    config = load_text(text, "x.toml").config
    if before:
        return compile_config(config, before.registry, before, abilities=abilities)
    return compile_config(config, Registry(), abilities=abilities)


def fragment(text: str, abilities: Abilities | None = None, owner: str = "shape/wan") -> Fragment:
    return compiled(text, abilities).program.fragments[owner]


def commands(found: Fragment) -> list[str]:
    return [command for part in found.plumbing for command in part.add()]


def parts(found: Fragment, kind: type):
    return [part for part in found.plumbing if isinstance(part, kind)]


def rules(found: Fragment, name: str = "shape/wan") -> tuple[str, ...]:
    return found.chains[name].lines


def lacking(*kinds: str, **more) -> Abilities:
    return Abilities(disciplines=DISCIPLINES - set(kinds), **more)


def refused(text: str, abilities: Abilities | None = None) -> CompileError:
    with pytest.raises(CompileError) as error:
        compiled(text, abilities)
    return error.value


def test_a_file_without_shaping_has_no_part_of_it():
    program = compiled(SERVICE).program
    assert set(program.fragments) == {"", "web"}
    assert not any(found.plumbing for found in program.fragments.values())


def test_a_file_with_shaping_alone_is_a_program_and_leaving_it_out_again_leaves_nothing():
    first = compiled(wan())
    assert set(first.program.fragments) == {"", "shape/wan", "shaping/"}
    assert compiled(SERVICE, before=first).program.id == compiled(SERVICE).program.id


def test_every_root_has_one_of_our_handles_and_no_two_kinds_the_same():
    assert set(HANDLES) == DISCIPLINES
    numbers = [int(handle.removesuffix(":"), 16) for handle in HANDLES.values()]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(OURS)


def test_services_are_not_compiled_again_when_shaping_changes_nor_shapes_when_services_do():
    other = '[shape.lan]\ndevice = "eth1"\nrate = "5mbit"\n'
    first = compiled(SERVICE + wan(web='match = { service = "web" }') + other)
    rate = compiled(SERVICE + wan('burst = "15k"', web='match = { service = "web" }') + other, before=first)
    assert [part.owner for part in diff(first.program, rate.program).parts if not part.owner.startswith("shape/")] == []
    for owner in ("", "web", "shape/lan"):
        assert rate.program.fragments[owner] is first.program.fragments[owner]
    weight = compiled(
        SERVICE.replace("10.0.0.2:80", "10.0.0.3:80") + wan(web='match = { service = "web" }') + other, before=first
    )
    for owner in ("shape/wan", "shape/lan", "shaping/"):
        assert weight.program.fragments[owner] is first.program.fragments[owner]


def test_a_shape_follows_the_servers_of_a_service_that_it_asks_for():
    shaped = wan(web='match = { service = "web" }')
    first = compiled(SERVICE + shaped)
    more = '[service.web.backend.c]\naddress = "10.0.0.3:80"\n'
    second = compiled(SERVICE + more + shaped, before=first)
    assert second.program.id == compile_config(second.config, second.registry).program.id
    assert rules(second.program.fragments["shape/wan"])[0].count("0x") == 4


def test_weights_leave_shapes_alone():
    first = compiled(SERVICE + wan(web='match = { service = "web" }'))
    second = reweigh(first, {"web": {"a": 0, "b": 1}})
    assert second.program.fragments["shape/wan"] is first.program.fragments["shape/wan"]
    assert compiled(SERVICE + wan(web='match = { service = "web" }'), before=second).program.id == first.program.id


def test_what_is_compiled_step_by_step_is_what_is_compiled_at_once():
    texts = [
        wan(),
        SERVICE + wan(web='match = { service = "web" }'),
        wan(more='[mark.slow]\nmatch = { source = "10.0.0.7" }\nclass = "wan.web"'),
        wan(more='[uplink.dsl]\ntable = 100\n[mark.slow]\nmatch = { source = "10.0.0.7" }\nuplink = "dsl"'),
        wan(web='parent = "rest"').replace('default = "rest"', 'default = "web"'),
    ]
    now = compiled(texts[0])
    for text in texts[1:] + texts[::-1]:
        now = compiled(text, before=now)
        assert now.program.id == compile_config(now.config, now.registry).program.id


def test_the_default_has_a_number_of_its_own_and_a_class_that_moves_another():
    first = fragment(wan())
    assert first.shape
    assert {item.name: item.classid for item in first.shape.classes} == {"web": "4d57:1", "rest": "4d57:fffe"}
    start = wan(more='[shape.wan.class.top]\nrate = "1kbit"')
    one = compiled(start)
    two = compiled(start.replace('[shape.wan.class.web]\nrate = "2mbit"', '[shape.wan.class.web]\nrate = "1kbit"\nparent = "top"'), before=one)  # noqa: E501  # fmt: skip
    before, after = ({c.name: c.classid for c in each.program.shapes[0].classes} for each in (one, two))
    assert before["web"] != after["web"]
    assert before["top"] == after["top"]
    assert after["web"] not in before.values()


def test_a_class_keeps_its_number_whoever_comes_and_goes():
    first = compiled(wan(more='[shape.wan.class.b]\nrate = "1kbit"\n[shape.wan.class.c]\nrate = "1kbit"'))
    second = compiled(
        wan(more='[shape.wan.class.a]\nrate = "1kbit"\n[shape.wan.class.c]\nrate = "1kbit"'), before=first
    )
    before, after = ({c.name: c.classid for c in each.program.shapes[0].classes} for each in (first, second))
    assert {name: after[name] for name in ("web", "c", "rest")} == {name: before[name] for name in ("web", "c", "rest")}
    assert after["a"] not in before.values()  # "b" goes only after "a" has come


def test_numbers_are_unique_over_all_shapes():
    both = wan() + wan().replace("shape.wan", "shape.lan").replace("eth0", "eth1")
    ids = [c.classid for shape in compiled(both).program.shapes for c in shape.classes if not c.default]
    assert len(set(ids)) == len(ids) == 2


@pytest.mark.parametrize(("rate", "expected"), [(200_000, 3028), (1_000_000, 3028), (100_000_000, 50_000)])
def test_a_burst_is_four_milliseconds_and_two_packets_at_least(rate, expected):
    assert burst(rate, None) == expected


def test_quanta_are_in_proportion_and_within_what_the_kernel_takes_without_a_word():
    assert quantum(200_000, None, 1_024_000) == 2500
    assert quantum(8, None, 1_024_000) == FRAME
    assert quantum(48 * 10**7, None, 48 * 10**7) == 60_000
    assert quantum(4 * 10**8, None, 10**9) == 2 * quantum(2 * 10**8, None, 10**9)
    assert quantum(10**6, 9000, 10**9) == 9000


def test_classes_stand_below_one_that_has_the_rate_of_the_shape():
    top, web, rest = parts(fragment(wan('burst = "20k"')), Class)
    assert (top.parent, top.rate, top.ceil, top.burst) == ("4d57:", 10_000_000, 10_000_000, 20_480)
    assert web.parent == rest.parent == top.classid


@pytest.mark.parametrize(
    ("asked", "missing", "found"),
    [
        ("cake", ["cake"], "fq_codel"),
        ("cake", ["cake", "fq_codel"], "sfq"),
        ("fq_codel", ["fq_codel"], "sfq"),
        ("fq_codel", ["fq_codel", "sfq"], "pfifo"),
        ("fq", ["fq"], "fq_codel"),
        ("sfq", ["sfq"], "fq_codel"),
        ("pfifo_fast", ["pfifo_fast"], "prio"),
        ("pfifo_fast", ["pfifo_fast", "prio"], "pfifo"),
    ],
)
def test_a_leaf_falls_back_to_the_nearest_and_says_so(asked, missing, found):
    made = fragment(wan(f'leaf = "{asked}"'), lacking(*missing))
    assert {part.kind for part in parts(made, Qdisc)[1:]} == {found}
    assert made.shape
    assert made.shape.notices == (f"classes web and rest: this kernel has no {asked}; {found} is the nearest",)
    assert {item.leaf for item in made.shape.classes} == {found}


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ("strict = true", ("shape", "wan", "leaf")),
        ('leaf = { kind = "fq_codel", strict = true }', ("shape", "wan", "leaf")),
    ],
)
def test_what_is_strict_is_refused_instead_and_the_place_is_told(lines, where):
    error = refused(wan(lines), lacking("fq_codel"))
    assert error.origin == where
    assert error.message == "this kernel has no fq_codel"
    assert "sfq is the nearest" in error.hint
    assert "modprobe sch_fq_codel" in error.hint


def test_many_classes_without_their_leaf_are_one_notice():
    many = "".join(f'[shape.wan.class.c{number}]\nrate = "1kbit"\n' for number in range(9))
    made = fragment(wan(more=many), lacking("fq_codel", "sfq"))
    assert made.shape
    assert made.shape.notices == ("11 classes: this kernel has no fq_codel; pfifo is the nearest",)


def test_options_of_another_kind_are_left_out():
    made = fragment(wan('leaf = { kind = "sfq", perturb = "10s" }'), lacking("sfq"))
    assert {part.options for part in parts(made, Qdisc)[1:]} == {""}


@pytest.mark.parametrize(("ceil", "packets"), [("100kbit", 16), ("1024kbit", 42), ("1gbit", 1000)])
def test_a_plain_queue_that_stands_in_holds_half_a_second(ceil, packets):
    bulk = f'[shape.wan.class.bulk]\nrate = "8kbit"\nceil = "{ceil}"\n'
    made = fragment(wan(more=bulk), lacking("fq_codel", "sfq"))
    assert f"limit {packets}" in {part.options for part in parts(made, Qdisc)}
    asked = fragment(wan('leaf = "pfifo"'))
    assert {part.options for part in parts(asked, Qdisc)[1:]} == {""}


@pytest.mark.parametrize("kind", ["tbf", "cake"])
def test_a_root_that_holds_a_rate_falls_back_to_one_class(kind):
    text = f'[shape.wan]\ndevice = "eth0"\nrate = "1mbit"\ndiscipline = "{kind}"\n'
    assert parts(fragment(text), Class) == []
    made = fragment(text, lacking(kind))
    assert [(part.classid, part.rate, part.ceil) for part in parts(made, Class)] == [
        ("4d57:fffd", 10**6, 10**6),
        ("4d57:fffe", 10**6, 10**6),
    ]
    assert made.shape
    assert made.shape.notices == (f"this kernel has no {kind}; htb is the nearest",)
    assert refused(f"{text}strict = true", lacking(kind)).origin == ("shape", "wan", "discipline")
    assert "htb" in refused(text, lacking(kind, "htb")).message


def test_bands_fall_back_to_priorities_of_htb_each_up_to_the_whole_rate():
    text = """
[shape.wan]
device = "eth0"
discipline = "prio"
default = "b"
leaf = "pfifo"
[shape.wan.class.a]
match = { protocol = "udp" }
[shape.wan.class.b]
[shape.wan.class.c]
"""
    assert refused(text, lacking("prio")).hint == "htb stands in if the shape has a rate"
    made = fragment(text.replace('"eth0"', '"eth0"\nrate = "1mbit"'), lacking("prio"))
    _, *classes = parts(made, Class)
    assert [(part.prio, part.ceil) for part in classes] == [(0, 10**6), (1, 10**6), (2, 10**6)]
    assert classes[1].classid == "4d57:fffe"
    assert sum(part.rate for part in classes) <= 10**6 // 50
    assert rules(made) == (f"meta l4proto udp meta priority set {classes[0].classid} return",)


def test_a_plain_root_falls_back_to_its_nearest():
    made = fragment('[shape.wan]\ndevice = "eth0"\ndiscipline = "fq"\n', lacking("fq", "fq_codel", "sfq"))
    assert commands(made)[0].startswith(f"qdisc replace dev eth0 root handle {HANDLES['pfifo']} ")


def test_only_neighbours_that_ask_alike_share_a_map_and_the_first_has_a_packet():
    match = """match = [
        { protocol = "tcp", destination-port = 80 }, { protocol = "udp", destination-port = [80, 81] },
        { source = "10.0.0.1" },
        { protocol = "tcp", destination-port = 82 },
    ]"""
    made = fragment(wan(web=match, more=f'[shape.wan.class.x]\nrate = "1kbit"\n{match.replace("81", "82")}'))
    assert made.shape
    numbers = {item.name: item.classid for item in made.shape.classes}
    assert rules(made) == (
        "meta priority set meta l4proto . th dport map @shape/wan/meta.l4proto-th.dport return",
        f"ip saddr 10.0.0.1 meta priority set {numbers['web']} return",
        "meta priority set meta l4proto . th dport map @shape/wan/meta.l4proto-th.dport/2 return",
        f"ip saddr 10.0.0.1 meta priority set {numbers['x']} return",
        f"meta l4proto tcp th dport 82 meta priority set {numbers['x']} return",
    )
    assert made.elements["shape/wan/meta.l4proto-th.dport/2"] == {
        "tcp . 82": numbers["web"],
        "tcp . 80": numbers["x"],
        "udp . 80": numbers["x"],
        "udp . 82": numbers["x"],
    }


def test_a_thousand_matches_are_one_rule():
    many = "".join(
        f'[shape.wan.class.c{n}]\nrate = "1kbit"\nmatch = {{ source = "10.1.{n >> 8}.{n & 255}" }}\n'
        for n in range(1000)
    )
    made = fragment(wan(more=many))
    assert len(rules(made)) == 1
    assert len(made.elements["shape/wan/ip.saddr"]) == 1000


MARK = """
[mark.slow]
match = [{ source = "10.0.0.7" }, { protocol = "udp" }]
class = "wan.web"
[mark.out]
match = { source = "10.0.0.0/8" }
uplink = "dsl"
[mark.both]
match = { source = "10.1.0.0/16" }
class = "wan.rest"
uplink = "dsl"
on = ["forwarded"]
[uplink.dsl]
table = 100
"""


def test_a_mark_is_written_beside_all_other_bits_where_its_packets_are_known():
    shared = fragment(wan(more=MARK), owner="shaping/")
    assert rules(shared, "mark/slow") == (
        "ip saddr 10.0.0.7 counter name mark/slow meta mark set meta mark & 0xfffff3ff | 0x00000800 return",
        "meta l4proto udp counter name mark/slow meta mark set meta mark & 0xfffff3ff | 0x00000800 return",
    )
    jumps = {name: rules(shared, f"{name}-mark") for name in ("prerouting", "input", "forward", "output")}
    assert jumps == {
        "prerouting": ("jump mark/out", "jump mark/both/uplink"),
        "input": ("jump mark/slow",),
        "forward": ("jump mark/slow", "jump mark/both"),
        "output": ("jump mark/slow", "jump mark/out"),
    }
    hook = shared.chains["output-mark"].hook
    assert hook
    assert hook.kind == "route"  # so that a locally made packet is routed anew
    assert [(part.family, part.mark, part.mask, part.table) for part in parts(shared, PolicyRule)] == [
        (4, 0x1000, 0xF000, 100),
        (6, 0x1000, 0xF000, 100),
    ]


def test_the_class_of_a_mark_goes_before_all_matches():
    made = fragment(wan(web='match = { protocol = "tcp" }', more=MARK))
    assert rules(made)[0] == "meta priority set meta mark & 0x00000c00 map @shape/wan/marks return"
    assert made.elements["shape/wan/marks"] == {"0x00000400": "4d57:fffe", "0x00000800": "4d57:1"}


def test_rules_are_counted_once_and_can_be_shown():
    program = compiled(wan(more=MARK)).program
    assert [(mark.name, mark.class_, mark.uplink, mark.counter) for mark in program.marks] == [
        ("slow", "wan.web", "", "mark/slow"),
        ("out", "", "dsl", "mark/out"),
        ("both", "wan.rest", "dsl", "mark/both"),
    ]
    assert program.fragments["shaping/"].objects == ("counter mark/slow", "counter mark/out", "counter mark/both")
    again = Fragment.from_record(program.fragments["shaping/"].record)
    assert again.digest == program.fragments["shaping/"].digest
    assert again.marks == program.marks


def test_fields_of_the_mark_do_not_meet():
    wide = load_text(f'[marks]\nmask = "0x0000ffff"\n{wan(more=MARK)}', "x.toml").config
    compile_config(wide, Registry())
    with pytest.raises(
        MarksError, match=r"8 for backends, 2 for classes and 4 for uplinks .* mask 0x00003fff would do"
    ):
        compile_config(replace(wide, mask=0x0FFF), Registry())


def test_a_control_group_is_asked_for_where_the_packet_is_made():
    web = 'match = [{ cgroup = "system.slice/backup.service" }, { protocol = "tcp" }]'
    program = compiled(wan(web=web)).program
    shared, made = program.fragments["shaping/"], program.fragments["shape/wan"]
    assert rules(shared, "output-mark") == ("jump mark/shape/wan/web",)
    assert rules(shared, "mark/shape/wan/web")[0].startswith('socket cgroupv2 level 2 "system.slice/backup.service" ')
    assert len(rules(made)) == 2
    assert not any("cgroup" in line for line in rules(made))


FILTERED = """
[[shape.wan.filter]]
fw = "0x50/0xff"
class = "web"
priority = 20
[[shape.wan.filter]]
route = {{ to = 5 }}
class = "web"
priority = {route}
[[shape.wan.filter]]
route = {{ from = 3, to = 5 }}
class = "rest"
priority = {route}
[[shape.wan.filter]]
u32 = "ip protocol 50 0xff"
class = "web"
priority = 10
"""


def test_filters_that_the_kernel_lacks_are_said_by_nft_in_their_order():
    text = wan(web='match = { protocol = "tcp" }', more=FILTERED.format(route=30))
    made = fragment(text, Abilities(filters=frozenset({"u32"})))
    assert rules(made) == (
        "meta l4proto tcp meta priority set 4d57:1 return",
        "meta mark & 0x000000ff == 0x00000050 meta priority set 4d57:1 return",
        "meta nfproto ipv4 rt classid & 0xffffffff == 0x00030005 meta priority set 4d57:fffe return",
        "meta nfproto ipv4 rt classid & 0x0000ffff == 0x00000005 meta priority set 4d57:1 return",
    )
    assert sum(line.startswith("filter") for line in commands(made)) == 1
    assert made.shape
    assert made.shape.notices == (
        "this kernel has no filter fw and route; nft stands in, so they are asked before all others",
    )
    alone = fragment(text, Abilities(filters=FILTERS - {"route"}))
    assert sum(line.startswith("filter") for line in commands(alone)) == 2
    assert fragment(text).shape.notices == ()  # type: ignore[union-attr]


def test_without_u32_its_filters_are_refused_at_their_line():
    error = refused(wan(more=FILTERED.format(route=30)), Abilities(filters=frozenset()))
    assert error.origin == ("shape", "wan", "filter", 3)
    assert "cls_u32" in error.hint


def test_the_next_header_of_ipv4_is_found_by_its_length_and_order_is_kept():
    filters = """
[[shape.wan.filter]]
u32 = "u8 0x10 0xff at 1"
class = "web"
priority = 10
[[shape.wan.filter]]
u32 = ["u8 0x10 0xff at nexthdr+13", "ip protocol 6 0xff"]
class = "rest"
priority = 10
"""
    ack = "match u8 0x10 0xff at nexthdr+13"
    found = [line.partition("pref 10 ")[2] for line in commands(fragment(wan(more=filters))) if "filter" in line]
    assert found == [
        "handle b: u32 divisor 1",
        "handle b::1 u32 ht b: match u8 0x10 0xff at 1 flowid 4d57:1",
        f"handle b::2 u32 ht b: match u16 0x0000 0x1fff at 6 {ack} match u8 0x06 0xff at 9 flowid 4d57:fffe",
        "handle ::1 u32 match u32 0x00000000 0x00000000 at 0 link b: offset at 0 mask 0x0f00 shift 6",
    ]


DOWN = """
[shape.wan]
device = "eth0"
direction = "ingress"
{lines}
rate = "10mbit"
default = "rest"
[shape.wan.class.web]
rate = "2mbit"
match = {match}
[shape.wan.class.rest]
rate = "8mbit"
"""
REST = "; what is for this machine itself is not"
PORT = '{ protocol = "udp", source-port = 53 }'


def down(match: str = PORT, lines: str = "") -> str:
    return DOWN.format(match=match, lines=lines)


def test_what_arrives_is_sent_through_a_device_of_ours_once_its_tree_stands():
    made = fragment(down(lines='inside = ["lan0", "lan1"]'))
    assert made.shape
    assert (made.shape.acts_on, made.shape.notices) == ("mw-wan", ())
    assert not made.chains
    assert parts(made, Link) == [made.plumbing[0]]
    assert commands(made)[-1].endswith(
        "u32 match u32 0x00000000 0x00000000 at 0 action mirred egress redirect dev mw-wan"
    )
    assert commands(made)[-2] == "qdisc add dev eth0 ingress"


def test_a_long_name_makes_a_short_device():
    assert ifb_name("wan") == "mw-wan"
    names = {ifb_name(f"a-very-long-name-of-a-shape-{number}") for number in range(100)}
    assert len(names) == 100
    assert all(len(name) <= 15 for name in names)


def test_destinations_behind_an_ifb_are_those_before_translation():
    made = fragment(down('{ destination = "192.0.2.1" }'))
    assert made.shape
    assert made.shape.notices == ("destinations are those with which packets arrive at eth0, before translation",)


@pytest.mark.parametrize(
    ("match", "word"),
    [
        ('{ service = "web" }', "service"),
        ('{ guard = "ssh" }', "guard"),
        ('{ state = "new" }', "state"),
        ('{ bytes-over = "1m" }', "bytes-over"),
        ("{ mark = 5 }", "mark"),
        ('{ nft = "ip dscp ef" }', "nft"),
        ('{ protocol = "icmp", icmp-type = "echo-request" }', "icmp-type"),
    ],
)  # fmt: skip
def test_what_no_header_says_is_asked_where_packets_leave_inside(match, word):
    named = SERVICE + '[guard.ssh]\nlisten = "22"\nslow = true\n'
    made = fragment(named + down(match, 'inside = "lan0"'))
    assert made.shape
    assert made.shape.acts_on == "lan0"
    assert made.shape.notices == (
        f"what arrives at eth0 is shaped where it leaves lan0: `{word}` can be asked only there{REST}",
    )
    assert rules(made, "shape/wan/inside") == ('iifname "eth0" goto shape/wan', "meta priority set 4d57:0")
    error = refused(named + down(match))
    assert error.origin == ("shape", "wan", "class", "web", "match")
    assert f"`{word}` cannot be asked of what arrives" in error.message
    assert "inside" in error.hint
    several = refused(named + down(match, 'inside = ["lan0", "lan1"]'))
    assert "2 inner devices would have the rate each" in several.message


def test_without_ifb_the_inner_device_stands_in():
    made = fragment(down(lines='inside = "lan0"'), Abilities(ifb=False))
    assert made.shape
    assert made.shape.notices == ("what arrives at eth0 is shaped where it leaves lan0: this kernel has no IFB" + REST,)
    assert refused(down(), Abilities(ifb=False)).message == "this kernel has no IFB"


def test_marks_and_filters_by_mark_are_known_inside_only():
    mark = '[mark.x]\nmatch = { source = "10.0.0.7" }\nclass = "wan.web"\n'
    for more in (mark, '[[shape.wan.filter]]\nfw = 5\nclass = "web"\n'):
        made = fragment(down(lines='inside = "lan0"') + more)
        assert made.shape
        assert made.shape.acts_on == "lan0"


def test_filters_of_the_file_come_behind_its_matches_on_what_arrives():
    filters = '[[shape.wan.filter]]\nu32 = "ip protocol 50 0xff"\nclass = "web"\npriority = {}\n'
    found = [
        line.split(" pref ")[1].split()[0] for line in commands(fragment(down() + filters.format(1))) if "pref" in line
    ]
    assert found == ["1", "1", "1", "2", "3", "19799"]
    assert refused(down() + filters.format(65535)).origin == ("shape", "wan", "filter", 0)


def test_two_shapes_cannot_stand_on_one_device():
    both = down('{ state = "new" }', 'inside = "lan0"') + '[shape.lan]\ndevice = "lan0"\nrate = "5mbit"\n'
    assert "shapes lan and wan would both stand on lan0" in refused(both).message


def test_every_fragment_survives_the_log():
    texts = (SERVICE + wan(web='match = { service = "web" }', more=MARK + FILTERED.format(route=30)), down())
    for text in texts:
        for found in compiled(text).program.fragments.values():
            assert Fragment.from_record(found.record).digest == found.digest
