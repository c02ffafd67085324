"""Markway turns a Linux machine into a traffic director."""

__version__ = "0.1.0"
