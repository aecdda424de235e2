"""The Spark session, Delta's jars, and error messages."""
