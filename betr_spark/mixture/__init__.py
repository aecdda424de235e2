"""Mixture of groups from finished proxy runs: a law for each task, its agreement, and a proposal; NumPy and SciPy only."""
