"""Benchmark examples: loading, templates, balancing."""
