"""spark-submit jobs/run.py --config FILE ...: the same as `betr-spark run`."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
