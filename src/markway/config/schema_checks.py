"""The shape of a service's `check` and `load`, and of `[api]`: how backends are watched, and who may ask about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Duration, Form

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)

_STATUS = r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?(,[1-5][0-9]{2}(-[1-5][0-9]{2})?)*$"
_OBJECT = r"^(laLoad|laLoadInt|ifInOctets|ifOutOctets)\.[0-9]+$|^hrProcessorLoad(\.[0-9]+)?$|^\.?[0-9]+(\.[0-9]+)+$"
_PATH = r"^/"

Port = Annotated[int | None, Field(ge=1, le=65535)]
Times = Annotated[int, Field(ge=1, le=100)]
Text = Annotated[str | None, Form("a string")]
Flag = Annotated[Literal[True] | None, Form("true")]
Path = Annotated[str | None, Form("a path", _PATH)]
File = Annotated[str | None, Form("the path of a file", _PATH)]
Words = Annotated[list[str] | None, Form("a list of strings")]


class Check(BaseModel):
    """Ask every backend whether it is well. Exactly one key says how; it is asked from this machine.

    How: `tcp`, `udp`, `http`, `https`, `dns`, `ping`, `smtp`, `mysql`, `postgresql`, `redis`, `command` or `agent`.
    """

    model_config = _STRICT

    tcp: Flag = Field(
        None, description="A TCP connection; then `send` and `expect`, if they are there.", examples=[True]
    )
    udp: Flag = Field(
        None,
        description="Send `send` in a datagram; an answer must come, with `expect` in it if that is there.",
        examples=[True],
    )
    http: Path = Field(None, description="Get this path by HTTP.", examples=["/health"])
    https: Path = Field(None, description="Get this path by HTTPS.", examples=["/health"])
    dns: Text = Field(None, description="Ask for this name; an answer must come.", examples=["example.org"])
    ping: Flag = Field(None, description="An ICMP echo.", examples=[True])
    smtp: Flag = Field(None, description="A mail server's greeting, EHLO and QUIT.", examples=[True])
    mysql: Flag = Field(
        None,
        description="A MySQL or MariaDB server that takes logins; with `user`, the login of this one, and a ping.",
        examples=[True],
    )
    postgresql: Flag = Field(
        None,
        description="A PostgreSQL server that takes new sessions; with `user`, as this user of `database`.",
        examples=[True],
    )
    redis: Flag = Field(None, description="PING; with `password-file`, after logging in.", examples=[True])
    command: Words = Field(
        None,
        description=(
            "A program and its arguments; exit status 0 is well. It finds MARKWAY_SERVICE, MARKWAY_BACKEND, "
            "MARKWAY_ADDRESS and MARKWAY_PORT in its environment."
        ),
        examples=[["/usr/local/lib/check-shop", "--quick"]],
    )
    agent: Port = Field(
        None,
        description=(
            "The port of an agent on the backend that says `up`, `down`, `drain`, `maint`, `ready` or a percentage "
            "of the weight (HAProxy's agent-check)."
        ),
        examples=[8888],
    )
    every: Duration = Field(None, description="Time from one check to the next. Default 2s.", examples=["2s"])
    fast: Duration = Field(
        None,
        description="The same while a backend is about to change its state. Default a quarter of `every`.",
        examples=["500ms"],
    )
    timeout: Duration = Field(
        None, description="An answer that takes longer is none. Default half of `every`, at most 2s.", examples=["1s"]
    )
    rise: Times = Field(2, description="Good checks in a row that bring a backend back.", examples=[2])
    fall: Times = Field(3, description="Bad checks in a row that take a backend out.", examples=[3])
    jitter: Annotated[int, Field(ge=0, le=50)] = Field(
        10,
        description="Per cent of `every` by which the time is varied, so that checks do not come all at once.",
        examples=[0],
    )
    passive: bool = Field(
        True,
        description=(
            "Check at once when the kernel sees a sign of death: connections unanswered, reset or unreachable. "
            "Then and while in doubt at the `fast` interval."
        ),
        examples=[False],
    )
    port: Port = Field(None, description="Where to ask. Default: the backend's port.", examples=[8080])
    send: Text = Field(
        None,
        description=(
            r"What to send, for `tcp` and `udp`. `\xHH` is a byte; `\r`, `\n`, `\t`, `\0` and `\\` are what they are "
            r"in C. Write it in single quotes, where TOML leaves a `\` alone."
        ),
        examples=[r"PING\r\n", r"\x17\x00\x03\x2a"],
    )
    expect: Text = Field(
        None,
        description="What must be in the answer, for `tcp` and `udp`; written as `send`.",
        examples=["+PONG"],
    )
    status: Annotated[str | int | None, Form("a status or ranges of them", _STATUS)] = Field(
        None, description="HTTP statuses that are well. Default 200-399.", examples=["200-299,401"]
    )
    body: Text = Field(
        None, description="A regular expression that must match in the HTTP body's first 64 KiB.", examples=['"ok"']
    )
    host: Text = Field(None, description="The HTTP Host. Default: the backend's address.", examples=["www.example.org"])
    sni: Text = Field(
        None, description="The name asked for by TLS and looked for in the certificate. Default: `host`.",
        examples=["www.example.org"],
    )  # fmt: skip
    verify: bool = Field(True, description="Whether a certificate must be valid, for `https`.", examples=[False])
    ca: File = Field(
        None, description="A file with the certificates to trust. Default: the system's.",
        examples=["/etc/markway/ca.pem"],
    )  # fmt: skip
    expiry_warning: Duration = Field(
        None, alias="expiry-warning", description="Warn when a certificate ends within this time. Default 14d.",
        examples=["30d"],
    )  # fmt: skip
    record: Literal["A", "AAAA", "MX", "NS", "SOA", "TXT"] = Field(
        "A", description="What `dns` asks for.", examples=["SOA"]
    )
    user: Text = Field(None, description="Whom to log in as, for `mysql` and `postgresql`.", examples=["markway"])
    password_file: File = Field(
        None, alias="password-file", description="A file with the password, for `redis`, `mysql` and `postgresql`.",
        examples=["/etc/markway/redis.password"],
    )  # fmt: skip
    database: Text = Field(None, description="The database, for `postgresql`. Default: `user`.", examples=["shop"])


class Load(BaseModel):
    """Ask every backend how loaded it is, and give the loaded ones fewer new connections.

    Exactly one key says how: `snmp`, `http`, `command`, `ping` or `agent`. A backend whose load is unknown has its
    configured weight.
    """

    model_config = _STRICT

    snmp: Annotated[str | None, Form("an SNMP object", _OBJECT)] = Field(
        None,
        description=(
            "The object to read: laLoad.1, laLoadInt.1, hrProcessorLoad (the mean of all processors), ifInOctets.N or "
            "ifOutOctets.N (as a rate), or any number's OID."
        ),
        examples=["laLoadInt.1", "1.3.6.1.4.1.2021.10.1.5.1"],
    )
    http: Path = Field(
        None,
        description="A path that answers JSON; `field` says where in it the number is.",
        examples=["/load.json"],
    )
    command: Words = Field(
        None, description="A program and its arguments that prints a number; its environment as for `check`.",
        examples=[["/usr/local/lib/load-of"]],
    )  # fmt: skip
    ping: Flag = Field(None, description="The time of an ICMP echo, in milliseconds.", examples=[True])
    agent: Port = Field(
        None, description="The agent's port: its percentage scales the weight, its state counts too.", examples=[8888]
    )
    every: Duration = Field(
        None,
        description="Time from one reading to the next; weights follow within some ten readings. Default 5s.",
        examples=["5s"],
    )
    timeout: Duration = Field(
        None, description="A slower answer is none. Default `every`, at most 2s.", examples=["1s"]
    )
    stale: Duration = Field(
        None,
        description="A reading this old is forgotten: then the configured weight holds. Default 3 times `every`.",
        examples=["30s"],
    )
    full: Annotated[float | int | None, Form("a number")] = Field(
        None,
        description=(
            "The reading of a backend that is fully loaded. Default: 100 for laLoadInt and hrProcessorLoad, 1 for "
            "laLoad, 12500000 octets a second for interfaces, 100 for all others."
        ),
        examples=[400],
    )
    floor: Annotated[int, Field(ge=1, le=100)] = Field(
        10, description="The least share of its weight that a loaded backend keeps, in per cent.", examples=[10]
    )
    port: Port = Field(None, description="Where to ask. Default 161, or the backend's port for HTTP.", examples=[8080])
    field: Text = Field(None, description="Keys that lead to the number in JSON, for `http`.", examples=["system.load"])
    version: Literal["2c", "3"] = Field("2c", description="The version of SNMP.", examples=["3"])
    community_file: File = Field(
        None, alias="community-file",
        description="A file with the community of SNMP 2c. Default: `public`.", examples=["/etc/markway/community"],
    )  # fmt: skip
    user: Text = Field(None, description="The user of SNMP 3.", examples=["markway"])
    auth: Literal["md5", "sha"] | None = Field(None, description="How the user of SNMP 3 is known.", examples=["sha"])
    auth_file: File = Field(
        None, alias="auth-file", description="A file with its passphrase.", examples=["/etc/markway/snmp.auth"]
    )
    privacy: Literal["des", "aes"] | None = Field(None, description="How SNMP 3 is enciphered.", examples=["aes"])
    privacy_file: File = Field(
        None, alias="privacy-file", description="A file with its passphrase.", examples=["/etc/markway/snmp.privacy"]
    )


class Api(BaseModel):
    """Where the daemon answers besides its Unix socket, which is always there and is root's."""

    model_config = _STRICT

    listen: Annotated[str | None, Form("an address and a port", r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]+$")] = Field(
        None, description="ADDRESS:PORT for HTTP over TCP.", examples=["127.0.0.1:8480"]
    )
    token_file: File = Field(
        None, alias="token-file", description="A file with the token that requests must bear.",
        examples=["/etc/markway/api.token"],
    )  # fmt: skip
    certificate: File = Field(
        None, description="A PEM file with the certificate and its chain: then it is HTTPS.",
        examples=["/etc/markway/api.pem"],
    )  # fmt: skip
    key: File = Field(None, description="A PEM file with the certificate's key.", examples=["/etc/markway/api.key"])
