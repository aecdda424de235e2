"""Compiled functions over buffers of text; no Spark."""
