"""Contamination: test items of benchmarks in the documents."""
