"""Lists from a real nginx and from files: what is new is taken, and nothing that is broken replaces what was there."""

from __future__ import annotations

import gzip
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.backends import SERVER, SILENT, Farm, port_of
from tests.kernel.test_checks_http import certificates

from markway.config.blocklisting import Blocklist
from markway.director.fetching import LOOK, Note, Shelf, Source
from markway.guard.lists import written
from markway.kernel import netns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    ssl_certificate {directory}/good.pem;
    ssl_certificate_key {directory}/key.pem;
    server {{
        listen 80; listen 443 ssl;
        root {directory}/pages;
        location /moved {{ return 302 /list; }}
        location /untrusted {{ return 302 http://$host/list; }}
        location /stolen {{ return 302 file:///etc/passwd; }}
        location /busy {{ return 503; }}
    }}
}}
"""
NOW = 1_700_000_000.0
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as up:
        certificates(up.directory)
        (up.directory / "pages").mkdir()
        up.start("nginx", "-c", up.write("nginx.conf", _NGINX.format(directory=up.directory)))
        up.until_open(80, 443)
        yield up


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "blocklists")


def published(farm: Farm, text: str | bytes, name: str = "list") -> None:
    """Put a page where nginx serves it, with a time of its own: nginx makes the etag of time and length."""
    path = farm.directory / "pages" / name
    number = path.stat().st_mtime + 1 if path.exists() else NOW
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (number, number))


def of(farm: Farm, shelf: Shelf, where: str = "/list", scheme: str = "http", **options: Any) -> Source:
    url = f"{scheme}://{SERVER}{where}"
    return Source(replace(Blocklist("drones", url=url, ca=str(farm.directory / "ca.pem")), **options), shelf)


def look(farm: Farm, source: Source, now: float = NOW) -> list[str] | None:
    with netns.enter(farm.director):
        found = source.look(now)
    return None if found is None else list(written(found.content))


def requests(farm: Farm) -> list[str]:
    return [
        line.split('"')[1] + line.split('"')[2] for line in (farm.directory / "access.log").read_text().splitlines()
    ]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_list_is_read_and_then_asked_for_only_if_it_changed(farm: Farm, shelf: Shelf, scheme: str):
    published(farm, "192.0.2.1\n")
    source = of(farm, shelf, scheme=scheme)
    assert look(farm, source) == ["192.0.2.1"]
    assert source.note.failure == ""
    assert look(farm, source, NOW + DAY) is None
    assert (source.note.failure, source.note.changed, source.note.asked) == ("", NOW, NOW + DAY)
    assert " 304 " in requests(farm)[-1]
    published(farm, "192.0.2.2\n")
    assert look(farm, source, NOW + 2 * DAY) == ["192.0.2.2"]


def test_a_server_is_not_asked_before_its_time(farm: Farm, shelf: Shelf):
    published(farm, "192.0.2.1\n")
    source = of(farm, shelf, every=DAY, minimum_age=HOUR)
    assert source.next_look() <= NOW
    look(farm, source)
    assert source.next_look() == NOW + DAY
    later = of(farm, shelf, every=DAY, minimum_age=HOUR)
    later.restore()
    assert later.next_look() == NOW + DAY, "not after a restart either"
    (farm.directory / "pages" / "list").unlink()
    look(farm, source, NOW + DAY)
    assert source.note.failure == "HTTP 404"
    assert source.next_look() == NOW + DAY + HOUR


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it has no addresses"),
        (b"# nothing today\n", "it has no addresses"),
        (b"\n <!DOCTYPE html><p>192.0.2.1", "it is a page of HTML or XML, not a list"),
        (b"<?xml version='1.0'?>", "it is a page of HTML or XML, not a list"),
        (b"Too many requests\n", "it has no addresses: line 1: 'Too many requests': no address"),
        (b"192.0.2.9\nfoo\nbar\n", "2 lines are no addresses, only 1 are: line 2: 'foo': no address"),
        (bytes(range(256)) * 100, "it has no addresses"),
        (b"0.0.0.0/1\n128.0.0.0/2\n", "it has more than half of all addresses of IPv4"),
        (b"192.0.2.1\n" * 10, "it is longer than 64 octets"),
        (gzip.compress(b"192.0.2.1\n" * 10, mtime=0), "it is longer than 64 octets"),
        (gzip.compress(b"192.0.2.1\n", mtime=0)[:-4], "it is a gzip file without an end"),
        (b"\x1f\x8bnonsense", "it is a broken gzip file"),
    ],
)
def test_what_is_no_list_replaces_none(farm: Farm, shelf: Shelf, text: bytes, why: str):
    published(farm, "192.0.2.1\n192.0.2.5")
    source = of(farm, shelf, largest=64)
    assert look(farm, source) == ["192.0.2.1", "192.0.2.5"]
    published(farm, text if b"\x00\x01" not in text else text[:60])
    assert look(farm, source, NOW + DAY) is None
    assert source.note.failure.startswith(why)
    assert len(source.note.failure) < 200
    restored = of(farm, shelf)
    kept = restored.restore()
    assert kept
    assert list(written(kept.content)) == ["192.0.2.1", "192.0.2.5"]
    assert restored.note == source.note
    published(farm, "192.0.2.3\n")
    assert look(farm, source, NOW + 2 * DAY) == ["192.0.2.3"]
    assert source.note.failure == ""


def test_a_list_that_shrinks_to_less_than_a_tenth_is_doubted(farm: Farm, shelf: Shelf):
    published(farm, "\n".join(f"192.0.2.{number}" for number in range(0, 200, 2)))
    source, told = of(farm, shelf), of(farm, Shelf(shelf.folder / "other"), least=5)
    assert look(farm, source) == look(farm, told)
    published(farm, "\n".join(f"192.0.2.{number}" for number in range(1, 10)))
    assert look(farm, source) is None
    assert source.note.failure.startswith("it has 9 entries, before it had 100;")
    assert look(farm, told) == ["192.0.2.1-192.0.2.9"]
    published(farm, "192.0.2.1")
    assert look(farm, told) is None
    assert told.note.failure == "it has 1 entries, fewer than the 5 asked for"


def test_a_gzip_file_is_unpacked(farm: Farm, shelf: Shelf):
    published(farm, gzip.compress(b"192.0.2.1\n"))
    assert look(farm, of(farm, shelf)) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("where", "scheme", "why"),
    [
        ("/moved", "https", ""),
        ("/untrusted", "http", ""),
        ("/untrusted", "https", f"it is redirected from https to http://{SERVER}/list"),
        ("/stolen", "http", "HTTP 302"),
        ("/busy", "http", "HTTP 503"),
        ("/none", "http", "HTTP 404"),
        (":1/", "http", "Connection refused"),
    ],
)
def test_redirects_and_errors(farm: Farm, shelf: Shelf, where: str, scheme: str, why: str):
    published(farm, "192.0.2.1\n")
    source = of(farm, shelf, where, scheme)
    assert look(farm, source) == (None if why else ["192.0.2.1"])
    assert why in source.note.failure if why else not source.note.failure


def test_a_certificate_that_nobody_vouches_for_is_refused(farm: Farm, shelf: Shelf):
    published(farm, "192.0.2.1\n")
    source = of(farm, shelf, scheme="https", ca="")
    assert look(farm, source) is None
    assert source.note.failure.startswith("certificate: ")


def test_a_server_that_does_not_answer(farm: Farm, shelf: Shelf):
    source = of(farm, shelf, timeout=0.2)
    source.item = replace(source.item, url=f"http://{SILENT}/")
    assert look(farm, source) is None
    assert source.note.failure == "no answer in time"


def answers(farm: Farm, *pieces: bytes, again: bool = False) -> int:
    """The port of a server that says this, and then ends, or goes on with the last piece."""
    with netns.enter(farm.servers):
        listener = socket.create_server((SERVER, 0))

    def serve() -> None:
        with listener, suppress(OSError):
            opened, _ = listener.accept()
            with opened:
                opened.recv(4096)
                for piece in pieces:
                    opened.sendall(piece)
                while again:
                    opened.sendall(pieces[-1])

    threading.Thread(target=serve, daemon=True).start()
    return port_of(listener)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize(
    ("pieces", "again", "why"),
    [
        ((HEAD + b"Content-Length: 1000\r\n\r\n", b"192.0.2.1\n"), False, "it broke off after 10 of 1000 octets"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"a\r\n192.0.2.1\n\r\n"), False, "it broke off"),
        ((HEAD + b"\r\n", b"192.0.2.1\n"), True, "it is longer than 1000000 octets"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), False, "SSH-2.0-OpenSSH_9.2"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), False, "HTTP 204"),
        ((b"HTTP/1.1 304 Not Modified\r\n\r\n",), False, "HTTP 304"),
        ((b"",), False, "Remote end closed connection"),
    ],
)
def test_a_server_that_breaks_off(farm: Farm, shelf: Shelf, pieces: tuple[bytes, ...], again: bool, why: str):
    source = of(farm, shelf, f":{answers(farm, *pieces, again=again)}/", largest=1_000_000)
    assert look(farm, source) is None
    assert source.note.failure.startswith(why)


def test_a_download_without_end_is_cut_by_its_time(farm: Farm, shelf: Shelf):
    port = answers(farm, HEAD + b"\r\n", b"#", again=True)
    source = of(farm, shelf, f":{port}/", timeout=0.2, largest=1 << 40)
    assert look(farm, source) is None
    assert source.note.failure == "it takes longer than 0.2 s"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "drones.txt"


def stamped(file: Path, text: str, number: int) -> None:
    file.write_text(text)
    os.utime(file, (number, number))


def seen(source: Source, now: float) -> list[str] | None:
    found = source.look(now)
    return None if found is None else list(written(found.content))


def test_a_file_is_read_again_when_it_changes_and_has_come_to_rest(file: Path, shelf: Shelf):
    stamped(file, "192.0.2.1", 1)
    source = Source(Blocklist("drones", file=str(file)), shelf)
    assert seen(source, NOW) == ["192.0.2.1"]
    assert source.next_look() == NOW + LOOK
    assert seen(source, NOW + 2) is None
    stamped(file, "192.0.2.1\n192.0.2", 2)
    assert seen(source, NOW + 4) is None
    stamped(file, "192.0.2.1\n192.0.2.3", 3)
    assert seen(source, NOW + 6) is None, "it is still being written"
    assert seen(source, NOW + 8) == ["192.0.2.1", "192.0.2.3"]
    assert source.note.changed == NOW + 8
    assert seen(source, NOW + 10) is None


def test_a_file_that_is_gone_or_empty_leaves_the_list(file: Path, shelf: Shelf):
    stamped(file, "192.0.2.1", 1)
    source = Source(Blocklist("drones", file=str(file)), shelf)
    assert seen(source, NOW) == ["192.0.2.1"]
    file.unlink()
    assert seen(source, NOW + 2) is None
    assert source.note.failure == "No such file or directory"
    assert Shelf(shelf.folder).read("drones") == (b"192.0.2.1", source.note)
    stamped(file, "", 2)
    for later in (4, 6, 8):
        assert seen(source, NOW + later) is None
    assert source.note.failure == "it has no addresses"
    stamped(file, "192.0.2.1", 1)
    for later in (10, 12, 14):
        seen(source, NOW + later)
    assert source.note.failure == ""


@pytest.mark.parametrize(
    "break_it",
    [lambda path: path.unlink(), lambda path: path.write_text("{"), lambda path: path.write_text('{"x": 1}')],
)
def test_a_broken_shelf_is_an_empty_one(shelf: Shelf, break_it: Callable[[Path], object]):
    shelf.write("drones", Note("x"), b"192.0.2.1")
    break_it(shelf.folder / ".drones.json")
    assert shelf.read("drones") is None


def test_a_kept_list_of_another_source_is_not_restored(shelf: Shelf):
    shelf.write("drones", Note("/a", changed=NOW), b"192.0.2.1")
    assert Source(Blocklist("drones", file="/b"), shelf).restore() is None
    assert Source(Blocklist("drones", file="/a"), shelf).restore()
    shelf.write("drones", Note("/b", asked=NOW, failure="gone"))
    source = Source(Blocklist("drones", file="/b"), shelf)
    assert (source.restore(), source.note.failure) == (None, "gone")


def test_lists_that_left_the_file_are_forgotten(shelf: Shelf):
    shelf.forget_others(["a"])
    for name in "ab":
        shelf.write(name, Note(name), b"192.0.2.1")
    shelf.forget_others(["a"])
    assert shelf.read("a")
    assert sorted(path.name for path in shelf.folder.iterdir()) == [".a.json", "a"]
