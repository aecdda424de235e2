"""Upkeep of an output: forgetting documents, compacting tables, deleting what is not needed any more."""
