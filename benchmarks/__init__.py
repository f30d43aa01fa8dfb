"""Benchmarks: run by hand, never by tests."""
