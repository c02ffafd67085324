"""A log of programs that this version cannot read is told of, and stops nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from markway.apply.folder import StoreError
from markway.apply.store import LOG, Store
from markway.apply.transaction import _logged

if TYPE_CHECKING:
    from pathlib import Path


def store_with(folder: Path, changed: object) -> Store:
    line = {"id": "1", "at": 1.0, "why": "apply", "changed": changed, "config": "", "before": ""}
    (folder / LOG).write_text(json.dumps(line) + "\n")
    return Store(folder)


@pytest.mark.parametrize(
    "changed",
    [{"web": {"owner": "web"}}, {"web": "what"}, {"web": {"chains": {"a": []}}}, ["web"], "web", 5],
)
def test_a_log_of_another_format_is_told_of_with_the_way_out(tmp_path: Path, changed: object):
    store = store_with(tmp_path, changed)
    with pytest.raises(StoreError, match=r"program\.log is broken: .*move it away to start afresh"):
        _logged(store, store.entries(), 0)


def test_an_entry_that_changed_nothing_is_read(tmp_path: Path):
    store = store_with(tmp_path, {})
    program, others = _logged(store, store.entries(), 0)
    assert (program.fragments, others) == ({}, [])


def test_a_line_that_is_none_ends_the_log(tmp_path: Path):
    store = store_with(tmp_path, {})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"id": "2", "at"')
    assert [entry.id for entry in store.entries()] == ["1"]
