"""The chains of zones and policies."""

from __future__ import annotations

import pytest

from markway.compiler import Abilities, CompileError, compile_config
from markway.config.load import load_text
from markway.marks import Registry
from markway.program.diff import diff
from markway.program.model import Fragment

SERVICE = '[service.web]\nlisten = "192.0.2.10:80"\nbackend.a = { address = "10.0.0.1:80" }\n'
LAN = '[zone.lan]\ndevices = ["eth1", "eth2"]\n[zone.wan]\ndevices = "eth0"\n'


def policy(name: str, source: str, to: str, verdict: str = "accept", more: str = "") -> str:
    return f'[policy.{name}]\nfrom = "{source}"\nto = "{to}"\nverdict = "{verdict}"\n{more}\n'


def chains(text: str) -> dict[str, tuple[str, ...]]:
    found = compile_config(load_text(text).config, Registry()).program.fragments["guard/firewall"]
    assert Fragment.from_record(found.record).text == found.text
    return {name: chain.lines for name, chain in found.chains.items()}


def test_a_file_without_it_becomes_what_it_did():
    program = compile_config(load_text(SERVICE).config, Registry()).program
    assert program.fragments.keys() == {"", "web"}
    assert "policies" not in program.fragments["web"].record


def test_one_chain_for_all_devices_of_the_same_zones():
    found = chains(LAN + policy("out", "lan", "wan") + policy("in", "wan", "lan"))
    assert found["firewall-forward"][-2:] == (
        'iifname vmap { "eth1" : goto forward/lan, "eth2" : goto forward/lan, "eth0" : goto forward/wan }',
        "goto firewall/forward",
    )
    assert found["forward/lan"] == (
        'oifname vmap { "eth0" : goto forward/lan/wan }',
        "goto firewall/forward",
    )
    assert found["forward/lan/wan"] == ("goto policy/out",)


def test_what_every_packet_fits_ends_the_chain():
    found = chains(LAN + policy("all", "any", "any", "drop") + policy("out", "lan", "wan"))
    assert found["firewall-forward"][-1] == "goto policy/all"
    assert not [name for name in found if name.startswith("forward/")]


def test_what_this_machine_sends_is_asked_only_where_a_policy_speaks_of_it():
    assert "firewall-output" not in chains(LAN + policy("out", "any", "wan"))
    found = chains(LAN + policy("no", "self", "wan", "drop"))
    assert found["firewall-output"][-1] == 'oifname vmap { "eth0" : goto output/wan }'
    assert found["output/wan"] == ("goto policy/no",)


def test_networks_of_both_ends_are_of_one_family():
    zones = '[zone.a]\nnetworks = ["10.0.0.0/8", "fd00::/8"]\n[zone.b]\nnetworks = "192.0.2.0/24"\n'
    found = chains(zones + policy("p", "a", "b", more='match = { protocol = "tcp" }'))
    assert found["firewall-forward"][-2:] == (
        "ip saddr { 10.0.0.0/8 } ip daddr { 192.0.2.0/24 } jump policy/p",
        "goto firewall/forward",
    )
    assert found["policy/p"] == ("meta l4proto tcp goto policy/p/then",)


def test_services_are_open_where_there_are_any():
    opens = "ct status dnat ct mark & 0x000000ff != 0x00000000 accept"
    assert opens in chains(SERVICE + "[firewall]")["firewall-forward"]
    assert opens not in chains("[firewall]")["firewall-forward"]


def test_another_limit_is_in_another_set():
    text = policy("p", "any", "self", more='rate = "1/second"\nmax-connections = 5')
    old, new = (
        compile_config(load_text(given).config, Registry()).program for given in (text, text.replace("= 5", "= 6"))
    )
    [change] = diff(old, new).parts
    assert {item.name for item in change.sets} == {"policy/p/connections4/6", "policy/p/connections6/6"}
    assert {item.name for item in change.old_sets} == {"policy/p/connections4/5", "policy/p/connections6/5"}


def test_a_kernel_without_synproxy_refuses_it():
    text = policy("p", "any", "self", more='match = { protocol = "tcp" }\nsynproxy = true')
    with pytest.raises(CompileError, match="this kernel has no synproxy") as caught:
        compile_config(load_text(text).config, Registry(), abilities=Abilities(synproxy=False))
    assert caught.value.origin == ("policy", "p", "synproxy")
