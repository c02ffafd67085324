"""Markway shown on real connections: `python -m markway.lab.demo`, or `make demo`."""
