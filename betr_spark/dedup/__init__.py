"""Exact and near duplicates, and the copy that survives."""
