"""Figures of the page on small frames, against numbers calculated by hand or from the tables."""

import doctest
import math
import shutil
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from deltalake import DeltaTable
from outcome_frames import outcomes_of

from betr_spark.config import Config, load_config
from betr_spark.pipeline.stage import RunContext
from betr_spark.report import characters
from betr_spark.report.figures import selection_figures
from betr_spark.report.outcomes import Outcomes, outcomes
from betr_spark.report.page import drawing, render
from betr_spark.report.page.benchmarks import benchmarks_of
from betr_spark.report.page.cost import configuration, cost
from betr_spark.report.page.funnel import Records, funnel
from betr_spark.report.page.further import further_sections
from betr_spark.report.page.gather import gather
from betr_spark.report.page.scores import Ranked, Scores, histograms_of, scores
from betr_spark.report.page.sources import source_tables
from betr_spark.report.page.verdict import asked, asked_of, verdict
from betr_spark.report.source_sums import source_sums
from betr_spark.schemas import RANKED_SAMPLE
from betr_spark.scoring.combination import with_combined_logits
from betr_spark.storage import delta
from betr_spark.storage.runs import StageRun

ROWS = "source string, n_tokens bigint, has_text boolean, removed boolean, left_out boolean, logit_0 double, times_0 bigint"
BY_VALUE = {"s": Ranked("betr", by_value=True)}


def of_rows(spark: Any, rows: list[tuple[Any, ...]]) -> Outcomes:
    return outcomes_of(spark.createDataFrame(rows, ROWS), ["s"], {"betr": "logit_0"})


def scores_of(documents: Outcomes, selections: dict[str, Ranked]) -> dict[str, Scores]:
    return scores(documents, selections, histograms_of(documents, selections))


def test_histogram_keep_rates_and_lengths_are_those_of_the_survivors_with_a_score(spark: Any) -> None:
    # 100 survivors with logits 0 to 99 and ten tokens each; those from 80 on are selected. Others do not count.
    rows: list[tuple[Any, ...]] = [("a", 10, True, False, False, float(n), int(n >= 80)) for n in range(100)]
    rows += [
        ("a", 10, True, True, False, 500.0, 0),
        ("a", 10, True, False, True, 501.0, 0),
        ("a", 0, False, False, False, None, 0),
    ]
    found = scores_of(of_rows(spark, rows), BY_VALUE).get("s")
    assert found is not None
    histogram, what_if, lengths = found.histogram, found.what_if, found.lengths
    assert (sum(histogram.selected), sum(histogram.rejected)) == (20, 80)
    assert (histogram.lowest_selected, histogram.highest_rejected, histogram.overlap) == (80.0, 79.0, False)
    assert histogram.edges[0] == 0.0
    assert all(n == 0 for n, edge in zip(histogram.selected, histogram.edges[1:], strict=False) if edge < 80)
    assert (what_if.documents, what_if.tokens, what_if.train_tokens, what_if.is_configured) == (
        100,
        1000,
        1000.0,
        False,
    )
    assert [(cut.keep_rate, cut.documents, cut.tokens, cut.score) for cut in what_if.rows] == [
        (0.01, 1, 10, 99.0), (0.03, 3, 30, 97.0), (0.1, 10, 100, 90.0), (0.3, 30, 300, 70.0), (0.5, 50, 500, 50.0),
    ]  # fmt: skip
    assert [cut.epochs for cut in what_if.rows] == pytest.approx([100, 100 / 3, 10, 10 / 3, 2])
    current = what_if.current
    assert current is not None
    assert (current.keep_rate, current.documents, current.score) == (0.2, 20, 80.0)
    assert what_if.rows_with_current[3] is current
    assert what_if.curve[-1].documents == 100
    (part,) = lengths.parts
    assert (part.low, part.high, part.documents, part.kept, part.mean) == (0, 10, 100, 20, 49.5)
    assert part.quartiles == pytest.approx((24.75, 49.5, 74.25), abs=2.5)  # bars of 1.65
    assert lengths.correlation is None  # all documents are equally long


