"""Lines for ip(8) and tc(8), in one process of theirs; what they refuse, by line and in the kernel's own words."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class BatchError(Exception):
    """A tool refused a line; those before it are done. `line` counts from 0, None if the tool did not say."""

    def __init__(self, tool: str, text: str, line: int | None, reason: str) -> None:
        super().__init__(f"{tool} {text}: {reason}" if text else f"{tool}: {reason}")
        self.line, self.reason = line, reason


def run(tool: str, lines: Sequence[str], space: str | None = None) -> None:
    """Run commands (without the tool's name) in the thread's network namespace, or the one named.

    Args:
        tool: `ip`, `ip -6` or `tc`.
        lines: the commands.
        space: the namespace, if it is another.

    Raises:
        BatchError: the tool or the kernel refused a line, the first of them; or the tool is not there.
    """
    if not lines:
        return
    where = [] if space is None else ["-n", space]
    try:
        done = subprocess.run(
            [*tool.split(), *where, "-batch", "-"],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise BatchError(tool, "", None, "it is not installed: apt install iproute2") from error
    if done.returncode:
        raise _refusal(tool, lines, done.stderr)


def _refusal(tool: str, lines: Sequence[str], stderr: str) -> BatchError:
    # iproute2 ends its message with "Command failed -:N", N counting our lines from 1; warnings come before it.
    said = [line.strip() for line in stderr.splitlines() if line.strip()]
    failed = next((index for index, line in enumerate(said) if line.startswith("Command failed")), len(said))
    words = [line for line in said[:failed] if not line.startswith(("Warning: ", "We have an error"))]
    kernel = [line for line in words if line.startswith(("Error: ", "RTNETLINK answers: ", "Cannot find "))]
    why = (kernel or words or ["it gave no reason"])[0].removeprefix("RTNETLINK answers: ").removeprefix("Error: ")
    number = said[failed].rpartition(":")[2] if failed < len(said) else ""
    line = int(number) - 1 if number.isdigit() and 0 < int(number) <= len(lines) else None
    return BatchError(tool, "" if line is None else lines[line], line, why.rstrip("."))
