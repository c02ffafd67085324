"""What a feature of the kernel is, and what can be found out about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from markway.kernel.capabilities.network import Network


class Answer(StrEnum):
    """What the kernel did."""

    YES = "yes"
    NO = "no"
    """It refused."""
    IGNORED = "ignored"
    """It accepted, and did not do it."""
    UNKNOWN = "unknown"
    """A program that the probe needs is not installed."""


class UnknownError(Exception):
    """The probe cannot be made here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that not every kernel can."""

    name: str
    what: str
    how: str
    """What the probe does, and what it has to see."""
    instead: str
    """What Markway uses where the kernel lacks it."""
    probe: Callable[[Network], bool]
    """True if packets were treated as they should; what it raises while setting up is a refusal."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found."""

    feature: Feature
    answer: Answer
    why: str = ""
    """The kernel's words, or what is missing."""
