"""spark-submit jobs/rank.py --config FILE ...: the same as `betr-spark rank`."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["rank", *sys.argv[1:]])
