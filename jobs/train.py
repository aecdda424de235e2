"""spark-submit jobs/train.py --config FILE ...: the same as `betr-spark train`."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
