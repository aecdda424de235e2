"""spark-submit jobs/features.py --config FILE ...: the same as `betr-spark features`."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["features", *sys.argv[1:]])
