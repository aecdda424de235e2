"""An input of files: what is listed, what `features` scored of it, and how it is read."""
