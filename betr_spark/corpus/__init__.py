"""Documents in: reading, ids, quarantine, sampling, the one text preparation."""
