"""Probes of nftables and connection tracking."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from markway.kernel import netns
from markway.kernel.capabilities.feature import Feature
from markway.kernel.capabilities.network import LEFT, NEAR, RIGHT, tcp, udp
from markway.kernel.capabilities.programs import load_module, need
from markway.kernel.netlink import CREATE, Message, Netlink, attribute, nested, open_socket, text
from markway.kernel.nflog import Log

if TYPE_CHECKING:
    from markway.kernel.capabilities.network import Network

_ESSENTIAL = "nothing: Markway cannot balance without it"
_SET = "set s { type ipv4_addr; flags dynamic; size 64; timeout 1m; }"


def _numgen(network: Network) -> bool:
    network.chain("forward", "meta mark set numgen inc mod 2", "meta mark 1 drop")
    return network.arrived([(4000, 9)] * 4) in ([0, 2], [1, 3])


def _jhash(network: Network) -> bool:
    network.chain("forward", "meta mark set jhash udp sport mod 2 seed 0x1", "meta mark 1 drop")
    packets = [(port, 9) for port in range(4000, 4064)]
    once, again = network.arrived(packets), network.arrived(packets)
    return once == again and 8 < len(once) < 56  # noqa: PLR2004 - about half of 64, always the same


def _ct_mark(network: Network) -> bool:
    network.chain("forward", "ct mark 7 drop", "ct mark set 7")
    return network.arrived([(4000, 9), (4000, 9), (4001, 9)]) == [0, 2]


def _dnat(network: Network) -> bool:
    dnat = f"meta mark set 7 dnat to meta mark map {{ 7 : {RIGHT} }}"
    network.chain("prerouting", dnat, kind="nat", priority="dstnat")
    return network.passes(to="10.99.3.3")


def _dynset(network: Network) -> bool:
    network.chain("forward", "ip saddr @s drop", "add @s { ip saddr }", more=_SET)
    return network.arrived([(4000, 9)] * 2) == [0]


def _connlimit(network: Network) -> bool:
    limited = "set s { type ipv4_addr; flags dynamic; size 64; }"
    network.chain("forward", "ct state new add @s { ip saddr ct count over 1 } drop", more=limited)
    return network.arrived([(4000, 9), (4000, 9), (4001, 9)]) == [0, 1]


def _helped(network: Network, name: str, protocol: str, port: int) -> None:
    """Only what belongs to a helped connection may come from the right on its own."""
    network.chain(
        "prerouting",
        f'{protocol} dport {port} ct helper set "h"',
        'iifname "right" ct state new drop',
        more=f'ct helper h {{ type "{name}" protocol {protocol}; }}',
    )


def _ftp(network: Network) -> bool:
    _helped(network, "ftp", "tcp", 21)
    with tcp(network.right, 21) as server, tcp(network.left) as client, tcp(network.left, 1025) as data:
        server.listen()
        data.listen()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect((RIGHT, 21))
        session, _ = server.accept()
        with session, tcp(network.right) as back:
            for line in (b"USER probe\r\n", b"PORT %s,4,1\r\n" % LEFT.replace(".", ",").encode()):
                client.sendall(line)  # the helper begins with the second line that it sees
                session.recv(64)
            back.settimeout(0.5)
            return back.connect_ex((LEFT, 1025)) == 0


def _tftp(network: Network) -> bool:
    _helped(network, "tftp", "udp", 69)
    with udp(network.right, 69) as server, udp(network.left) as client, udp(network.right) as answer:
        client.sendto(b"\0\1probe\0octet\0", (RIGHT, 69))
        _, peer = server.recvfrom(64)
        answer.sendto(b"\0\3\0\1", peer)  # from a port of its own, as TFTP does
        client.settimeout(0.5)
        return _received(client)


def _received(opened: socket.socket) -> bool:
    try:
        opened.recv(64)
    except TimeoutError:
        return False
    return True


def _reject(network: Network) -> bool:
    network.chain("prerouting", "udp dport 9 reject")
    with udp(network.left) as client:
        client.connect((RIGHT, 9))
        client.send(b"0")
        client.settimeout(0.5)
        try:
            client.recv(64)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            pass
    return False


def _synproxy(network: Network) -> bool:
    netns.sysctl(network.middle, {"netfilter/nf_conntrack_tcp_loose": "0"})
    network.chain("prerouting", "tcp dport 80 tcp flags syn notrack", priority="raw")
    network.chain("forward", "ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm")
    network.chain("output", "tcp dport 80 drop")  # the second handshake, with the server, is not wanted
    with tcp(network.left) as client:
        client.settimeout(0.5)
        try:
            return client.connect_ex((RIGHT, 80)) == 0  # nobody listens there: the middle shook hands
        except TimeoutError:
            return False


def _queue(network: Network) -> bool:
    network.chain("forward", "udp dport 9 queue num 77", "udp dport 10 queue num 77 bypass")
    return network.stops(9) and network.passes(10)


def _xt_queue(network: Network) -> bool:
    network.chain("forward")
    target = (text(1, "NFQUEUE"), attribute(2, struct.pack("!I", 0)), attribute(3, struct.pack("=H6x", 77)))
    expression = nested(1, text(1, "target"), nested(2, *target))
    rule = text(1, "t") + text(2, "forward") + nested(4, expression)
    passed = network.passes()
    with netns.enter(network.middle), Netlink() as netlink:
        netlink.transaction([Message(10 << 8 | 6, CREATE, socket.AF_INET, rule)])
    return passed and network.stops()


def _flowtable(network: Network) -> bool:
    network.chain(
        "forward",
        "ct state established flow add @f",
        more="flowtable f { hook ingress priority 0; devices = { left, right }; }",
    )
    with udp(network.right, 9) as server, udp(network.left) as client:
        for _ in range(3):
            client.sendto(b"there", (RIGHT, 9))
            _, peer = server.recvfrom(64)
            server.sendto(b"and back", peer)
            client.recv(64)
        network.nft("insert rule ip t forward drop")
        client.sendto(b"past the chain", (RIGHT, 9))
        server.settimeout(0.5)
        return _received(server) and network.stops(10)


def _fib(network: Network) -> bool:
    network.chain("prerouting", "udp dport 9 fib daddr type unicast drop", "udp dport 10 fib daddr type local drop")
    return network.stops(9) and network.passes(10)


def _netdev(network: Network) -> bool:
    network.chain('ingress device "left"', "udp dport 9 drop", family="netdev")
    return network.stops(9) and network.passes(10)


def _events(network: Network) -> bool:
    load_module("nf_conntrack_netlink")  # a listener has it loaded too, but does not wait for it
    network.chain("forward", "ct state new accept")
    with netns.enter(network.middle):
        watcher = open_socket()
    with watcher:
        watcher.bind((0, 1))  # NFNLGRP_CONNTRACK_NEW
        watcher.settimeout(0.5)
        return network.passes() and _received(watcher)


def _log(network: Network) -> bool:
    network.chain("forward", "udp dport 9 meta mark set 7 log group 77 snaplen 0")
    with netns.enter(network.middle):
        log = Log(77)
    with log:
        return network.passes(9) and network.passes(10) and list(log.marks()) == [7]


_SERVICE = struct.Struct("=H2x4s2s2xI16sII4s")  # ip_vs_service_user in linux/ip_vs.h
_DESTINATION = struct.Struct("=4s2s2xIiII")  # ip_vs_dest_user
_ADD, _ADD_DESTINATION = 1152 + 2, 1152 + 7


def _ipvs(network: Network) -> bool:
    load_module("ip_vs")
    port = struct.pack("!H", 9)
    service = _SERVICE.pack(17, socket.inet_aton(NEAR), port, 0, b"rr", 0, 0, b"\xff" * 4)
    backend = _DESTINATION.pack(socket.inet_aton(RIGHT), port, 0, 1, 0, 0)
    with netns.enter(network.middle), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as control:
        control.setsockopt(socket.IPPROTO_IP, _ADD, service)
        control.setsockopt(socket.IPPROTO_IP, _ADD_DESTINATION, service + backend)
    return network.passes(to=NEAR)


def _ipset(network: Network) -> bool:
    need("ipset")
    need("iptables-nft")
    netns.run(network.middle, ["ipset", "create", "s", "hash:net"])
    netns.run(network.middle, ["ipset", "add", "s", "10.99.1.0/28"])
    rule = ["-A", "FORWARD", "-p", "udp", "--dport", "9", "-m", "set", "--match-set", "s", "src", "-j", "DROP"]
    netns.run(network.middle, ["iptables-nft", *rule])
    return network.stops(9) and network.passes(10)


FEATURES = (
    Feature("nft_numgen", "nft numgen", "of four packets every second one is dropped", _ESSENTIAL, _numgen),
    Feature("nft_jhash", "nft jhash", "about half of 64 source ports is dropped, twice the same", _ESSENTIAL, _jhash),
    Feature(
        "ct_mark", "connection marks", "the second packet of a flow carries the first one's mark", _ESSENTIAL, _ct_mark
    ),
    Feature("nft_dnat_map", "nft dnat by a map", "a packet to another address arrives", _ESSENTIAL, _dnat),
    Feature(
        "nft_dynset", "nft sets filled by packets", "a source's first packet bars its second", "no persistence", _dynset
    ),
    Feature(
        "nft_connlimit",
        "nft connection limit for each source",
        "a second flow is dropped, the first goes on",
        "limits.connections-per-source is refused",
        _connlimit,
    ),
    Feature("ct_helper_ftp", "FTP helper", "a data connection asked for by PORT is related", "helper is refused", _ftp),
    Feature("ct_helper_tftp", "TFTP helper", "an answer from another port is related", "helper is refused", _tftp),
    Feature(
        "nft_reject_prerouting",
        "nft reject before routing",
        "the sender is told: port unreachable",
        "reject in the input and forward hooks",
        _reject,
    ),
    Feature(
        "nft_synproxy",
        "nft synproxy",
        "a handshake succeeds with a server that is not there",
        "nothing: the kernel's SYN cookies protect its own sockets only",
        _synproxy,
    ),
    Feature(
        "nft_queue",
        "nft queue",
        "without a reader packets stop, with bypass they pass",
        "the NFQUEUE target of xtables, by nft_compat",
        _queue,
    ),
    Feature(
        "xt_nfqueue",
        "xtables NFQUEUE in our own table (nft_compat)",
        "without a reader packets stop",
        "nft queue",
        _xt_queue,
    ),
    Feature(
        "nft_flowtable",
        "nft flowtable",
        "an offloaded flow does not meet a new drop in the forward hook",
        "the ordinary forwarding path",
        _flowtable,
    ),
    Feature(
        "nft_fib",
        "nft fib",
        "a route's type tells a forwarded packet from a local one",
        "sets of our own addresses",
        _fib,
    ),
    Feature(
        "nft_netdev",
        "nft ingress of a device",
        "a packet is dropped before routing, its neighbour is not",
        "the prerouting hook",
        _netdev,
    ),
    Feature(
        "nft_log",
        "nft log to a group (NFLOG)",
        "one packet's mark is told to a listener, its neighbour's is not",
        "active checks alone find dead servers",
        _log,
    ),
    Feature("ct_events", "connection events", "a new flow is told to a listener", "dumps at intervals", _events),
    Feature(
        "ipvs", "IPVS", "a packet to a virtual service arrives at its server", "nft maps, which Markway prefers", _ipvs
    ),
    Feature("ipset", "ipset, matched by xtables", "a listed network is dropped, on one port only", "nft sets", _ipset),
)