def test_parts_of_the_lengths_and_their_correlation_with_the_score(spark: Any) -> None:
    rows = [("a", 2**n - 1, True, False, False, float(n), int(n == 10)) for n in range(1, 11) for _ in range(7)]
    documents = of_rows(spark, rows)
    found = scores_of(documents, {"s": Ranked("betr", train_tokens=2.0 * 7 * 2036)}).get("s")
    assert found is not None
    assert [part.high for part in found.lengths.parts] == [2**n - 1 for n in range(1, 11)]
    assert [(part.low, part.high, part.documents, part.kept) for part in found.lengths.parts[-2:]] == [
        (256, 511, 7, 0), (512, 1023, 7, 7),
    ]  # fmt: skip
    assert found.lengths.correlation == pytest.approx(1.0)  # the logit is the logarithm of the length
    assert found.what_if.is_configured
    assert found.what_if.rows[-1].tokens == 6 * 1023  # whole documents only
    assert found.what_if.rows[-1].epochs == pytest.approx(2 * 7 * 2036 / (6 * 1023))
    assert found.what_if.rows[0].score < 1 / (1 + math.exp(-10)) + 1e-9


def test_a_rejected_document_above_a_selected_one_is_no_clean_cut(spark: Any) -> None:
    rows = [("a", 5, True, False, False, float(n), int(n in (1, 3))) for n in range(5)]
    found = scores_of(of_rows(spark, rows), BY_VALUE).get("s")
    assert found is not None
    assert found.histogram.overlap
    empty = of_rows(spark, [("a", 5, True, True, False, 1.0, 0)])
    assert scores_of(empty, BY_VALUE) == {}


def test_the_share_of_the_selection_is_looked_at_as_closely_as_the_other_rates(spark: Any) -> None:
    # All scores are in one coarse bin; the best 200 of 1,000 documents are shorter than the others.
    rows = [("a", 1 if n >= 800 else 10, True, False, False, 1 + n * 2.0**-20, int(n >= 800)) for n in range(1000)]
    found = scores_of(of_rows(spark, rows), BY_VALUE).get("s")
    assert found is not None
    current = found.what_if.current
    assert current is not None
    assert (current.tokens, current.documents, current.score) == (200, 200, 1 + 800 * 2.0**-20)


def test_each_selection_has_the_scores_of_its_own_scorer(spark: Any) -> None:
    # `a` ranks by the number and has the best ten; `b` ranks by a value that only even documents have, and has the last five.
    rows = [
        (10, False, False, float(n), -1000.0 * n if n % 2 == 0 else None, int(n >= 90), int(n % 2 == 0 and n < 10))
        for n in range(100)
    ]
    schema = "n_tokens bigint, removed boolean, left_out boolean, logit_0 double, logit_1 double, times_0 bigint, times_1 bigint"
    documents = outcomes_of(spark.createDataFrame(rows, schema), ["a", "b"], {"x": "logit_0", "y": "logit_1"})
    by_value = {"a": Ranked("x", by_value=True), "b": Ranked("y", by_value=True), "c": Ranked("x")}
    found = scores_of(documents, {name: by_value[name] for name in "ab"})
    of_a, of_b = found["a"], found["b"]
    assert (of_a.what_if.documents, of_b.what_if.documents) == (100, 50)
    assert (of_a.histogram.lowest_selected, of_b.histogram.lowest_selected) == (90.0, -8000.0)
    assert [each.what_if.current.score for each in (of_a, of_b) if each.what_if.current] == [90.0, -8000.0]
    assert [cut.score for cut in of_b.what_if.rows] == [0.0, 0.0, -8000.0, -28000.0, -48000.0]
    assert [part.mean for each in (of_a, of_b) for part in each.lengths.parts] == [49.5, -49000.0]


