"""spark-submit jobs/dedup.py --config FILE ...: the same as `betr-spark dedup`."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["dedup", *sys.argv[1:]])
