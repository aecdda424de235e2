"""spark-submit jobs/report.py --config FILE ...: the same as `betr-spark report`."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
