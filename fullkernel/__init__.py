"""A kernel that has everything, run as a process: the tests' second kernel. See docs/testing.md."""