def test_shares_of_sources_count_repeats_and_name_the_rest(spark: Any) -> None:
    rows = [
        ("a", 60, True, False, False, 1.0, 2), ("a", 20, True, False, False, 1.0, 0), ("b", 20, True, False, False, 1.0, 1),
        ("c", 50, True, True, False, 1.0, 0), ("d", 10, True, False, False, 1.0, 0), ("e", 10, True, False, False, 1.0, 1),
    ]  # fmt: skip
    documents = of_rows(spark, rows)
    table = source_tables(source_sums(documents), ["s"])["s"]
    assert [(row.source, row.before, row.documents) for row in table.rows] == [
        ("a", 80 / 120, 1), ("b", 20 / 120, 1), ("e", 10 / 120, 1), ("d", 10 / 120, 0),
    ]  # fmt: skip
    assert [row.after for row in table.rows] == [120 / 150, 20 / 150, 10 / 150, 0.0]
    assert table.rows[0].lift == pytest.approx(1.2)
    assert (table.others, table.n_sources, table.documents) == (None, 4, 3)
    few = source_tables(source_sums(documents, n_largest=1), ["s"])["s"]
    assert [row.source for row in few.rows] == ["a"]
    assert few.others is not None
    assert (few.n_others, few.others.documents) == (4, 2)
    assert (few.others.before, few.others.after) == pytest.approx((40 / 120, 30 / 150))


def test_benchmarks_share_the_top_of_the_sample(spark: Any) -> None:
    # By the examples of `one` the best are d0 and d1, by those of `two` d1 and d2; 20 documents, so the top are two.
    rows = []
    for n in range(20):
        own = {"one": (1.0 / (1 + n), 0.5), "two": (1.0 / (1 + abs(n - 1.6)), 0.5)}
        rows.append((f"d{n:02d}", "a", 1, 0.5, "one" if n < 5 else "two", 0, -float(n), own, None, None))
    found = benchmarks_of(spark.createDataFrame(rows, RANKED_SAMPLE), ["one", "two"])
    assert found.n_documents == 20
    assert [(c.benchmark, c.sample, c.top) for c in found.contributions] == [("one", 0.25, 1.0), ("two", 0.75, 0.0)]
    assert found.overlap == [[1.0, 0.5], [0.5, 1.0]]


def record(stage: str, rows_in: int, rows_out: int, dropped: dict[str, int], **metrics: float) -> StageRun:
    settings = '{"dedup": {"max_source_loss": 0.9, "max_component": null}}'
    return StageRun(
        run_id="r", stage=stage, started_at=0.0, seconds=1.0, rows_in=rows_in, rows_out=rows_out, dropped=dropped,
        metrics=metrics, key="k", config=settings, input_versions={},
    )  # fmt: skip


RECORDS = Records(
    record("features", 100, 90, {"null_text": 7, "copies": 3}),
    record("dedup", 90, 20, {"exact": 5, "near": 15}, largest_source_loss=0.6, largest_component=12),
    record(
        "select/s", 90, 30, {"duplicate": 20, "contaminated": 4, "no_score": 1, "where": 5, "below_cut": 30},
        survivor_tokens=600, kept_tokens=300, kept_fraction=0.5,
    ),
)  # fmt: skip


def test_the_funnel_adds_up_and_says_where_records_differ() -> None:
    found = funnel(RECORDS, n_selected=30)
    assert found is not None
    assert [(step.name, step.rows) for step in found.steps if step.is_total] == [
        ("read", 100), ("features", 90), ("dedup", 70), ("eligible", 60), ("selected", 30),
    ]  # fmt: skip
    left = found.steps[0].rows
    for step in found.steps[1:]:
        assert step.is_total is False or step.rows == left
        left -= 0 if step.is_total else step.rows
    assert found.gaps == []
    newer = funnel(RECORDS._replace(features=record("features", 120, 110, {"null_text": 10})), n_selected=29)
    assert newer is not None
    assert [gap.split(";")[0] for gap in newer.gaps] == [
        "documents in `features`: 110, but documents that `dedup` compared: 90",
        "documents in `features`: 110, but documents that `select` ranked: 90",
        "eligible documents above the cut: 30, but documents of the selection: 29",
    ]
    forgotten = RECORDS._replace(features=record("features", 103, 93, {"null_text": 7, "copies": 3}), n_features=90)
    after = funnel(forgotten, n_selected=30)
    assert after is not None
    assert (after.gaps, [(step.name, step.rows) for step in after.steps[4:6]]) == (
        [],
        [("forgotten_since", 3), ("exact", 5)],
    )
    before = funnel(RECORDS._replace(dedup=None, select=None), n_selected=None)
    assert before is not None
    assert before.steps[-1].name == "features"
    assert funnel(Records(None, None, None), n_selected=None) is None


