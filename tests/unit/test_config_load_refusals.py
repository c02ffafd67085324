"""Every refusal of a load, a policy and the API, word for word, as in test_config_refusals."""

from __future__ import annotations

import pytest
from tests.unit.test_config_refusals import cases, problems, service

from markway.config.load import Source, load
from markway.config.problems import ConfigError

LOADS = """
every = "5s"
    2:1: service.web.load: nothing says how to ask (there are `snmp`, `http`, `command`, `ping` and
        `agent`)
ping = true, snmp = "laLoadInt.1"
    2:1: service.web.load: "snmp" and "ping" at once: only one can ask (keep one)
ping = true, full = 0
    2:23: service.web.load.full: no load is measured against the integer 0 (for example full = 100)
ping = true, full = -1.5
    2:23: service.web.load.full: no load is measured against the number -1.5 (for example full = 100)
ping = true, full = inf
    2:23: service.web.load.full: no load is measured against the number inf (for example full = 100)
ping = true, full = nan
    2:23: service.web.load.full: no load is measured against the number nan (for example full = 100)
ping = true, full = 1000000000000000000000000000000
    2:23: service.web.load.full: no load is measured against an integer beyond 64 bits (for example full
        = 100)
ping = true, full = "100"
    2:23: service.web.load.full: expected a number, got the string "100" (did you mean 100, without
        quotes?)
ping = true, full = "much"
    2:23: service.web.load.full: expected a number, got the string "much" (for example full = 400)
ping = true, port = 161
    2:23: service.web.load.port: a load by ping has no use for it (it is for command, http and snmp)
ping = true, version = "2c"
    2:23: service.web.load.version: a load by ping has no use for it (it is for snmp)
agent = 8888, full = 100
    2:24: service.web.load.full: a load by agent has no use for it (it is for command, http, ping and
        snmp)
agent = 8888, floor = 10
    2:24: service.web.load.floor: a load by agent has no use for it (it is for command, http, ping and
        snmp)
agent = 8888, port = 8889
    2:24: service.web.load.port: a load by agent has no use for it (it is for command, http and snmp)
agent = 0
    2:10: service.web.load.agent: expected an integer from 1 to 65535, got the integer 0 (for example
        agent = 8888)
http = "/load.json"
    2:1: service.web.load: nothing says where in the JSON the number is (for example field = "load")
http = "/load.json", field = "system..load"
    2:31: service.web.load.field: "system..load" has an empty key (for example "system.load")
http = "load.json", field = "load"
    2:10: service.web.load.http: "load.json" is no path: it starts with a / (did you mean "/load.json"?)
http = "/load.json", field = "load", community-file = "/etc/markway/community"
    2:47: service.web.load.community-file: a load by http has no use for it (it is for snmp)
command = ["load of"]
    2:21: service.web.load.command[0]: "load of" is one word, the program's (did you mean ["load",
        "of"]?)
command = []
    2:10: service.web.load.command: there is no program (for example command = ["/bin/true"])
snmp = "laLoadInt"
    2:10: service.web.load.snmp: no SNMP object is called "laLoadInt" here (did you mean "laLoadInt.1"?)
snmp = "laLoadInt.5"
    2:10: service.web.load.snmp: there is no laLoadInt.5 (laLoadInt.1 is of 1 minute, laLoadInt.2 of 5
        and laLoadInt.3 of 15)
snmp = "laloadint.1"
    2:10: service.web.load.snmp: no SNMP object is called "laloadint.1" here (did you mean
        "laLoadInt.1"?)
snmp = "UCD-SNMP-MIB::laLoadInt.1"
    2:10: service.web.load.snmp: no SNMP object is called "UCD-SNMP-MIB::laLoadInt.1" here (did you mean
        "laLoadInt.1"?)
snmp = "laLoadInt.x"
    2:10: service.web.load.snmp: "laLoadInt.x" has no number behind its dot (did you mean
        "laLoadInt.1"?)
snmp = "hrProcessorLoda"
    2:10: service.web.load.snmp: no SNMP object is called "hrProcessorLoda" here (did you mean
        "hrProcessorLoad"?)
snmp = "ifHCInOctets.2"
    2:10: service.web.load.snmp: no SNMP object is called "ifHCInOctets.2" here (did you mean
        "ifInOctets.2"? It takes the counter of 64 bits if there is one)
snmp = "ifInOctets"
    2:10: service.web.load.snmp: no SNMP object is called "ifInOctets" here (did you mean
        "ifInOctets.2"?)
snmp = "sysUpTime.0"
    2:10: service.web.load.snmp: no SNMP object is called "sysUpTime.0" here (there are laLoad.N,
        laLoadInt.N, hrProcessorLoad, ifInOctets.2 and ifOutOctets.2; of any other write the OID)
snmp = "3.6.1.4.1"
    2:10: service.web.load.snmp: "3.6.1.4.1" is no object identifier (it begins with 0, 1 or 2 and has
        up to 128 numbers up to 4294967295)
snmp = "1.3.6.1.99999999999"
    2:10: service.web.load.snmp: "1.3.6.1.99999999999" is no object identifier (it begins with 0, 1 or 2
        and has up to 128 numbers up to 4294967295)
snmp = "1.3.6.1.4294967296"
    2:10: service.web.load.snmp: "1.3.6.1.4294967296" is no object identifier (it begins with 0, 1 or 2
        and has up to 128 numbers up to 4294967295)
snmp = ""
    2:10: service.web.load.snmp: no SNMP object is called "" here (there are laLoad.N, laLoadInt.N,
        hrProcessorLoad, ifInOctets.2 and ifOutOctets.2; of any other write the OID)
snmp = "laLoad.1", field = "load"
    2:29: service.web.load.field: a load by snmp has no use for it (it is for http)
snmp = "laLoad.1", user = "markway"
    2:29: service.web.load.user: SNMP 2c has no use for it (write version = "3")
snmp = "laLoad.1", auth = "sha", version = "2c"
    2:29: service.web.load.auth: SNMP 2c has no use for it (write version = "3")
snmp = "laLoad.1", version = 3
    2:29: service.web.load.version: expected "2c" or "3", got the integer 3 (for example version = "3")
snmp = "laLoad.1", version = "1"
    2:29: service.web.load.version: expected "2c" or "3", got "1"
snmp = "laLoad.1", version = "3"
    2:1: service.web.load: SNMP 3 needs a user (for example user = "markway")
snmp = "laLoad.1", version = "3", user = "m", community-file = "/etc/markway/community"
    2:56: service.web.load.community-file: SNMP 3 has no use for it (SNMP 3 has users instead)
snmp = "laLoad.1", version = "3", user = "m", auth = "sha"
    2:1: service.web.load: auth needs a passphrase (write it into a file: auth-file =
        "/etc/markway/snmp.auth")
snmp = "laLoad.1", version = "3", user = "m", auth-file = "/etc/markway/auth"
    2:1: service.web.load: auth-file is there and auth is not (for example auth = "sha")
snmp = "laLoad.1", version = "3", user = "m", privacy-file = "/etc/markway/privacy"
    2:1: service.web.load: privacy-file is there and privacy is not (for example privacy = "aes")
snmp = "laLoad.1", version = "3", user = "m", privacy = "aes", privacy-file = "/etc/markway/privacy"
    2:1: service.web.load: privacy needs auth as well (for example auth = "sha")
snmp = "laLoad.1", version = "3", user = "m", auth = "sha512"
    2:56: service.web.load.auth: expected "md5" or "sha", got "sha512" (did you mean "sha"?)
snmp = "laLoad.1", community-file = "public"
    2:29: service.web.load.community-file: "public" depends on where the daemon runs (for example
        "/etc/markway/public")
snmp = "laLoad.1", every = "5s", stale = "4s"
    2:43: service.web.load.stale: shorter than every, which is 5 s: a reading would be forgotten before
        the next (for example stale = "15s")
snmp = "laLoad.1", every = "5"
    2:29: service.web.load.every: "5" has no unit (did you mean "5s"?)
snmp = "laLoad.1", floor = 0
    2:29: service.web.load.floor: expected an integer from 1 to 100, got the integer 0 (for example
        floor = 10)
snmp = "laLoad.1", floor = 0.1
    2:29: service.web.load.floor: expected an integer from 1 to 100, got the number 0.1 (for example
        floor = 10)
"""


