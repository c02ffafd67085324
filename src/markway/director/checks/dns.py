"""DNS over UDP: one question, in the wire format of RFC 1035, section 4."""

from __future__ import annotations

import asyncio
import os
import struct
from typing import TYPE_CHECKING

from markway.director.checks.link import LONGEST, WELL, Unwell, port_of
from markway.director.checks.udp import connected, exchanged

if TYPE_CHECKING:
    from markway.config.model import Check
    from markway.director.model import Outcome, Target

_TYPES = {"A": 1, "NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28}  # RFC 1035, 3.2.2; RFC 3596
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}  # RFC 1035, 4.1.1
_HEADER = struct.Struct("!HHHHHH")  # id, flags, questions, answers, authorities, additional
_RESPONSE, _TRUNCATED, _RECURSE = 0x8000, 0x0200, 0x0100
_INTERNET = 1
_LABEL, _NAME = 63, 255


async def ask(check: Check, target: Target) -> Outcome:
    """Ask for `check.record` of `check.target`; there must be such an answer, and no error."""
    question = question_of(check.target, check.record)
    number = os.urandom(2)
    query = number + _HEADER.pack(0, _RECURSE, 1, 0, 0, 0)[2:] + question
    with connected(target, port_of(check, target)) as opened:
        answer = await exchanged(opened, query)
        while answer[:2] != number:  # late, to another question
            answer = await asyncio.get_running_loop().sock_recv(opened, LONGEST)
    if why := wrong(answer, question):
        raise Unwell(why)
    return WELL


def question_of(name: str, record: str) -> bytes:
    """A question's name, type and class (RFC 1035, 4.1.2); Unwell if it is no name."""
    labels = [label.encode("idna") if not label.isascii() else label.encode() for label in name.split(".") if label]
    encoded = b"".join(bytes([len(label)]) + label for label in labels if len(label) <= _LABEL) + b"\0"
    if len(encoded) > _NAME or any(len(label) > _LABEL for label in labels):
        raise Unwell(f"{name} is too long for a name")
    return encoded + struct.pack("!HH", _TYPES[record], _INTERNET)


def wrong(answer: bytes, question: bytes) -> str:
    """Why an answer does not answer the question; empty if it does. One cut short to fit is an answer too."""
    if len(answer) < _HEADER.size:
        return "not a DNS answer"
    _, flags, _, answers, _, _ = _HEADER.unpack_from(answer)
    if not flags & _RESPONSE:
        return "not a DNS answer"
    if code := flags & 0xF:
        return f"DNS {_RCODES.get(code, f'error {code}')}"
    asked = answer[_HEADER.size : _HEADER.size + len(question)]
    if asked.lower() != question.lower():
        return "the answer to another question"
    return "" if answers or flags & _TRUNCATED else "DNS has no such record"
