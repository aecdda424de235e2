"""Overlap of selections, correlation of scorers, divergence of texts: by hand, by scipy, and on a finished run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome_frames import outcomes_of
from scipy.stats import entropy

from betr_spark.config import Config, load_config
from betr_spark.report.compare import compare
from betr_spark.report.divergence import ALL, kl_divergence, rank_blocks
from betr_spark.report.outcomes import Outcomes, outcomes
from betr_spark.report.overlap import TOP_PERCENT, overlaps, shared
from betr_spark.report.source_sums import SourceSums, source_sums
from betr_spark.storage import delta


def test_documents_are_shared_once_whatever_their_phases(spark: Any) -> None:
    rows = [(5, 1, 0, 0), (7, 2, 1, 0), (11, 1, 1, 0), (13, 0, 1, 0)]  # the second one is in two phases of `a`
    names, schema = ("a", "b", "none"), "n_tokens bigint, times_0 bigint, times_1 bigint, times_2 bigint"
    documents = outcomes_of(spark.createDataFrame(rows, schema).selectExpr("*", "string(n_tokens) source"), names)
    sums = source_sums(documents, n_largest=1)
    of_pairs = shared(documents, sums)
    assert of_pairs["a", "a"] == (3, 23)
    assert of_pairs["a", "b"] == of_pairs["b", "a"] == (2, 18)
    assert of_pairs["b", "none"] == of_pairs["none", "none"] == (0, 0)
    assert set(sums.of_source) == {"13", "7", "11"}  # with the most tokens in all, and repeated in `a` and in `b`


def test_divergence_equals_scipy_with_half_a_count_more_in_the_sample() -> None:
    target, sample = np.array([3, 0, 5, 0]), np.array([1, 1, 0, 0])
    assert kl_divergence(target, sample) == pytest.approx(entropy(target, sample + 0.5))
    assert 0 < kl_divergence(target, target * 1000) < 0.001
    assert np.isnan(kl_divergence(target, np.zeros(4, np.int64)))


def test_blocks_are_apart_and_have_both_ends() -> None:
    assert rank_blocks(0) == []
    assert rank_blocks(2_000) == [(1, 2_000)]
    for n in (2_001, 123_457):
        blocks = rank_blocks(n)
        assert (blocks[0][0], blocks[-1][1]) == (1, n)
        assert sum(last - first + 1 for first, last in blocks) == 2_000
        assert all(last < first for (_, last), (first, _) in zip(blocks, blocks[1:], strict=False))


def test_figures_of_a_finished_run(spark: Any, finished: Path) -> None:
    config = load_config(
        finished / "conf.yaml", ("selections.later={scorer: betr, keep: {documents: 1}}", "scorers.new={}")
    )
    written = [name for name in config.selections if name != "later"]
    with outcomes(spark, config, written) as documents:
        found = {each.name: each for each in overlaps(spark, config, documents, source_sums(documents))}
    betr, control = found["betr-30"], found["random-30"]
    ids = {
        name: {row[0] for row in delta.read(spark, config.table(f"selected/{name}")).select("doc_id").collect()}
        for name in ("betr-30", "random-30", "best-50")
    }
    assert (betr.name, betr.scorer, betr.n_documents) == ("betr-30", "betr", len(ids["betr-30"]))
    assert [of.selection for of in betr.selections] == ["best-50", "random-30"]  # `later` is not written
    for of in betr.selections:
        assert of.shared == len(ids["betr-30"] & ids[of.selection])
        assert of.jaccard == of.shared / len(ids["betr-30"] | ids[of.selection])
    best = betr.selections[0]
    assert (best.shared, best.other_tokens_fraction) == (50, 1.0)  # a prefix of the same ranking
    assert 0.1 < best.tokens_fraction < 1
    assert [of.scorer for of in betr.scorers] == ["random"]  # `new` has no logits
    assert abs(betr.scorers[0].spearman) < 0.2
    (pair,), n_compared = compare(spark, config, percent=TOP_PERCENT, scorers=["betr", "random"])
    assert (pair.spearman, pair.overlap) == (betr.scorers[0].spearman, betr.scorers[0].overlap)
    assert n_compared == betr.n_compared
    assert (control.scorers[0].scorer, control.scorers[0].spearman) == ("betr", betr.scorers[0].spearman)
    assert betr.n_compared == delta.read(spark, config.table("features")).count()
    assert betr.text
    assert control.text
    assert betr.text.n_selected == len(ids["betr-30"])
    assert betr.text.n_pool == delta.read(spark, config.table("_sample")).count() == 300
    assert [(of.benchmark, of.n_examples) for of in betr.text.divergences] == [
        (ALL, 40),
        ("cooking", 20),
        ("sailing", 20),
    ]
    before, after, of_control = (
        betr.text.divergences[0].before,
        betr.text.divergences[0].after,
        control.text.divergences[0],
    )
    assert of_control.before == before
    assert after < before
    assert after < of_control.after - 0.05  # a selection of the same size


def test_without_selections_there_are_no_figures(spark: Any, tmp_path: Path) -> None:
    values = {"input": {"path": "d"}, "output": str(tmp_path), "scorers": {}, "selections": {}}
    documents = Outcomes(spark.range(0), spark.range(0), None, {}, "words", {})
    assert overlaps(spark, Config.model_validate(values), documents, SourceSums({}, {}, 0, 20)) == []


def test_a_random_scorer_is_compared_only_if_it_is_named(spark: Any, finished: Path) -> None:
    config = load_config(finished / "conf.yaml", ("scorers.control={kind: random, seed: 3}",))
    (pair,), n = compare(spark, config, percent=10, scorers=["betr", "control"])
    assert (pair.left, pair.right, abs(pair.spearman) < 0.2, n > 500) == ("betr", "control", True, True)
