"""Histograms of scores on Spark."""

from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from betr_spark.scoring import percentiles
from betr_spark.scoring.score_bins import score_bins


def test_bins_split_until_they_are_small_or_of_one_value(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [*(1_700_000_000 + np.arange(300.0)).tolist(), *[5.0] * 50, None]
    rows = spark.createDataFrame([(value, 10) for value in values], "logit double, n_tokens int").repartition(3)
    logits = {"one": F.col("logit"), "none": F.lit(None).cast("double")}
    bins = score_bins(rows, logits)
    assert bins["one"].tokens.tolist() == [10] * 300 + [500]  # one for each value, the best first
    assert (np.diff(bins["one"].first) > 0).all()
    assert not len(bins["none"].tokens)
    monkeypatch.setattr(percentiles, "_FINEST_SHARE", 1)
    assert score_bins(rows, logits)["one"].tokens.tolist() == [3000, 500]
