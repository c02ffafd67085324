"""What is written down of bans and slowings, and read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from markway.apply.bans import Kept, read, write
from markway.guard.windows import Action

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_written_is_read(tmp_path: Path):
    held = {"ssh": {"192.0.2.7/32": Kept(7.5, 2), "2001:db8::/64": Kept(8.0, 1, Action.SLOW)}}
    write(tmp_path / "bans.json", held)
    assert read(tmp_path / "bans.json") == held


def test_a_file_that_knows_of_bans_only_is_read(tmp_path: Path):
    (tmp_path / "bans.json").write_text('{"ssh": {"192.0.2.7/32": [7.5, 2]}}')
    assert read(tmp_path / "bans.json") == {"ssh": {"192.0.2.7/32": Kept(7.5, 2, Action.BAN)}}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ssh": {"a": [1]}}', '{"ssh": {"a": [1, 1, "free"]}}'])
def test_a_broken_file_is_none(tmp_path: Path, text: str):
    (tmp_path / "bans.json").write_text(text)
    assert read(tmp_path / "bans.json") == {}
