"""The shape of `[guard]`: who is thrown out for trying too often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Duration, Form, Networks, Text
from markway.config.guarding import LADDER, LogFormat

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)

_LISTEN = (
    r"^(service:[a-z0-9][a-z0-9_.-]{0,62}|((\[[0-9a-fA-F:.]+\]|[0-9.]+):)?"
    r"(\*|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)(/(tcp|udp|tcp\+udp))?)$"
)
_WINDOW = r"^ *[0-9]+ +in +[0-9].*$"

Guarded = Annotated[str | list[str] | None, Form("a string or a list of strings", _LISTEN)]
Windows = Annotated[str | list[str] | None, Form("a string or a list of strings", _WINDOW)]


class BanTable(BaseModel):
    """How long a source is banned: until it is quiet, or for a time that may grow."""

    model_config = _STRICT

    until_quiet: Duration = Field(
        None,
        alias="until-quiet",
        description="Until the source has made no attempt for this long: each one begins it anew. Default 600s.",
        examples=["600s"],
    )
    time: Duration = Field(
        None, description="For this long, whatever the source does meanwhile: 1s to 30d.", examples=["10m"]
    )
    factor: Annotated[float | int | None, Form("a number")] = Field(
        None, description="Each further ban lasts so many times as long as the one before. Needs `time`.", examples=[2]
    )
    longest: Duration = Field(None, description="But no longer than this. Default 1w.", examples=["1w"])
    memory: Duration = Field(
        None,
        description="A ban, or a slowing, counts as the one before for this long after its end. Default 1w.",
        examples=["30d"],
    )


class LogTable(BaseModel):
    """A log in which each failure is an attempt: a file, or the journal of a systemd unit."""

    model_config = _STRICT

    format: Text = Field(
        None, description=f"Whose log it is: {', '.join(LogFormat)}.", examples=["sshd", "nginx-access"]
    )
    pattern: Text = Field(
        None,
        description=(
            "Instead of `format`: a regular expression (Python's) that fits the whole line of a failure, with the "
            "group `address`; a group `date` is its time."
        ),
        examples=[r".*login failed.* from (?P<address>\S+)"],
    )
    date: Text = Field(
        None,
        description=(
            "With `pattern`: how the line's time is written, as in strptime(3), or `%s`. Default: the usual forms."
        ),
        examples=["%Y-%m-%d %H:%M:%S"],
    )
    file: Text = Field(
        None,
        description="The file. It may be rotated and truncated, and need not be there yet.",
        examples=["/var/log/auth.log"],
    )
    journal: Text = Field(None, description="The unit whose journal is read instead.", examples=["ssh.service"])


class GuardTable(BaseModel):
    """Attempts of each source are counted in sliding windows, exactly; who makes too many is banned.

    An attempt is a new connection to `listen`, or a failure in `logs`. The ban is an element with a timeout in a set
    of the kernel, which alone keeps it alive, renews it and ends it; connections that were there before go on.
    """

    model_config = _STRICT

    listen: Guarded = Field(
        None,
        description=(
            "What is guarded: ports of this machine (`22/tcp`), of one address (`192.0.2.1:22/tcp`), or a service of "
            "this file (`service:NAME`). TCP unless it says otherwise."
        ),
        examples=["22/tcp", ["192.0.2.1:25,465/tcp", "service:web"]],
    )
    windows: Windows = Field(
        None,
        description=(
            "More than N attempts within a time ban: `N in TIME`. The attempt that is one too many is refused itself. "
            f"Default: {', '.join(map(str, LADDER))}."
        ),
        examples=[["2 in 20s", "14 in 200s"]],
    )
    ban: BanTable | None = Field(
        None,
        description='How long a source is banned. Default: `{ until-quiet = "600s" }`.',
        examples=[{"until-quiet": "600s"}, {"time": "10m", "factor": 2, "longest": "1w"}],
    )
    slow: bool = Field(
        False,
        description=(
            "Whether the first offence passes, and only slows its source for as long as a ban would last; the next one "
            "bans, also within `memory` after that. How slow says a class of a shape, with "
            '`match = { guard = "NAME" }`.'
        ),
        examples=[True],
    )
    prefix: int = Field(
        32, ge=8, le=32, description="Prefix length of the IPv4 network that counts as one source.", examples=[24]
    )
    prefix6: int = Field(
        64, ge=16, le=128, description="Prefix length of the IPv6 network that counts as one source.", examples=[56]
    )
    allow: Networks = Field(
        None,
        description="Networks and addresses that are never counted and never kept out. Default: none.",
        examples=[["192.0.2.0/24", "2001:db8::/32"]],
    )
    scope: Literal["listener", "all"] = Field(
        "listener",
        description="What a banned source may not reach: `listen`, or this machine and all behind it.",
        examples=["all"],
    )
    refuse: Literal["drop", "reset"] = Field(
        "drop",
        description="What a banned source gets: nothing, or a TCP reset (UDP: port unreachable).",
        examples=["reset"],
    )
    connections: bool | None = Field(
        None,
        description="Whether new connections are attempts. Default: only if there are no `logs`.",
        examples=[True],
    )
    logs: Annotated[list[LogTable] | None, Form("a list of tables")] = Field(
        None,
        description="Logs whose failures are attempts. Default: none.",
        examples=[[{"format": "sshd", "journal": "ssh.service"}]],
    )


GUARD_TABLES: dict[str, type[BaseModel]] = {
    "guard.NAME": GuardTable,
    "guard.NAME.ban": BanTable,
    "guard.NAME.logs": LogTable,
}
"""Their tables by path, in the order of the reference."""
