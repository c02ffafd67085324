"""`python -m markway.director.queueing CONTROL NOTE NUMBER POLICIES`: the queue worker; the daemon starts it."""

from __future__ import annotations

import sys

from markway.director.queueing.worker import main

if __name__ == "__main__":
    control, note, number = map(int, sys.argv[1:4])
    main(control, note, number, sys.argv[4])
