"""Exact budgets, the global rank, and the selected documents."""
