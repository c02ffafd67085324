"""Who is kept out by lists: frozen values, already checked, free of syntax. Times are seconds, sizes bytes.

`origin` is the key of the file that a value comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markway.config.model import Network, SourceRate
    from markway.config.shaping import Origin

DAY, HOUR = 86400.0, 3600.0


class Way(StrEnum):
    """Which packets a list is asked about: by their source, by their destination, or by either."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Blocklist:
    """A list of addresses in a file or behind a URL; one of the two is empty."""

    name: str
    file: str = ""
    url: str = ""
    every: float = DAY
    """How often a URL is asked."""
    minimum_age: float = HOUR
    """A URL is never asked again sooner, not even after it failed: those who publish lists shut out who asks often."""
    timeout: float = 60.0
    """For a whole download."""
    ca: str = ""
    """A file of certificates to trust; the system's if empty."""
    largest: int = 256 << 20
    """A longer file or download is refused."""
    least: int = 1
    """A content with fewer entries is refused."""
    direction: Way = Way.IN
    devices: tuple[str, ...] = ()
    """Only what comes in by these, or leaves by them, is refused; any if there are none."""
    allow: tuple[Network, ...] = ()
    """Never refused by this list."""
    log: SourceRate | None = None
    """How many refusals are logged; none if None."""
    origin: Origin = field(default=(), compare=False)

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self.url or self.file


@dataclass(frozen=True, slots=True)
class Blocklisting:
    """All that the file says of lists."""

    lists: tuple[Blocklist, ...] = ()
    allow: tuple[Network, ...] = ()
    """Never refused by any list."""
