"""Scorers as executors use them: n-gram tables, the scoring kernel, artifacts, logits."""
