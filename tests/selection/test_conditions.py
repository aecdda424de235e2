"""Which documents a selection may keep: conditions, annotations, quotas by any column; wrong ones are found before any work."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config
from betr_spark.errors import BetrSparkError
from betr_spark.pipeline.check import problems_of_run
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.storage import delta

N = 40


@pytest.fixture(scope="module")
def scored(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A configuration whose documents are scored and deduplicated: `d00` is the best of 40, with two languages and sources."""
    folder = tmp_path_factory.mktemp("conditions")
    (folder / "docs").mkdir()
    numbers = range(N)
    columns = {
        "id": [f"d{n:02d}" for n in numbers],
        "text": [f"document {n} about item {n * 7}" for n in numbers],
        "quality": [float(N - n) for n in numbers],
        "lang": [None if n == 0 else "de" if n % 4 == 1 else "en" for n in numbers],
        "site": ["big" if n < 30 else "small" for n in numbers],
    }
    pq.write_table(pa.table(columns), folder / "docs/a.parquet")
    odd = [f"d{n:02d}" for n in numbers if n % 2]
    pq.write_table(pa.table({"doc_id": odd, "licence": ["free"] * len(odd)}), folder / "licences.parquet")
    pq.write_table(pa.table({"doc_id": ["d01", "d01"], "licence": ["free", "none"]}), folder / "twice.parquet")
    pq.write_table(pa.table({"doc_id": ["d01"], "Lang": ["en"]}), folder / "clash.parquet")
    values = {
        "input": {"path": str(folder / "docs"), "id": "id", "source": "site", "columns": ["lang"]},
        "output": str(folder / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {},
    }
    run_all(spark, Config.model_validate(values))
    return {**values, "folder": folder}


def configured(scored: dict[str, Any], **selection: Any) -> Config:
    values = {name: value for name, value in scored.items() if name != "folder"}
    selection = {"scorer": "quality", "keep": {"documents": 10}, **selection}
    if name := selection.get("annotations"):
        selection["annotations"] = str(scored["folder"] / name)
    return Config.model_validate({**values, "selections": {"s": selection}})


def selected(spark: Any, config: Config) -> tuple[list[str], Any]:
    (run,) = [run for run in run_all(spark, config, "select") if run.stage == "select/s"]
    rows = delta.read(spark, config.table("selected/s")).orderBy("rank").collect()
    return [row["doc_id"] for row in rows], run


def test_a_condition_on_features_and_a_carried_column(spark: Any, scored: dict[str, Any]) -> None:
    ids, run = selected(spark, configured(scored, where="lang = 'de' AND logit_quality < 38"))
    assert ids == [f"d{n:02d}" for n in range(5, N, 4)]
    assert (run.dropped["where"], run.dropped["below_cut"]) == (N - 9, 0)


def test_annotations_are_joined_and_a_document_without_them_has_null(spark: Any, scored: dict[str, Any]) -> None:
    ids, run = selected(spark, configured(scored, annotations="licences.parquet", where="licence IS NULL"))
    assert ids == [f"d{n:02d}" for n in range(0, 20, 2)]
    assert (run.dropped["where"], run.dropped["below_cut"]) == (20, 10)
    assert "annotations" in run.input_versions


def test_a_fraction_is_of_the_tokens_of_eligible_documents(spark: Any, scored: dict[str, Any]) -> None:
    ids, run = selected(spark, configured(scored, where="lang = 'de'", keep={"token_fraction": 0.5}))
    assert ids == ["d01", "d05", "d09", "d13", "d17"]
    assert run.metrics["survivor_tokens"] == 10 * 5


def test_quotas_by_source_and_by_a_carried_column_keep_the_best_of_each(spark: Any, scored: dict[str, Any]) -> None:
    ids, _ = selected(spark, configured(scored, quota={"source": {"small": 0.5}}))
    assert ids == ["d00", "d01", "d02", "d03", "d04", "d30", "d31", "d32", "d33", "d34"]
    ids, _ = selected(spark, configured(scored, quota={"lang": {"de": 3, "en": 4}}))
    assert Counter("de" if int(doc_id[1:]) % 4 == 1 else "en" for doc_id in ids[1:]) == {"de": 3, "en": 4}
    assert ids[0] == "d00"  # without a language: it shares the rest


def test_no_source_gets_more_than_its_fraction(spark: Any, scored: dict[str, Any]) -> None:
    ids, _ = selected(spark, configured(scored, max_fraction={"source": 0.6}))
    assert ids == ["d00", "d01", "d02", "d03", "d04", "d05", "d30", "d31", "d32", "d33"]


@pytest.mark.parametrize("has_ids", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_document_counts_once_though_rows_of_the_input_share_its_id(
    spark: Any, tmp_path: Path, has_ids: bool
) -> None:
    """Copies of a text without ids; with them, a row without text that has the id of a document."""
    (tmp_path / "docs").mkdir()
    rows = [
        {"id": "a", "text": "one two three", "lang": "en", "quality": 3.0},
        {"id": "a" if has_ids else "x", "text": None if has_ids else "one two three", "lang": "de", "quality": 3.0},
        {"id": "b", "text": "four five six", "lang": "en", "quality": 2.0},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "docs/a.parquet")
    selection = {"scorer": "quality", "keep": {"documents": 5}, "quota": {"lang": {"en": 0.4}}}
    values = {
        "input": {"path": str(tmp_path / "docs"), "columns": ["lang"], **({"id": "id"} if has_ids else {})},
        "output": str(tmp_path / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {"s": selection, "en": {**selection, "where": "lang = 'en'", "quota": {}}},
    }
    config = Config.model_validate(values)
    runs = {run.stage: run for run in run_all(spark, config)}
    texts = [row["text"] for row in delta.read(spark, config.table("selected/s")).orderBy("rank").collect()]
    assert texts == ["one two three", "four five six"]
    of_english = delta.read(spark, config.table("selected/en")).orderBy("rank").collect()
    assert {row["lang"] for row in of_english} == {"en"}
    assert len(of_english) == runs["select/en"].rows_out == (2 if has_ids else 1)  # of copies, `de` is carried


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        ({"where": "langg = 'de'"}, "selections.s.where: langg = 'de': [UNRESOLVED_COLUMN"),
        ({"where": "lang ="}, "selections.s.where: lang =: [PARSE_SYNTAX_ERROR"),
        ({"where": "n_tokens + 1"}, "selections.s.where: n_tokens + 1: [DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN]"),
        ({"where": "count(*) > 1"}, "selections.s.where: count(*) > 1: [INVALID_WHERE_CONDITION]"),
        ({"where": "rand() < 0.5"}, "selections.s.where: rand() < 0.5: gives other rows each time"),
        ({"where": "text LIKE 'a'"}, "selections.s.where: text LIKE 'a': [UNRESOLVED_COLUMN"),
        ({"quota": {"topic": {"a": 0.5}}}, "selections.s.quota: no column 'topic'; found doc_id, source, "),
        ({"annotations": "absent.parquet", "where": "true"}, "selections.s.annotations: "),
        ({"annotations": "clash.parquet", "where": "lang = 'de'"}, "selections.s.annotations: "),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(
    spark: Any, scored: dict[str, Any], selection: dict[str, Any], line: str, capfd: Any
) -> None:
    (found,) = problems_of_run(RunContext(spark, configured(scored, **selection)))
    assert capfd.readouterr().err == ""  # neither PySpark nor the JVM logs it
    assert found.startswith(line)
    assert "\n" not in found
    assert "clash" not in str(selection) or found.endswith("clash.parquet: column 'Lang' exists already; rename it")


def test_two_annotations_of_a_document_are_refused(spark: Any, scored: dict[str, Any]) -> None:
    with pytest.raises(
        BetrSparkError, match=r"twice.parquet: several rows for doc_id 'd01'; one row for each is required"
    ):
        selected(spark, configured(scored, annotations="twice.parquet", where="licence = 'free'"))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"quota": {"source": {"a": 0.7, "b": 0.5}}}, "the shares add up to 1.2, more than 1"),
        ({"quota": {"source": {"a": 0.7, "b": 5}}}, "either shares in .0, 1. or whole numbers above 1"),
        ({"quota": {"source": {"a": 8, "b": 5}}}, "13 in all, more than the whole budget of 10"),
        ({"quota": {"source": {}}}, "at least one value is required"),
        ({"quota": {"a": {"b": 0.1}}, "max_fraction": {"a": 0.5}}, "quota and max_fraction cannot both be given"),
        (
            {"max_fraction": {"source": 0.2}, "keep": {"min_score": 3.0}},
            "a budget is required, but keep.min_score is none",
        ),
        ({"keep": {"training": {"flops": 1e21, "tokens": 1e9}}}, "flops, or parameters and tokens, are required"),
        ({"keep": {"training": {"flops": 1e21, "law": "fixed-6.6b"}}}, "requires tokens alone"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    scored: dict[str, Any], selection: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        configured(scored, **selection)
