"""Measures whether a selection helps: language models trained on it are evaluated on the benchmarks' held-out items."""
