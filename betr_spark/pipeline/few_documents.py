"""A run on documents made here: it loads the classes of Spark that a run needs."""

import logging
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pyspark.sql import SparkSession

from betr_spark.config import load_config
from betr_spark.pipeline.run import run_all

_DOCUMENTS = 200


def run_few_documents(spark: SparkSession) -> None:
    """Run the stages that need no model on a few documents, and once more without anything new. Nothing is left."""
    logger = logging.getLogger("betr_spark")
    level = logger.level
    with tempfile.TemporaryDirectory(prefix="betr-spark-few-") as name:
        folder = Path(name)
        words = [" ".join(f"word{row * row % (column + 7)}" for column in range(100)) for row in range(_DOCUMENTS)]
        table = pa.table({"id": [str(row) for row in range(_DOCUMENTS)], "text": words})
        pq.write_table(table, folder / "documents.parquet")
        settings = {
            "input": {"path": (folder / "documents.parquet").as_uri(), "id": "id"},
            "output": (folder / "out").as_uri(),
            "scorers": {},
            "selections": {"half": {"scorer": "random", "keep": {"token_fraction": 0.5}}},
        }
        (folder / "few.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        logger.setLevel(logging.ERROR)
        try:
            for _ in range(2):
                run_all(spark, load_config(folder / "few.yaml"))
        finally:
            logger.setLevel(level)
