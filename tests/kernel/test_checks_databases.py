"""MySQL, PostgreSQL and Redis checks against Debian's servers."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.backends import SERVER, SERVER6, Farm, run
from tests.kernel.support import eventually

from markway.config.model import CheckKind
from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

MYSQL, POSTGRESQL, REDIS = CheckKind.MYSQL, CheckKind.POSTGRESQL, CheckKind.REDIS
SPINS = pytest.mark.real_time
"""MariaDB's server waits by spinning while it starts: virtual time would stand for ever."""

BOTH = pytest.mark.parametrize("address", [SERVER, SERVER6])
BIN = "/usr/lib/postgresql/15/bin"
AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--")
STANDBY = 5433
OPEN, LOCKED, REPLICA = 6379, 6380, 6381

_SYSTEM = ("system_tables", "performance_tables", "system_tables_data")
_MARIADB_USERS = """\
CREATE USER 'check'@'%' IDENTIFIED BY 'secret';
CREATE USER 'open'@'%';
"""
_POSTGRESQL_USERS = """\
create database shop;
set password_encryption = 'md5'; create user by_md5 password 'secret';
set password_encryption = 'scram-sha-256'; create user by_scram password 'secret';
create user by_text password 'secret'; create user trusted;
"""
_HBA = """\
host all by_md5   all md5
host all by_scram all scram-sha-256
host all by_text  all password
host all trusted  all trust
host all markway  10.98.0.9/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as up:
        up.write("secret", "secret\n")
        up.write("wrong", "wrong\n")
        yield up


@pytest.fixture(scope="module")
def secret(farm: Farm) -> str:
    return str(farm.directory / "secret")


@pytest.fixture(scope="module")
def wrong(farm: Farm) -> str:
    return str(farm.directory / "wrong")


def talk(farm: Farm, port: int, said: bytes = b"") -> socket.socket:
    """A connection of another client, on which the server has answered."""
    with netns.enter(farm.director):
        opened = socket.create_connection((SERVER, port), timeout=20)
    opened.sendall(said)
    opened.recv(1, socket.MSG_PEEK)
    return opened


@pytest.fixture(scope="module")
def mariadb(farm: Farm) -> Farm:
    data = farm.directory / "mariadb"
    small = ("--innodb-buffer-pool-size=16M", "--loose-innodb-buffer-pool-size-max=16M", "--innodb-use-native-aio=0")
    common = ("--no-defaults", f"--datadir={data}", "--user=root", *small)
    data.mkdir()
    # What mariadb-install-db does, which Debian ships apart from the server.
    tables = [Path("/usr/share/mysql", f"mysql_{part}.sql") for part in _SYSTEM]
    text = "\n".join(("create database mysql;", "use mysql;", *(table.read_text() for table in tables)))
    run("mariadbd", *common, "--bootstrap", "--skip-grant-tables", cwd=farm.directory, text=text)
    # It counts errors only of clients whose name it finds out.
    hosts = farm.write("hosts", "10.98.0.1 director\n")
    farm.start(
        "unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh",
        "mariadbd", *common, f"--socket={data}/socket", f"--pid-file={data}/pid", "--bind-address=*", "--port=3306",
        "--max-connections=10", f"--init-file={farm.write('users.sql', _MARIADB_USERS)}",
        "--innodb-flush-log-at-trx-commit=0", ending=signal.SIGKILL,
    )  # fmt: skip
    farm.until_well(MYSQL, 3306, user="open")
    return farm


@SPINS
@BOTH
def test_mysql(mariadb: Farm, secret: str, address: str) -> None:
    assert mariadb.ask(MYSQL, 3306, address).well
    assert mariadb.ask(MYSQL, 3306, address, user="open").well
    assert mariadb.ask(MYSQL, 3306, address, user="check", password_file=secret).well


@SPINS
def test_mysql_denies(mariadb: Farm, wrong: str) -> None:
    assert mariadb.why(MYSQL, 3306, user="check", password_file=wrong).startswith("MySQL error 1045: Access denied")
    assert mariadb.why(MYSQL, 3306, user="check").startswith("MySQL error 1045: Access denied")
    assert mariadb.why(MYSQL, 3306, user="check", password_file="/no").startswith("/no: no such file")  # noqa: S106


@SPINS
def test_mysql_has_too_many_connections(mariadb: Farm) -> None:
    with ExitStack() as held:
        for _ in range(11):  # one more is kept for an administrator
            held.enter_context(talk(mariadb, 3306))
        assert mariadb.why(MYSQL, 3306) == "MySQL error 1040: Too many connections"
        assert mariadb.why(MYSQL, 3306, user="open") == "MySQL error 1040: Too many connections"
    eventually(lambda: mariadb.ask(MYSQL, 3306, user="open").well)


@SPINS
def test_mysql_is_not_made_to_block_us(mariadb: Farm) -> None:
    """It blocks an address after 100 clients that leave before they have logged in."""
    for _ in range(120):
        assert mariadb.ask(MYSQL, 3306).well


@SPINS
def test_mysql_host_is_blocked(mariadb: Farm) -> None:
    """That it would be: by clients that only connect, as a tcp check does."""
    for _ in range(120):
        mariadb.ask(CheckKind.TCP, 3306, expect=b"MariaDB")
    eventually(lambda: mariadb.why(MYSQL, 3306).startswith("MySQL error 1129: Host '10.98.0.1' is blocked"))


@pytest.fixture(scope="module")
def postgresql(farm: Farm) -> Farm:
    home = farm.directory / "postgresql"
    home.mkdir()
    shutil.chown(home, "postgres", "postgres")
    run(*AS_POSTGRES, f"{BIN}/initdb", "--no-sync", "--auth=trust", "--locale=C", "main", cwd=home)
    single = (f"{BIN}/postgres", "--single", "-D", "main", "postgres")
    for statement in _POSTGRESQL_USERS.splitlines():
        run(*AS_POSTGRES, *single, cwd=home, text=f"{statement}\n".replace("; create user by_", "\ncreate user by_"))
    (home / "main/pg_hba.conf").write_text(_HBA)
    run("cp", "-a", "main", "standby", cwd=home)
    (home / "standby/standby.signal").touch()
    for name, port in (("main", 5432), ("standby", STANDBY)):
        farm.start(*_postgres(home, name, port), ending=signal.SIGQUIT)
    farm.until_well(POSTGRESQL, 5432)
    farm.until_open(STANDBY)
    return farm


def _postgres(home: Path, name: str, port: int) -> tuple[str, ...]:
    settings = {
        "listen_addresses": "*", "port": port, "unix_socket_directories": home, "max_connections": 6,
        "superuser_reserved_connections": 0, "max_wal_senders": 0, "hot_standby": "off", "fsync": "off",
        "shared_buffers": "1MB", "timezone": "UTC", "log_timezone": "UTC",
    }  # fmt: skip
    given = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    return (*AS_POSTGRES, f"{BIN}/postgres", "-D", str(home / name), *given)


@BOTH
@pytest.mark.parametrize("user", ["by_md5", "by_scram", "by_text", "trusted"])
def test_postgresql(postgresql: Farm, secret: str, wrong: str, user: str, address: str) -> None:
    assert postgresql.ask(POSTGRESQL, 5432, address, user=user, password_file=secret, database="shop").well
    if user != "trusted":
        why = postgresql.why(POSTGRESQL, 5432, address, user=user, password_file=wrong, database="shop")
        assert why == f'PostgreSQL: password authentication failed for user "{user}"'


def test_postgresql_has_no_such_database(postgresql: Farm) -> None:
    why = postgresql.why(POSTGRESQL, 5432, user="trusted", database="nowhere")
    assert why == 'PostgreSQL: database "nowhere" does not exist'
    assert "trusted" in postgresql.why(POSTGRESQL, 5432, user="trusted")


def test_postgresql_need_not_know_us(postgresql: Farm) -> None:
    assert postgresql.ask(POSTGRESQL, 5432).well  # it has no place for user markway
    assert postgresql.ask(POSTGRESQL, 5432, source="10.98.0.9").well  # it asks for a password
    assert "no pg_hba.conf entry" in postgresql.why(POSTGRESQL, 5432, user="nobody")


def test_postgresql_does_not_accept_sessions(postgresql: Farm) -> None:
    for user in ("", "trusted"):
        eventually(lambda user=user: "not accepting" in postgresql.why(POSTGRESQL, STANDBY, user=user))  # type: ignore[misc]


def test_postgresql_has_too_many_clients(postgresql: Farm) -> None:
    words = b"user\0by_md5\0database\0shop\0\0"
    with ExitStack() as held:
        for _ in range(6):
            held.enter_context(talk(postgresql, 5432, struct.pack("!II", 8 + len(words), 3 << 16) + words))
        for user in ("", "trusted"):
            assert postgresql.why(POSTGRESQL, 5432, user=user) == "PostgreSQL: sorry, too many clients already"
    eventually(lambda: postgresql.ask(POSTGRESQL, 5432).well)


@pytest.fixture(scope="module")
def redis(farm: Farm) -> Farm:
    common = ("--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--dir", str(farm.directory))
    farm.start("redis-server", *common, "--port", str(OPEN), "--enable-debug-command", "yes")
    farm.start("redis-server", *common, "--port", str(LOCKED), "--requirepass", "secret")
    orphan = ("--replicaof", SERVER, "1", "--replica-serve-stale-data", "no")
    farm.start("redis-server", *common, "--port", str(REPLICA), *orphan)
    farm.until_open(OPEN, LOCKED, REPLICA)
    return farm


@BOTH
def test_redis(redis: Farm, secret: str, address: str) -> None:
    assert redis.ask(REDIS, OPEN, address).well
    assert redis.ask(REDIS, LOCKED, address, password_file=secret).well


def test_redis_refuses(redis: Farm, wrong: str) -> None:
    assert redis.why(REDIS, LOCKED) == "Redis: NOAUTH Authentication required."
    assert redis.why(REDIS, LOCKED, password_file=wrong).startswith("Redis: WRONGPASS")
    assert redis.why(REDIS, REPLICA).startswith("Redis: MASTERDOWN")


def test_redis_loads(redis: Farm, farm: Farm) -> None:
    assert redis.why(REDIS, farm.speaker(b"-LOADING Redis is loading the dataset in memory\r\n")).startswith(
        "Redis: LOADING"
    )


def test_a_changed_password_is_read_anew(redis: Farm, farm: Farm) -> None:
    path = farm.write("turned", "wrong\n")
    assert redis.why(REDIS, LOCKED, password_file=path).startswith("Redis: WRONGPASS")
    farm.write("turned", "secret\n")
    assert redis.ask(REDIS, LOCKED, password_file=path).well


@SPINS
@pytest.mark.parametrize("kind", [MYSQL, POSTGRESQL, REDIS])
def test_each_of_the_others_is_wrong(mariadb: Farm, postgresql: Farm, redis: Farm, kind: CheckKind) -> None:
    assert mariadb is postgresql is redis
    for other, port in ((MYSQL, 3306), (POSTGRESQL, 5432), (REDIS, OPEN)):
        if other is not kind:
            why = redis.why(kind, port, timeout=1.0)
            assert why.startswith(("not ", "Redis: ", "connection ", "no answer", "MySQL error 1129")), why
