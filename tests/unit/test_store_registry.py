"""The registry on the disk: what was given is read back, also from an earlier version's file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from markway.apply.store import Store
from markway.marks import Block, Registry

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY = Registry(9, {"web/a": 5, "web/b": 6}, ("web/b",), {"web/ip": Block(0, 16)}, 16)
SHAPED = replace(REGISTRY, classes={"shape/wan/web": 1}, marked={"wan/web": 1}, uplinks={"dsl": 2})


def test_what_is_kept_is_read_back(tmp_path: Path):
    store = Store(tmp_path)
    assert store.registry() == Registry()
    store.keep_registry(SHAPED)
    assert store.registry() == SHAPED


def test_a_file_from_before_there_were_shapes_is_read(tmp_path: Path):
    Store(tmp_path).keep_registry(REGISTRY)
    file = tmp_path / "registry.json"
    record = json.loads(file.read_text())
    for name in ("classes", "marked", "uplinks"):
        del record[name]
    file.write_text(json.dumps(record))
    assert Store(tmp_path).registry() == REGISTRY