def test_the_verdict_says_what_to_look_at(tmp_path: Path) -> None:
    values = {
        "input": {"path": "docs"}, "output": "out", "scorers": {},
        "selections": {"s": {"scorer": "random", "keep": {"tokens": 500}, "where": "n_words > 3"}},
    }  # fmt: skip
    config = Config.model_validate(values)
    found = verdict(
        config, "s", RECORDS, documents=30, unit="words", rows=funnel(RECORDS, n_selected=30), scores=None, sources=None,
        warnings=["first"],
    )  # fmt: skip
    assert found is not None
    assert (found.asked, found.rules) == ("500 tokens (words)", ["only documents for which n_words > 3"])
    assert (found.documents, found.tokens, found.fraction) == (30, 300, 0.5)
    assert [(guard.limit, guard.measured) for guard in found.guards] == [
        ("at most 90%", "60.0% of its documents"), ("", "12 documents"),
    ]  # fmt: skip
    assert found.warnings == [
        "first",
        (
            "the selection has 300 of the 500 tokens that were asked for; the next document is longer than what is left "
            "(a condition on `n_tokens` can leave out long documents)"
        ),
        "7.0% of the rows could not be used; see the table `quarantine`",
        "deduplication removed 60% of a source",
    ]
    assert verdict(
        config, "s", RECORDS._replace(select=None), documents=0, unit="words", rows=None, scores=None, sources=None
    ) is None  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ({"token_fraction": 0.1}, "10 % of the tokens of the eligible documents"),
        ({"documents": 1000}, "1,000 documents"),
        ({"min_score": 0.5}, "every document with a score of at least 0.5"),
        ({"tokens_of": "other"}, "as many tokens as other"),
        ({"training": {"flops": 1e20}}, "4 % of the tokens: nemotron-cc for a run of 1e+20 FLOPs"),
    ],
)
def test_budgets_in_words(keep: dict[str, Any], said: str) -> None:
    values = {"scorer": "random", "keep": keep}
    selections = {"s": values, "other": {"scorer": "random", "keep": {"documents": 1}}}
    config = Config.model_validate({"input": {"path": "d"}, "output": "o", "scorers": {}, "selections": selections})
    assert asked(config.selections["s"].keep, unit="words") == said


def test_phases_with_budgets_of_their_own_are_what_was_asked_for() -> None:
    phases: list[dict[str, Any]] = [
        {"name": "one", "tokens": 1000, "keep": {"token_fraction": 0.5}},
        {"name": "two", "tokens": 20},
    ]
    values = {"scorer": "random", "keep": {"documents": 3}, "phases": phases}

    def said() -> str:
        selections = {"s": values}
        config = Config.model_validate({"input": {"path": "d"}, "output": "o", "scorers": {}, "selections": selections})
        return asked_of(config.selections["s"], unit="words")

    assert said() == "3 documents"  # the second phase uses it
    phases[1]["keep"] = {"documents": 2}
    assert said() == "one: 1,000 tokens (words); two: 20 tokens (words)"


