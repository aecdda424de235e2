"""`init`: the draft of a configuration, guessed from the schema and a few rows of the user's files."""
