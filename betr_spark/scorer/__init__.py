"""fastText training, folding, the n-gram table and its kernel, the artifact."""