@pytest.mark.parametrize(("keys", "expected"), cases(LOADS))
def test_in_a_load(keys, expected):
    assert problems(service(f"load = {{ {keys} }}")) == [f"m:{expected}"]


BESIDE = """
schedule = "least-connections"
policy = "two-choices"
    3:1: service.web.policy: schedule "least-connections" has no policy (write schedule = "queue")
policy = "two-choices"
    2:1: service.web.policy: schedule "round-robin" has no policy (write schedule = "queue")
schedule = "queu"
policy = "two-choices"
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got "queu" (did you mean "queue"?)
schedule = "queue"
policy = "two choices"
    3:1: service.web.policy: "two choices" is no policy (did you mean "two-choices"?)
schedule = "queue"
policy = "random"
    3:1: service.web.policy: "random" is no policy ("two-choices", "least-connections" or "least-load",
        or your own such as "shop.balance:by_customer")
schedule = "queue"
policy = "shop.balance.by_customer"
    3:1: service.web.policy: "shop.balance.by_customer" is no policy (did you mean
        "shop.balance:by_customer"?)
schedule = "queue"
policy = "shop balance"
    3:1: service.web.policy: "shop balance" is no policy ("two-choices", "least-connections" or
        "least-load", or your own such as "shop.balance:by_customer")
schedule = "queue"
policy = 5
    3:1: service.web.policy: expected a policy, got the integer 5 (for example policy = "two-choices")
schedule = "least"
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got "least" (did you mean "least-load"?)
schedule = "rr"
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got "rr"
schedule = "roundrobin"
    2:1: service.web.schedule: expected "random", "round-robin", "source-hash", "flow-hash",
        "least-connections", "least-load" or "queue", got "roundrobin" (did you mean "round-robin"?)
check = true
    2:1: service.web.check: expected a table, got true (for example check = { http = "/health", every =
        "2s", rise = 2, fall = 3 })
load = "snmp"
    2:1: service.web.load: expected a table, got the string "snmp" (for example load = { snmp =
        "laLoadInt.1", every = "5s" })
slow-start = "30s"
    2:1: service.web.slow-start: without a check no backend is ever seen to come back (for example check
        = { tcp = true })
slow-start = "0s"
check.tcp = true
    2:1: service.web.slow-start: "0s" is too short (50ms to 1d)
slow-start = 30
check.tcp = true
    2:1: service.web.slow-start: expected a duration with its unit, got the integer 30 (did you mean
        "30s"?)
slow-start = "30s"
check = 5
    3:1: service.web.check: expected a table, got the integer 5 (for example check = { http = "/health",
        every = "2s", rise = 2, fall = 3 })
orphans = "drop"
    2:1: service.web.orphans: expected "keep" or "cut", got "drop"
orphans = true
    2:1: service.web.orphans: expected "keep" or "cut", got true (for example orphans = "cut")
check = { agent = 8888 }
load = { agent = 8888 }
    3:1: service.web.load: the check asks an agent, whose percentage counts there too (leave load out)
"""


