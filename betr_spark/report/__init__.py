"""Figures of selections and scorers."""
