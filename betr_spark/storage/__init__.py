"""Delta tables, run records, and files on any Hadoop file system."""
