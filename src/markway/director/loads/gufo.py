"""SNMP by gufo-snmp: one socket for each agent, messages made and read in Rust."""

from __future__ import annotations

import ctypes
import os
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from gufo.snmp import Aes128Key, DesKey, Md5Key, Sha1Key, SnmpAuthError, SnmpError, SnmpVersion, User
from gufo.snmp.aio import SnmpSession
from gufo.snmp.user import KeyType

from markway.director.checks.secret import password
from markway.director.model import LoadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from gufo.snmp.user import BaseAuthKey

    from markway.config.model import Load
    from markway.director.loads.snmp import Value
    from markway.director.model import Target

_PORT = 161
_AUTH = {"md5": Md5Key, "sha": Sha1Key}
_PRIVACY = {"aes": Aes128Key, "des": DesKey}
_SOCKADDR = 16  # the size of the smallest; all 0 is AF_UNSPEC
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


async def open_session(load: Load, target: Target) -> GufoSession:
    """A session with the agent of a backend; the files with its secrets are read now.

    LoadError if SNMP 3 does not know us; TimeoutError; OSError, of those files too.
    """
    port = load.port or _PORT
    three = load.version == "3"
    session = SnmpSession(
        str(target.address),
        port,
        community=password(load.community_file) or "public",
        user=_user(load) if three else None,
        version=SnmpVersion.v3 if three else SnmpVersion.v2c,
        timeout=load.timeout,
    )
    if target.source is not None:
        _ask_from(session._fd, str(target.source), str(target.address), port)  # noqa: SLF001 - it has no option for it
    await _explained(session.refresh())
    return GufoSession(session)


class GufoSession:
    """A `markway.director.loads.snmp.Session`; it is closed when it is forgotten."""

    def __init__(self, session: SnmpSession) -> None:
        self._session = session

    async def get(self, oids: Sequence[str]) -> Mapping[str, Value]:
        """The values of those objects that the agent has."""
        return await _explained(self._session.get_many(oids))

    async def column(self, oid: str) -> Sequence[Value]:
        """All values below an object."""

        async def values() -> list[Value]:
            return [value async for _, value in self._session.getbulk(oid)]

        return await _explained(values())


async def _explained(asked: Awaitable[T]) -> T:
    """What was asked for, or why not, in our own errors."""
    try:
        return await asked
    except SnmpAuthError as error:
        raise LoadError("the agent does not know this user or passphrase") from error
    except SnmpError as error:
        raise LoadError(f"SNMP: {error}") from error
    except TimeoutError as error:
        if isinstance(error.__cause__, TimeoutError) and str(error.__cause__):  # so it tells an ICMP error
            raise LoadError(str(error.__cause__)) from error
        raise


def _user(load: Load) -> User:
    if not load.auth:
        return User(load.user)
    kind = _AUTH[load.auth]
    auth = kind(_master(kind, password(load.auth_file)), KeyType.Master)
    if not load.privacy:
        return User(load.user, auth_key=auth)
    privacy = _PRIVACY[load.privacy](_master(kind, password(load.privacy_file)), KeyType.Master)
    return User(load.user, auth_key=auth, priv_key=privacy)


@lru_cache(maxsize=64)
def _master(kind: type[BaseAuthKey], passphrase: str) -> bytes:
    """The key of a passphrase, which takes a hash of a megabyte (RFC 3414, A.2): once, not for every agent."""
    return kind.get_master_key(passphrase.encode())


def _ask_from(descriptor: int, source: str, address: str, port: int) -> None:
    """Give a connected UDP socket another source address.

    It can be bound after its connection was dissolved by connecting it to AF_UNSPEC (connect(2)), which Python's
    sockets cannot say.
    """
    if _libc.connect(descriptor, bytes(_SOCKADDR), _SOCKADDR) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.bind((source, 0))
        same.connect((address, port))
