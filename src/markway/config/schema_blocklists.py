"""The shape of `[blocklist]` and `[allowlist]`: who is kept out by lists."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from markway.config.forms import Devices, Duration, LogRate, Networks, Text

_STRICT = ConfigDict(strict=True, extra="forbid", validate_by_alias=True, validate_by_name=False)


class BlocklistTable(BaseModel):
    """Addresses whose packets are dropped, from a file or a URL; the table's name is the list's name.

    A line of the list is an address, a prefix or a range (`192.0.2.1-192.0.2.9`); `#`, `;` and `//` begin a comment.
    `ipset save` and what fail2ban-client prints are understood too. It may have a million lines. The daemon reads
    it, again when it changes, and loads it into the kernel; without the daemon an `apply` does, once. What was read
    last is kept, and stays in force if the source is gone, empty or no list. What this machine tells itself is never
    dropped.
    """

    model_config = _STRICT

    file: Text = Field(None, description="Where the list is.", examples=["/etc/markway/drones.txt"])
    url: Text = Field(
        None,
        description="Or where it is published, by http or https; a gzip file is unpacked.",
        examples=["https://lists.example.org/drones.txt"],
    )
    every: Duration = Field(None, description="How often the URL is asked. Default: `1d`.", examples=["6h"])
    minimum_age: Duration = Field(
        None,
        alias="minimum-age",
        description=(
            "The URL is never asked again sooner, not even after a failure or a restart: who publishes lists shuts out "
            "who asks often. Default: `1h`."
        ),
        examples=["2h"],
    )
    timeout: Duration = Field(None, description="How long a download may take. Default: `60s`.", examples=["5m"])
    ca: Text = Field(
        None,
        description="A file of certificates to trust. Default: the system's.",
        examples=["/etc/ssl/certs/company.pem"],
    )
    least: Annotated[int | None, Field(ge=1)] = Field(
        None,
        description=(
            "A list with fewer entries is taken for broken. Default: one with none; and of a URL, one with less than a "
            "tenth of the entries in force."
        ),
        examples=[1000],
    )
    direction: Literal["in", "out", "both"] = Field(
        "in",
        description=(
            "Whether packets from these addresses are dropped, or packets to them, made here or forwarded, or both."
        ),
        examples=["both"],
    )
    devices: Devices = Field(
        None,
        description=(
            "The devices behind which those in the list are, as that of the uplink: only what comes in by these, or "
            "leaves by them, is dropped. So a list of what nobody may have on the internet spares one's own networks. "
            "Default: all."
        ),
        examples=["eth0", ["ppp0", "wwan0"]],
    )
    allow: Networks = Field(
        None, description="Networks that this list never drops.", examples=[["192.0.2.1", "198.51.100.0/24"]]
    )
    log: LogRate = Field(
        None,
        description=(
            "How often the kernel logs a drop, in lines that begin with `markway: drop blocklist/NAME`: a rate, or "
            "false. Default: never."
        ),
        examples=["10/minute", False],
    )


class AllowlistTable(BaseModel):
    """Who is never kept out by any list or ban."""

    model_config = _STRICT

    networks: Networks = Field(
        None, description="Their networks and addresses.", examples=[["192.0.2.0/24", "2001:db8::/48"]]
    )


BLOCKLIST_TABLES: dict[str, type[BaseModel]] = {"blocklist.NAME": BlocklistTable, "allowlist": AllowlistTable}
"""Their tables by path, in the order of the reference."""
