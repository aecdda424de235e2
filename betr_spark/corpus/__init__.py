"""Documents in: one snapshot of the input, its columns and rows, quarantine, and the sample."""
