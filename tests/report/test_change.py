"""A selection beside its version before: by hand, on real Delta tables."""

import math
from pathlib import Path
from typing import Any

import pytest

from betr_spark.config import Config
from betr_spark.report.change import Bin, SourceCount, change, source_stability, stability_index
from betr_spark.spark.work import Work
from betr_spark.storage import delta
from betr_spark.storage.delta_upkeep import compact_and_vacuum, delete_rows
from betr_spark.storage.runs import Origin, StageKey, StageRun

Row = tuple[str, float, int, str | None]


def metadata(run_id: str, **settings: Any) -> str:
    key = StageKey.of("select/s", settings, features="0:r")
    run = StageRun.of(
        key, run_id=run_id, started_at=0.0, rows_in=1, rows_out=1, dropped={}, metrics=None, origin=Origin(), work=Work()
    )  # fmt: skip
    return run.to_json()


def write(spark: Any, config: Config, rows: list[Row], user_metadata: str, *, phase: bool = False) -> None:
    table = spark.createDataFrame(rows, "doc_id string, logit float, n_tokens int, source string").coalesce(1)
    table = table.selectExpr("*", "'one' as phase") if phase else table
    delta.overwrite(table, config.table("selected/s"), user_metadata=user_metadata)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    values = {
        "input": {"path": "docs"},
        "output": str(tmp_path),
        "scorers": {},
        "selections": {"s": {"scorer": "random", "keep": {"documents": 1}}},
    }
    return Config.model_validate(values)


BEFORE: list[Row] = [(f"d{n:03d}", n / 8, 10 * n, "a" if n < 80 else None) for n in range(100)]


def test_documents_and_distributions_are_compared_with_the_version_before(spark: Any, config: Config) -> None:
    write(spark, config, BEFORE, metadata("r1", selection={"keep": 1}))
    assert change(spark, config, "s") is None
    after = [*BEFORE[50:], *[(f"new{n}", -1.0, 1, "b") for n in range(30)]]
    write(spark, config, after, metadata("r2", selection={"keep": 2}))
    spark.sql(f"ALTER TABLE delta.`{config.table('selected/s')}` SET TBLPROPERTIES ('team' = 'x')")  # changes no row
    found = change(spark, config, "s")
    assert found
    assert (found.previous_version, found.why) == (0, "settings changed: selection.keep")
    assert (found.n_before, found.n_after, found.n_in, found.n_out) == (100, 80, 30, 50)
    assert (found.tokens_in, found.tokens_out) == (30, sum(10 * n for n in range(50)))
    bins = found.score.bins
    assert [each.before for each in bins] == [10] * 10
    assert [each.after for each in bins] == [30, 0, 0, 0, 0, *[10] * 5]
    assert (bins[0].low, bins[0].high, bins[-1].high) == (-math.inf, 9 / 8, math.inf)
    expected = (3 / 8 - 0.1) * math.log(3.75) + 4 * (1e-4 - 0.1) * math.log(1e-3) + 5 * (0.125 - 0.1) * math.log(1.25)
    assert found.score.psi == pytest.approx(expected)
    assert found.length.psi == pytest.approx(expected)
    assert found.length.bins[9] == Bin(890, math.inf, 10, 10)
    assert found.source.sources == [SourceCount("a", 80, 30), SourceCount("b", 0, 30), SourceCount("(none)", 20, 20)]
    expected = (3 / 8 - 0.8) * math.log(3 / 8 / 0.8) + (3 / 8) * math.log(3 / 8 / 1e-4) + 0.05 * math.log(0.25 / 0.2)
    assert found.source.psi == pytest.approx(expected, abs=2e-3)


def test_phases_count_once_and_deleted_documents_are_a_change(spark: Any, config: Config) -> None:
    write(spark, config, [*BEFORE, *BEFORE[:10]], metadata("r1"), phase=True)
    ids = spark.createDataFrame([("d000",), ("d001",)], "doc_id string")
    delete_rows(config.table("selected/s"), ids, on="doc_id", user_metadata=metadata("r1"))
    found = change(spark, config, "s")
    assert found
    assert (found.n_before, found.n_after, found.n_in, found.n_out, found.tokens_out) == (100, 98, 0, 2, 10)
    assert found.why == "documents were deleted, as `betr-spark forget` does"


def test_deleted_files_of_the_version_before_give_no_figures(spark: Any, config: Config) -> None:
    write(spark, config, BEFORE, metadata("r1"))
    write(spark, config, BEFORE, metadata("r2"))
    found = change(spark, config, "s")
    assert found
    assert (found.score.psi, found.length.psi, found.source.psi, found.why) == (0.0, 0.0, 0.0, "")
    compact_and_vacuum(spark, config.table("selected/s"), retention_hours=0, dry_run=False)
    assert change(spark, config, "s") is None


def test_a_history_that_was_cleaned_up_gives_no_figures(spark: Any, config: Config) -> None:
    path = Path(config.table("selected/s"))
    write(spark, config, BEFORE, "")
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
    write(spark, config, BEFORE, "")
    assert (path / "_delta_log/00000000000000000002.checkpoint.parquet").exists()
    for file in [*(path / "_delta_log").glob("*0000[01].*")]:
        file.unlink()
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    assert change(spark, config, "s") is None


def test_many_sources_are_put_together(spark: Any) -> None:
    rows = [(f"s{n:02d}", False) for n in range(60) for _ in range(2)] + [("new", True)] * 9
    found = source_stability(
        spark.createDataFrame(rows, "source string, is_new boolean"), n_before=120, n_after=9
    )  # fmt: skip
    assert (len(found.sources), found.sources[0]) == (51, SourceCount("new", 0, 9))
    assert found.sources[-1] == SourceCount("(others)", 2 * 11, 0)


def test_the_index_is_zero_for_equal_shares_and_nan_without_documents() -> None:
    assert stability_index([(1, 3), (2, 6)]) == 0
    assert stability_index([(50, 25), (50, 75)]) == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))
    assert math.isnan(stability_index([(0, 3)]))
