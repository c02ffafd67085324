"""Whether a configuration would shut out who is about to apply it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markway.config.firewalling import Verdict

if TYPE_CHECKING:
    from markway.config.blocklisting import Blocklist
    from markway.config.load import Loaded
    from markway.config.problems import Problem
    from markway.director.alone import Alone
    from markway.kernel.ssh import Session

_RISK = 'take the risk with --confirm 60s, or with lockout = "accept" in [firewall]'
_HINT = f"let it in; or {_RISK}"


def lockout(loaded: Loaded) -> Problem | None:
    """What would refuse a new connection like the ssh connection that this is run from, if anything does."""
    from markway.config.place import problem_at
    from markway.guard.lockout import Connection, decision
    from markway.kernel.ssh import session

    found = session()
    if found is None:
        return None
    connection = Connection(*found)
    verdict, origin = decision(loaded.config, connection)
    if verdict is Verdict.ACCEPT:
        return None
    becomes = "rejected" if verdict is Verdict.REJECT else "dropped"
    what = f"it would lock you out: a new ssh connection like yours, {connection}, would be {becomes}"
    return problem_at(loaded.sources, origin, what, _HINT)


def listed(loaded: Loaded, lists: Alone) -> Problem | None:
    """Which list would refuse all packets of the ssh connection that this is run from, if one does."""
    from markway.config.place import problem_at
    from markway.kernel.ssh import session

    found = session()
    if found is None:
        return None
    hit = next((hit for hit in lists.hits(found.client) if not hit.allowed and reaches(hit.item, found)), None)
    if hit is None:
        return None
    what = f"it would lock you out: your ssh connection is from {found.client}, which is in {hit.entry} of this list"
    return problem_at(loaded.sources, hit.item.origin, what, f'allow = "{found.client}" lets it in; or {_RISK}')


def reaches(item: Blocklist, session: Session) -> bool:
    """Whether a list is asked about the packets of an ssh connection."""
    return session.device != "lo" and (not item.devices or session.device in item.devices)
