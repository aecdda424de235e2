"""What is known of single documents: point lookups in the tables of a finished run, parts of logits, nearest neighbours."""
