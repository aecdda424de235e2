"""For spark-submit: `jobs/run.py [COMMAND] --config FILE ...` is `betr-spark COMMAND --config FILE ...`; `run` by default."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(arguments if arguments and not arguments[0].startswith("-") else ["run", *arguments])
