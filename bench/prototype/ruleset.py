"""The data path of the design as hand-written nft text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.case import Case

SLOTS = 16


def ruleset(case: Case, *, snat: bool = False) -> str:
    """Write the table for a case; weights are all 1."""
    slots, listeners, chains, backends = [], [], [], []
    base = 128
    for service in case.services:
        size = max(SLOTS, len(service.backends))
        listeners.append(f"{service.address} . tcp . {service.port} : jump {service.name}")
        chains.append(
            f"chain {service.name} {{\nct mark set numgen inc mod {size} offset {base} map @slots return\nreject\n}}\n"
        )
        owners = [service.backends[slot % len(service.backends)].number for slot in range(size)]
        slots += [f"{base + slot} : {owner:#x}" for slot, owner in enumerate(owners)]
        base += size
        backends += [f"{b.number:#x} : {b.address} . {b.port}" for b in service.backends]
    postrouting = "ct mark & 0xffff != 0 masquerade" if snat else ""
    return f"""table inet markway
delete table inet markway
table inet markway {{
map slots {{ typeof numgen inc mod 2 : meta mark; elements = {{ {", ".join(slots)} }} }}
map listeners4 {{ type ipv4_addr . inet_proto . inet_service : verdict; counter
elements = {{ {", ".join(listeners)} }} }}
map backends4 {{ type mark : ipv4_addr . inet_service; counter; elements = {{ {", ".join(backends)} }} }}
{"".join(chains)}
chain choose {{
type nat hook prerouting priority dstnat; policy accept;
ct mark & 0xffff == 0 ip daddr . meta l4proto . th dport vmap @listeners4
ct mark & 0xffff != 0 meta mark set ct mark & 0xffff
meta l4proto {{ tcp, udp }} dnat ip to ct mark & 0xffff map @backends4
}}
chain restore {{
type filter hook prerouting priority mangle; policy accept;
ct mark & 0xffff != 0 meta mark set ct mark & 0xffff
}}
chain source {{
type nat hook postrouting priority srcnat; policy accept;
{postrouting}
}}
}}
"""
