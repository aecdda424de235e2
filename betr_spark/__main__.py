"""`python -m betr_spark`: the command line."""

from betr_spark.cli import main

main()
