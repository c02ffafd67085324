"""Asking a backend whether it is well: one module for each protocol."""
