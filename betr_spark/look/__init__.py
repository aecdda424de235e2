"""`look`: a local web page over the finished tables: filter, read, mark documents as good or bad, export the marks."""
