"""Embedding the sample and the examples, best rank, labels."""
