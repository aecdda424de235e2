"""Documents to read: chosen as the selection ranks, with percentiles by hand, and on a finished run."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betr_spark.config import Config, load_config
from betr_spark.ordering import ORDER_HASH, ORDER_KEY
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.outcomes import outcomes
from betr_spark.report.page.scores import Ranked, histograms_of
from betr_spark.report.ranked_documents import known_documents
from betr_spark.report.reading_texts import with_texts
from betr_spark.report.readings import Readings, percentiles_of, ranking_order, readings
from betr_spark.report.texts import texts_of
from betr_spark.selection.budget import with_order
from betr_spark.selection.tally import ALL, DROPPED, Part, Populations
from betr_spark.storage import delta


def ids(group: list[Any]) -> list[str]:
    return [reading.doc_id for reading in group]


def test_the_order_is_that_of_the_ranking(spark: Any) -> None:
    logits = [0.0, -0.0, 1.5, 1.5, -3.0, 1e300, -1e300, 5e-324, float("inf"), float("-inf")]
    rows = [(f"d{n}", logit) for n, logit in enumerate([*logits, *logits, *logits])]
    scored = spark.createDataFrame(rows, "doc_id string, logit double")
    expected = [
        row[0] for row in with_order(scored).orderBy(ORDER_KEY, ORDER_HASH, "doc_id").select("doc_id").collect()
    ]
    assert [row[0] for row in scored.orderBy(*ranking_order()).limit(100).select("doc_id").collect()] == expected


def test_percentiles_are_of_documents_that_are_as_good_or_worse(spark: Any) -> None:
    rows = spark.createDataFrame([(1, 2.0), (1, 1.0), (1, 1.0), (1, 0.0), (1, 0.5)], "n_tokens long, logit double")
    parts = [Part(ALL, rows, {"s": "logit"}), Part(DROPPED, rows.where("logit = 0.5"), {"s": "logit"})]
    with Populations(parts, in_memory=True) as populations:
        found = percentiles_of(populations, "s", {2.0, 1.0, 0.0, -1.0})
    assert found == {-1.0: 0.0, 0.0: 25.0, 1.0: 75.0, 2.0: 100.0}


@pytest.fixture(scope="module")
def ranked(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """100 documents, `d00` the best by a column; every fourth may not be kept, and `d02` has a copy."""
    folder = tmp_path_factory.mktemp("readings")
    (folder / "docs").mkdir()
    numbers = range(100)
    columns = {
        "id": [f"d{n:02d}" for n in numbers],
        "text": [f"document {2 if n == 99 else n} has words" for n in numbers],
        "quality": [float(100 - n) for n in numbers],
        "site": ["a" if n % 3 else None for n in numbers],
    }
    pq.write_table(pa.table(columns), folder / "docs/a.parquet")
    where = {"where": "logit_quality % 4 <> 0"}
    values = {
        "input": {"path": str(folder / "docs"), "id": "id", "source": "site"},
        "output": str(folder / "out"),
        "scorers": {"quality": {"kind": "expression", "column": "quality"}},
        "selections": {
            "s": {"scorer": "quality", "keep": {"documents": 20}, **where},
            "all": {"scorer": "quality", "keep": {"documents": 1000}},
            "none": {"scorer": "quality", "keep": {"documents": 0}},
        },
    }
    config = Config.model_validate(values)
    run_all(spark, config)
    return config


def test_documents_are_those_around_the_cut_of_the_eligible_ones(spark: Any, ranked: Config) -> None:
    context = RunContext(spark, ranked)
    chosen = readings(context, "s")
    eligible = [f"d{n:02d}" for n in range(99) if n % 4]  # 100 - n is divisible by 4; d99 is a copy of d02
    assert (chosen.name, chosen.scorer, chosen.n_kept) == ("s", "quality", 20)
    assert ids(chosen.best) == eligible[:10]
    assert ids(chosen.at_cut) == eligible[10:20]
    assert ids(chosen.rejected) == eligible[20:30]
    assert [reading.rank for reading in chosen.best + chosen.at_cut] == list(range(1, 21))
    assert {reading.rank for reading in chosen.rejected} == {None}
    assert len(set(ids(chosen.random))) == 10
    assert all(
        reading.rank == (eligible.index(reading.doc_id) + 1 if reading.doc_id in eligible[:20] else None)
        for reading in chosen.random
    )
    assert any(reading.rank is None for reading in chosen.random)
    d01 = chosen.best[0]
    assert (d01.logit, d01.n_tokens, d01.source, d01.nearest, d01.benchmark) == (99.0, 4, "a", None, None)
    assert d01.percentile == pytest.approx(100 * 98 / 99)  # of 99 documents, all but d00 rank lower
    texts = with_texts(context, chosen, texts_of(context, chosen.ids()), shown=8)
    assert (texts.best[0].text, texts.best[0].is_whole, texts.best[0].raised) == ("document", False, None)


def test_documents_are_the_same_where_what_became_of_each_is_known(spark: Any, ranked: Config, finished: Path) -> None:
    configs = (ranked, load_config(finished / "conf.yaml"))
    for config in configs:
        context, names = RunContext(spark, config), list(config.selections)
        with outcomes(spark, config, names) as documents:
            ranked = {name: Ranked(of.scorer) for name, of in config.selections.items()}
            with known_documents(config, documents, histograms_of(documents, ranked)) as known:
                for name in names:
                    assert readings(context, name, known) == readings(context, name)


def test_small_selections_have_fewer_documents(spark: Any, ranked: Config) -> None:
    context = RunContext(spark, ranked)
    everything, nothing = readings(context, "all"), readings(context, "none")
    assert (len(everything.best), everything.at_cut[-1].doc_id, everything.rejected) == (10, "d98", [])
    assert (nothing.n_kept, nothing.best, nothing.at_cut) == (0, [], [])
    assert ids(nothing.rejected) == [f"d{n:02d}" for n in range(10)]
    assert ids(nothing.random) == ids(everything.random)


def test_documents_of_a_finished_run_have_texts_ngrams_and_examples(spark: Any, finished: Path) -> None:
    context = RunContext(spark, load_config(finished / "conf.yaml"))
    chosen = readings(context, "betr-30")
    table = delta.read(spark, context.config.table("selected/betr-30")).toPandas().set_index("doc_id")
    sample = delta.read(spark, context.config.table("ranked_sample")).toPandas().set_index("doc_id")
    read = with_texts(context, chosen, texts_of(context, chosen.ids()))
    assert read.best[0].text == table.text[read.best[0].doc_id]
    assert read.at_cut[-1].rank == len(table) == read.n_kept
    assert read.rejected[0].logit <= read.at_cut[-1].logit
    assert not {*ids(read.rejected)} & {*table.index}
    assert [reading.percentile for reading in read.all()[:20]] == sorted(
        (r.percentile for r in read.all()[:20]), reverse=True
    )
    sampled = [reading for reading in read.all() if reading.nearest]
    assert {reading.doc_id for reading in sampled} == {*ids(read.all())} & {*sample.index}
    for reading in sampled:
        row = sample.loc[reading.doc_id]
        assert (reading.nearest.benchmark, reading.nearest.row) == (row.best_benchmark, row.best_example)
        assert reading.nearest.text
        assert reading.benchmark == row.best_benchmark
    best = read.best[0]
    assert best.raised
    assert all(part.value > 0 for part in best.raised)
    assert any(part.ngram in (best.text or "") for part in best.raised)
    older = chosen._replace(best=[reading._replace(logit=reading.logit + 1) for reading in chosen.best])
    again = with_texts(context, older, texts_of(context, chosen.ids()))  # as if the scorer was trained again
    assert [(reading.raised, reading.lowered) for reading in again.best] == [(None, None)] * len(chosen.best)
    assert again.at_cut == read.at_cut
    gone = load_config(finished / "conf.yaml", ("targets.cooking.path=gone.jsonl",))
    without = with_texts(RunContext(spark, gone), chosen, texts_of(context, chosen.ids()))
    assert without.best[0].text == read.best[0].text
    assert {reading.nearest.text for reading in without.all() if reading.nearest} == {None}
    control = readings(context, "random-30")
    read = with_texts(context, control, texts_of(context, control.ids()))
    assert read.best[0].text
    assert read.best[0].raised is None


def test_a_text_that_was_not_read_stays_unknown(spark: Any, finished: Path) -> None:
    context = RunContext(spark, load_config(finished / "conf.yaml"))
    chosen = readings(context, "best-50")
    assert isinstance(chosen, Readings)
    read = with_texts(context, chosen, {})
    assert {reading.text for reading in read.all()} == {None}
