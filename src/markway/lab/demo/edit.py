"""Edit a configuration's text as an operator would, and show what was edited. Pure."""

from __future__ import annotations

import re
from difflib import ndiff


def with_weight(text: str, service: str, backend: str, weight: int) -> str:
    """The file with another weight for a backend; ValueError when it does not say one."""
    head, section, tail = _section(text, service, backend)
    changed, found = re.subn(r"(?m)^weight\s*=\s*\d+", f"weight = {weight}", section)
    if found != 1:
        raise ValueError(f"[service.{service}.backend.{backend}] has no line with its weight")
    return head + changed + tail


def without(text: str, service: str, backend: str) -> str:
    """The file without a backend."""
    head, _, tail = _section(text, service, backend)
    return head + tail


def edited(old: str, new: str) -> list[str]:
    """The changed lines: `- before`, `+ after`, under the heading they stand in."""
    lines = []
    heading = ""
    for line in ndiff(old.splitlines(), new.splitlines()):
        if line[2:].startswith("["):
            heading = line
        if line[0] in "+-" and line[2:].strip():
            if heading and heading is not line:
                lines.append(heading)
            heading = ""
            lines.append(line)
    return lines


def _section(text: str, service: str, backend: str) -> tuple[str, str, str]:
    """The text before a backend's section, the section, and the text after it."""
    title = re.escape(f"[service.{service}.backend.{backend}]")
    found = re.search(rf"(?ms)^{title}$.*?(?=^\[|^#|\Z)", text)
    if not found:
        raise ValueError(f"the file has no section [service.{service}.backend.{backend}]")
    return text[: found.start()], found[0], text[found.end() :]