def test_percentiles_of_a_combination_are_shares_of_words(spark: Any, tmp_path: Path) -> None:
    values = {
        "input": {"path": "d", "tokens": {"column": "n"}}, "output": str(tmp_path),
        "scorers": {
            **{name: {"kind": "expression", "column": name} for name in ("a", "b")},
            "c": {"kind": "combine", "of": {"a": 1, "b": 2}},
        },
        "selections": {"s": {"scorer": "c", "keep": {"documents": 1}}},
    }  # fmt: skip
    config = Config.model_validate(values)
    rows = [(f"d{n}", "x", 10 + n, 10 + n, 1000 - n * n, float(n % 7), float(n % 5)) for n in range(30)]
    schema = "doc_id string, source string, n_words int, n_tokens int, n_lm_tokens int, logit_a double, logit_b double"
    features = spark.createDataFrame(rows, schema)
    delta.overwrite(features, config.table("features"), user_metadata="")
    delta.overwrite(
        spark.createDataFrame(
            [(1, "d0", "x", 10, 0.5)], "rank int, doc_id string, source string, n_tokens int, logit double"
        ),
        config.table("selected/s"),
        user_metadata="",
    )
    by_words = with_combined_logits(features, config, ["c"]).select("n_lm_tokens", "logit_c").collect()
    with outcomes(spark, config, ["s"]) as documents:
        found = documents.documents.select("n_tokens", documents.logits["c"]).collect()
    assert sorted(map(tuple, found)) == sorted(map(tuple, by_words))


def test_contaminated_documents_of_phases_count_once(spark: Any, tmp_path: Path) -> None:
    values = {
        "input": {"path": "d"},
        "output": str(tmp_path),
        "scorers": {},
        "selections": {"s": {"scorer": "random", "keep": {"documents": 1}}},
    }
    config = Config.model_validate(values)
    selected = [(rank, doc_id, 5, "a", "text", 1.0, f"p{rank}") for rank, doc_id in enumerate(["d1", "d1", "d2"], 1)]
    tables = {
        "features": spark.createDataFrame(
            [(f"d{n}", "a", 5, 5) for n in range(4)], "doc_id string, source string, n_words int, n_tokens int"
        ),
        "duplicates": spark.createDataFrame([], "doc_id string"),
        "contamination": spark.createDataFrame([("d1", "t", "drop")], "doc_id string, benchmark string, action string"),
        "selected/s": spark.createDataFrame(
            selected, "rank int, doc_id string, n_tokens int, source string, text string, logit double, phase string"
        ),
    }
    for name, rows in tables.items():
        delta.overwrite(rows, config.table(name), user_metadata="")
    with outcomes(spark, config, ["s"]) as documents:
        kept = documents.kept["s"].select("doc_id", "times", "n_tokens").collect()
    assert sorted(map(tuple, kept)) == [("d1", 2, 5), ("d2", 1, 5)]
    figures = selection_figures(spark, config, ["s"])["s"]
    assert figures.contamination is not None
    of_all = figures.contamination[0]
    assert (of_all.pool.n, of_all.pool.of, of_all.selected.n, of_all.selected.of) == (1, 4, 1, 2)


