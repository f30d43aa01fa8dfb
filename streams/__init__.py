"""The shell around the engine: Faust, Kafka, Redis, web, command line. It knows no marketing."""

__version__ = "0.1.0"

OWNER = "tsuide"
"""Marks this package as ours: another distribution may bring a `streams` of its own."""
