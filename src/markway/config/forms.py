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