def test_no_further_section_starts_after_an_error(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    selections = {f"s{n}": {"scorer": "random", "keep": {"documents": 1}} for n in range(20)}
    values = {"input": {"path": "d"}, "output": str(tmp_path), "scorers": {}, "selections": selections}
    started = list[str]()

    def fails(*_: object) -> None:
        raise KeyError("x")

    def slow(_: object, name: str, *__: object) -> None:
        started.append(name)
        sleep(0.05)

    monkeypatch.setattr("betr_spark.report.page.further.source_sums", fails)
    monkeypatch.setattr("betr_spark.report.page.further.readings", slow)
    context = RunContext(spark, Config.model_validate(values))
    documents, ranked = of_rows(spark, []), {name: Ranked("random") for name in selections}
    with pytest.raises(KeyError, match="x"), further_sections(context, ranked, documents) as sections:
        sections.result()
    assert len(started) < 20


@pytest.mark.filterwarnings("error")
def test_scores_can_be_as_large_as_a_double(spark: Any) -> None:
    rows = [("a", n % 7 + 1, True, False, False, (-1) ** n * 1.5e308 * (1 - n / 1000), int(n < 10)) for n in range(40)]
    found = scores_of(of_rows(spark, rows), BY_VALUE)["s"]
    assert (sum(found.histogram.selected), sum(found.histogram.rejected)) == (10, 30)
    assert sum(part.documents for part in found.lengths.parts) == 40
    assert found.lengths.correlation is not None


def test_a_selection_without_a_survivor_has_no_cut(spark: Any) -> None:
    rows = [("a", 10, True, True, False, 1.0, 1)]  # a duplicate since the selection was written
    found = scores_of(of_rows(spark, rows), BY_VALUE)["s"]
    assert found.what_if.current is None
    assert found.what_if.tokens == 0


def test_figures_do_not_depend_on_where_the_documents_are_counted(
    spark: Any, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = RunContext(spark, load_config(finished / "conf.yaml"))
    by_driver = gather(context)
    assert not delta.read(spark, context.config.table("features")).storageLevel.useMemory  # only meanwhile
    monkeypatch.setattr("betr_spark.report.page.gather.N_IN_MEMORY", 0)
    monkeypatch.setattr("betr_spark.report.page.gather._IN_MEMORY", 0)
    for few, many in zip(by_driver.selections, gather(context).selections, strict=True):
        assert few.scores is not None
        assert many.scores is not None
        assert few._replace(scores=None) == many._replace(scores=None)
        assert few.scores[:3] == many.scores[:3]
        assert few.scores.lengths.correlation == pytest.approx(many.scores.lengths.correlation)


def test_a_page_without_duplicates_has_the_other_sections(spark: Any, finished: Path, tmp_path: Path) -> None:
    config = load_config(finished / "conf.yaml")
    shutil.copytree(finished / "out", tmp_path / "out", ignore=shutil.ignore_patterns("duplicates"))
    page = gather(RunContext(spark, config.model_copy(update={"output": str(tmp_path / "out")})))
    assert page.duplicates.removed is None
    assert all(selection.summary is not None for selection in page.selections)


def test_outcomes_and_the_funnel_agree_with_the_tables(spark: Any, finished: Path) -> None:
    config = load_config(finished / "conf.yaml")
    tables = {
        name: DeltaTable(str(finished / "out" / name)).to_pyarrow_table().to_pylist()
        for name in ("features", "duplicates", "selected/betr-30")
    }
    with outcomes(spark, config, ["betr-30", "random-30"]) as documents:
        n_rows, n_kept = documents.documents.count(), documents.kept["betr-30"].count()
        dropped = [row.asDict() for row in documents.dropped.collect()] if documents.dropped else []
        table = source_tables(source_sums(documents), ["betr-30"])["betr-30"]
    removed = {row["doc_id"] for row in tables["duplicates"]}
    survivors = [row for row in tables["features"] if row["doc_id"] not in removed and row["n_words"]]
    assert n_rows == len(tables["features"])
    assert {row["doc_id"] for row in dropped if row["removed"]} == removed
    assert n_kept == table.documents == len(tables["selected/betr-30"])
    kept, all_tokens = (sum(row["n_tokens"] for row in part) for part in (tables["selected/betr-30"], survivors))
    for source in table.rows:
        before = sum(row["n_tokens"] for row in survivors if (row["source"] or "(none)") == source.source)
        after = sum(
            row["n_tokens"] for row in tables["selected/betr-30"] if (row["source"] or "(none)") == source.source
        )
        assert (source.before, source.after) == pytest.approx((before / all_tokens, after / kept))
    found = funnel(Records.of(spark, config)["betr-30"], n_selected=table.documents)
    assert found is not None
    assert found.gaps == []
    assert found.steps[0].rows == 598
    stages = cost(spark, config).stages
    assert {"features", "dedup", "select/betr-30"} <= {stage.stage for stage in stages}
    assert all(stage.key and stage.seconds > 0 for stage in stages)


def test_the_configuration_is_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("betr_spark.redaction._values", {"hunter2hunter2"})
    values = {"input": {"path": "d", "columns": ["hunter2hunter2"]}, "output": "o", "scorers": {}, "selections": {}}
    text = configuration(Config.model_validate(values))
    assert "path: d" in text
    assert "hunter2" not in text
    assert "***" in text


def test_examples_in_docstrings() -> None:
    assert [doctest.testmod(module).failed for module in (drawing, render, characters)] == [0, 0, 0]
