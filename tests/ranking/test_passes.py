"""Both passes of the ranking read each document once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import settings, write_parquet

from betr_spark.config import Config
from betr_spark.pipeline.run import run_all
from betr_spark.ranking import best_rank, passes

N = 20


@pytest.mark.parametrize("mode", ["sample", "direct"])
def test_each_document_goes_through_each_pass_once(
    spark: Any, corpus: list[dict[str, Any]], encoder: Path, targets: Path, tmp_path: Path, mode: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first_pass, second_pass = spark.sparkContext.accumulator(0), spark.sparkContext.accumulator(0)

    class CountingTopCosines(best_rank.TopCosines):
        def add(self, vectors: np.ndarray, first: np.ndarray | None = None) -> None:
            first_pass.add(len(vectors))
            super().add(vectors, first)

    def counting_best_ranks(examples: np.ndarray, vectors: np.ndarray, first: np.ndarray, **options: Any) -> Any:
        second_pass.add(len(vectors))
        return best_rank.best_ranks(examples, vectors, first, **options)

    functions = {**vars(best_rank), "TopCosines": CountingTopCosines, "best_ranks": counting_best_ranks}
    names = ("TopCosines", "best_ranks", "merge_top", "depth")
    monkeypatch.setattr(passes, "best_rank", SimpleNamespace(**{name: functions[name] for name in names}))
    rows = [row for row in corpus if row["source"] != "odd"][:N]
    values = settings(write_parquet(tmp_path / "docs", rows, files=3), tmp_path / "out", encoder, targets)
    values["scorers"] = {"betr": {"per_benchmark": True}}
    values["encoder"]["mode"] = mode
    values["selections"] = {}
    config = Config.model_validate(values)
    run_all(spark, config, "rank")
    assert (first_pass.value, second_pass.value) == (N, N)
    assert not Path(config.table("_scratch")).exists()
