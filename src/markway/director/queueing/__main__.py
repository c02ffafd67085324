"""`python -m markway.director.queueing CONTROL NUMBER POLICIES`: the queue worker; the daemon starts it."""

from __future__ import annotations

import sys

from markway.director.queueing.worker import main

if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
