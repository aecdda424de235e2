"""For spark-submit: `jobs/run.py [COMMAND] --config FILE ...` is `betr-spark COMMAND --config FILE ...`; `run` by default."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    try:
        main(arguments if arguments and not arguments[0].startswith("-") else ["run", *arguments])
    except SystemExit as done:
        # Databricks is reported to mark a task as failed for any SystemExit, also with code 0.
        if done.code:
            raise
