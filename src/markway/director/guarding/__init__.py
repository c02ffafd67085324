"""Counting attempts: a process of its own answers the first packets, for a busy event loop would make them wait.

The daemon's part is `watch.Guarding`. If the worker is gone, packets go on uncounted; bans stay in the kernel, which
renews and ends them alone.
"""
