"""spark-submit jobs/select_documents.py --config FILE ...: `betr-spark select` (a select.py here would hide Python's own)."""

import sys

from betr_spark.cli import main

if __name__ == "__main__":
    main(["select", *sys.argv[1:]])
