"""How the texts of a file are written: what to call them in a message, and their grammar for editors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, slots=True)
class Form:
    """What to call a value's type in a message, and the JSON Schema of its text."""

    name: str
    pattern: str | None = None


Duration = Annotated[str | None, Form("a duration with its unit", r"^\s*([0-9]+(\.[0-9]+)?\s*[a-zµ]+\s*)+$")]

_BANDWIDTH = r"^[0-9]+(\.[0-9]+)?[ \t]*(([kKmMgGtT][iI]?)?([bB][iI][tT]|[bB][pP][sS]))?$"
_SIZE = r"^[0-9]+(\.[0-9]+)?[ \t]*([bB]|[kKmMgG][bB]?|[kKmMgG][bB][iI][tT])?$"
_DEVICE = r"^[^/\s]{1,15}$"
_NETWORK = r"^[0-9a-fA-F:.]+(/[0-9]+)?$"
_PORTS = r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"
_RATE = r"^[0-9]+ */ *(second|minute|hour)( +burst +[0-9]+( +packets)?)?$"
_MARK = r"^(0[xX][0-9a-fA-F]+|[0-9]+)(/0[xX][0-9a-fA-F]+)?$"

Text = Annotated[str | None, Form("a string")]
Words = Annotated[str | list[str] | None, Form("a string or a list of strings")]
Device = Annotated[str | None, Form("the name of a device", _DEVICE)]
Devices = Annotated[str | list[str] | None, Form("a string or a list of strings", _DEVICE)]
Networked = Annotated[str | None, Form("a network", _NETWORK)]
Networks = Annotated[str | list[str] | None, Form("a string or a list of strings", _NETWORK)]
Bandwidth = Annotated[str | int | None, Form("a rate of bits", _BANDWIDTH)]
Size = Annotated[str | int | None, Form("a size", _SIZE)]
Amount = Annotated[str | int | None, Form("a number or a size", _SIZE)]
Ports = Annotated[str | int | list[str | int] | None, Form("a port, a range of ports or a list of these", _PORTS)]
Rate = Annotated[str | None, Form("a rate", _RATE)]
LogRate = Annotated[str | bool | None, Form("a rate or false", _RATE)]
Mark = Annotated[str | int | None, Form("a mark as VALUE/MASK or an integer", _MARK)]
Numbered = Annotated[str | int | None, Form("a name or a number")]
Numbers = Annotated[str | int | list[str | int] | None, Form("a name, a number or a list of these")]
