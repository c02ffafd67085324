"""HAProxy's agent-check: a server's own word on its state, in one line of text.

The language is that of `agent-check` in HAProxy's configuration manual, section 5.2.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from markway.director.checks.link import WELL, Unwell, connect, port_of, said
from markway.director.model import AgentSaid, Outcome, Word

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Target

_DOWN = {"down", "failed", "stopped"}
_ADMINISTRATIVE = (Word.MAINT, Word.DRAIN, Word.READY)  # the strongest first
_PERCENT = re.compile(r"(\d{1,4})%")
_IGNORED = re.compile(r"maxconn:\d+")


async def ask(check: Check, target: Target) -> Outcome:
    """Connect and read a line. `down`, `failed` and `stopped` are not well; what else was said is in `agent`."""
    with await connect(target, port_of(check, target)) as link:
        while b"\n" not in link.buffer and b"\r" not in link.buffer and len(link.buffer) < 1024:  # noqa: PLR2004
            if not await link.more():
                break
        return understood(link.buffer)


def understood(answer: bytes) -> Outcome:
    """What an agent's line means; Unwell if it means nothing.

    A line may hold one word of each sort: on the server's health (`up`, `down`) and on what is wanted of it
    (`ready`, `drain`, `maint`). The latter is then the answer's word, since the former is in `well` anyway.
    """
    text, _, reason = re.split(r"[\r\n]", answer.decode("utf-8", "replace"), maxsplit=1)[0].partition("#")
    words = {word.lower() for word in re.split(r"[\s,]+", text) if word}
    percents = [int(found[1]) for word in words if (found := _PERCENT.fullmatch(word))]
    down = sorted(words & _DOWN)
    wanted: Word | None = next((word for word in _ADMINISTRATIVE if word in words), None)
    if wanted is None and (down or "up" in words):
        wanted = Word.DOWN if down else Word.UP
    if wanted is None and not percents and not any(_IGNORED.fullmatch(word) for word in words):
        raise Unwell(f"the agent says nothing known: {said(answer)}" if text.strip() else "the agent says nothing")
    outcome = replace(WELL, agent=AgentSaid(wanted, min(percents) if percents else None))
    if down:
        return replace(outcome, well=False, reason=said(reason.encode()) or f"the agent says {down[0]}")
    return outcome