@pytest.mark.parametrize(("lines", "expected"), cases(BESIDE))
def test_beside_them(lines, expected):
    assert problems(service(lines)) == [f"m:{expected}"]


APIS = """
listen = "127.0.0.1:8480"
    1:2: api: anybody who reaches this address could change the machine (write a token into a file that
        only root can read: token-file = "/etc/markway/api.token")
token-file = "/etc/markway/token"
    1:2: api: the API listens nowhere (for example listen = "127.0.0.1:8480")
listen = "127.0.0.1"
token-file = "/etc/markway/token"
    2:1: api.listen: "127.0.0.1" has no port (for example "127.0.0.1:8480")
listen = "localhost:8480"
token-file = "/etc/markway/token"
    2:1: api.listen: "localhost" is not an IP address: names are not looked up (write the address
        itself)
listen = "*:8480"
token-file = "/etc/markway/token"
    2:1: api.listen: "*" is not an IP address (for example "192.0.2.10" or "2001:db8::10")
listen = "224.0.0.1:8480"
token-file = "/etc/markway/token"
    2:1: api.listen: nobody can listen on 224.0.0.1 (for example "127.0.0.1:8480")
listen = 8480
token-file = "/etc/markway/token"
    2:1: api.listen: expected an address and a port, got the integer 8480 (for example listen =
        "127.0.0.1:8480")
listen = "127.0.0.1:8480"
token-file = "token"
    3:1: api.token-file: "token" depends on where the daemon runs (for example "/etc/markway/token")
listen = "127.0.0.1:8480"
token-file = "/t"
certificate = "/c"
    1:2: api: the certificate has no key (for example key = "/etc/markway/api.key")
listen = "127.0.0.1:8480"
token-file = "/t"
key = "/c"
    1:2: api: the key has no certificate (for example certificate = "/etc/markway/api.pem")
listen = "127.0.0.1:8480"
token = "secret"
    3:1: api: unknown key "token" (did you mean "token-file"?)
listen = "192.0.2.10:80"
token-file = "/t"
certificate="/c"
key="/k"
    2:1: api.listen: 192.0.2.10:80/tcp is already service "web"'s, at m:7:1
"""


@pytest.mark.parametrize(("lines", "expected"), cases(APIS))
def test_in_the_api(lines, expected):
    assert problems(f"[api]\n{lines}\n{service()}") == [f"m:{expected}"]


def test_two_tables_of_the_api():
    api = '[api]\nlisten = "127.0.0.1:8480"\ntoken-file = "/t"\n'
    files = [Source("a", f"{api}{service()}".encode()), Source("b", api.encode())]
    with pytest.raises(ConfigError) as caught:
        load(files)
    assert [str(problem) for problem in caught.value.problems] == ["b:1:2: api: [api] is already defined, at a:1:2"]
