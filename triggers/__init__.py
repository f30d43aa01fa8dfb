"""The pure engine: values in, values out. No input or output, no clock, no chance, no logging."""

OWNER = "tsuide"
"""Marks this package as ours: another distribution may bring a `triggers` of its own."""
