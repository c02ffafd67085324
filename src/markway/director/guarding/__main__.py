"""`python -m markway.director.guarding CONTROL NUMBER FILE`: the counter of attempts; the daemon starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from markway.director.guarding.worker import main

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
