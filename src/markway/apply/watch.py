"""The process that waits for a confirmation: `python -m markway.apply.watch FOLDER PROGRAM`."""

from __future__ import annotations

import sys
from pathlib import Path

from markway.apply.confirm import watch
from markway.apply.store import Store

if __name__ == "__main__":
    watch(Store(Path(sys.argv[1])), sys.argv[2])
