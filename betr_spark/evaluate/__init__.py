"""Does a selection help? Small language models trained on it read the benchmarks' held-out items."""
