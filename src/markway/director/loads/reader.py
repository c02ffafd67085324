"""One reading of one backend's load, from whatever its service names."""

from __future__ import annotations

import asyncio

from markway.config.model import Check, CheckKind, Load, LoadKind
from markway.director.checks import ask
from markway.director.checks.command import run
from markway.director.checks.link import Unwell, plain
from markway.director.loads import http, snmp
from markway.director.loads.value import number
from markway.director.model import LoadError, Outcome, Target, Word

_MILLISECONDS = 1000.0
_WHOLE = 100.0


class Loads:
    """Reads loads, and keeps what makes the next reading cheap: sockets, keys, the last counters.

    One reading of one target at a time; any number of targets at once.
    """

    def __init__(self, connect: snmp.Connect = snmp.connect) -> None:
        self._snmp = snmp.Sessions(connect)

    async def read(self, load: Load, target: Target) -> float:
        """The reading of a backend, in the source's unit, at most `load.timeout` seconds from now.

        Milliseconds for ping, per cent of the configured weight for an agent, octets a second for the counters
        of interfaces, else what the source says. LoadError, with the reason in a few words, if there is none.
        """
        try:
            async with asyncio.timeout(load.timeout):
                return await self._read(load, target)
        except TimeoutError as error:
            raise LoadError(f"no answer in {load.timeout:g} s") from error
        except OSError as error:
            raise LoadError(plain(error)) from error
        except (LoadError, Unwell) as why:
            raise LoadError(str(why)) from why
        except Exception as error:  # what a stranger sends must not end the daemon
            raise LoadError(f"not understood: {type(error).__name__}: {error}") from error

    def forget(self, target: Target) -> None:
        """Close what is kept for a backend that is not asked any more."""
        self._snmp.forget(target)

    async def close(self) -> None:
        """Close everything; a later reading would open it again."""
        self._snmp.close()

    async def _read(self, load: Load, target: Target) -> float:
        match load.kind:
            case LoadKind.SNMP:
                return await self._snmp.read(load, target)
            case LoadKind.HTTP:
                return await http.read(load, target)
            case LoadKind.COMMAND:
                return await _printed(load, target)
            case LoadKind.PING:
                return (await _asked(CheckKind.PING, load, target)).took * _MILLISECONDS
            case LoadKind.AGENT:
                return _percent(await _asked(CheckKind.AGENT, load, target))


async def _printed(load: Load, target: Target) -> float:
    """The number that a program prints; `markway.director.checks.command.run` says how it runs."""
    status, output = await run(load.command, target, load.port or target.port)
    if status:
        raise LoadError(f"exit status {status}" if status > 0 else f"killed by signal {-status}")
    return number(output)


async def _asked(kind: CheckKind, load: Load, target: Target) -> Outcome:
    outcome = await ask(Check(kind=kind, timeout=load.timeout, port=load.port), target)
    if not outcome.well and outcome.agent is None:
        raise LoadError(outcome.reason)
    return outcome


def _percent(outcome: Outcome) -> float:
    """What an agent gives its server: a percentage if it says one, nothing if it wants no connections, else all.

    HAProxy's configuration manual, "agent-check": the words and the percentage may come together.
    """
    said = outcome.agent
    if said is None:
        raise LoadError("the agent said nothing")
    if said.word in {Word.DOWN, Word.DRAIN, Word.MAINT}:
        return 0.0
    return _WHOLE if said.percent is None else float(said.percent)
