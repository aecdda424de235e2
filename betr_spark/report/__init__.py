"""What was selected, in figures."""
