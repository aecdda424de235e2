"""Every kind of scorer, from its settings to its column in `features` and its selection."""

import json
import math
import random
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import settings
from scipy.stats import spearmanr

from betr_spark.config import Config
from betr_spark.errors import ArtifactError, ConfigError, DataError, SchemaError
from betr_spark.kernels.text_preparation import as_buffers, prepare
from betr_spark.pipeline.run import run_all
from betr_spark.pipeline.stage import RunContext
from betr_spark.report.compare import compare
from betr_spark.scoring import artifact
from betr_spark.scoring.contributions import LogitExplainer, tolerance
from betr_spark.training.kinds import kind_of
from betr_spark.training.validation import score_texts

LABEL = "__label__hq"


@pytest.fixture(scope="module")
def texts(corpus: list[dict[str, Any]]) -> dict[str, str]:
    return {row["id"]: row["text"] for row in corpus}


@pytest.fixture(scope="module")
def whole(
    spark: Any,
    texts: dict[str, str],
    corpus: list[dict[str, Any]],
    encoder: Path,
    targets: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    """Features of a corpus with a numeric column, with a scorer of each kind.

    The external scores are highest for the orchard, which no target has.
    """
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "docs").mkdir()
    pick = random.Random(3)
    quality = [None if i % 11 == 0 else float("nan") if i % 13 == 0 else pick.random() for i in range(len(corpus))]
    table = pa.Table.from_pylist([{k: row[k] for k in ("id", "source", "text", "url")} for row in corpus])
    pq.write_table(table.append_column("quality", pa.array(quality)), folder / "docs/part.parquet")
    topics = {"orchard": 200, "kitchen": 100}
    points = [topics.get(row["source"], 0) + len(row["text"]) % 90 for row in corpus]
    (folder / "external").mkdir()
    pq.write_table(pa.table({"key": list(texts), "points": points}), folder / "external/part.parquet")
    lines = folder / "lines.txt"
    prepared = [prepare(text) for text in texts.values() if prepare(text).strip()]
    named = [f"{LABEL if 'harbour' in t or 'tide' in t else '__label__cc'} {t}" for t in prepared]
    lines.write_text("\n".join(named) + "\n", encoding="utf-8", newline="\n")
    model = fasttext.train_supervised(
        input=str(lines), thread=1, verbose=0, epoch=10, lr=0.5, dim=16, wordNgrams=2, bucket=700_000
    )
    model.save_model(str(folder / "hq.bin"))
    small = {"dim": 16, "lr": 1.0, "epochs": 20}
    values = settings(folder / "docs", folder / "out", encoder, targets)
    values["scorers"] = {
        "betr": {**small, "per_benchmark": True},
        "order": {"per_benchmark": True},
        "dclm": {"kind": "classifier", **small},
        "distilled": {"kind": "teacher", "path": str(folder / "external"), "id": "key", "score": "points", **small},
        "ratio": {"kind": "dsir", "buckets": 1000},
        "ratio_mean": {"kind": "dsir", "buckets": 1000, "normalize": "mean", "noise": True},
        "hq": {"kind": "fasttext", "path": str(folder / "hq.bin"), "label": LABEL},
        "quality": {"kind": "expression", "column": "quality"},
        "dice": {"kind": "random", "seed": 4},
    }
    names = ("betr", "order", "betr_sailing", "dclm", "ratio_mean", "quality")
    values["selections"] = {name: {"scorer": name, "keep": {"documents": 40}} for name in names}
    config = Config.model_validate(values)
    for command in ("rank", "train", "features"):
        run_all(spark, config, command)
    return config


def rows_of(spark: Any, config: Config, table: str) -> dict[str, Any]:
    return {row["doc_id"]: row for row in spark.read.format("delta").load(config.table(table)).collect()}


def about(config: Config, name: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads(Path(config.table(f"scorers/{name}/scorer.json")).read_text())
    return description


def test_every_scorer_has_a_column_that_is_null_only_without_text(spark: Any, whole: Config) -> None:
    features = rows_of(spark, whole, "features")
    names = [
        "betr",
        "betr_cooking",
        "betr_sailing",
        "order",
        "order_cooking",
        "order_sailing",
        "dclm",
        "distilled",
        "ratio",
        "ratio_mean",
        "hq",
        "quality",
    ]
    assert [c for c in next(iter(features.values())).asDict() if c.startswith("logit_")] == [
        f"logit_{n}" for n in names
    ]
    for name in names[:-1]:
        assert all((row[f"logit_{name}"] is None) == (row["n_words"] == 0) for row in features.values())


def test_a_column_is_a_score_and_null_if_it_is_not_a_number(spark: Any, whole: Config) -> None:
    column = pq.read_table(whole.input.path, columns=["id", "quality"]).to_pylist()
    features = rows_of(spark, whole, "features")
    for row in column:
        scored, number = features[row["id"]], row["quality"]
        is_score = scored["n_words"] and number is not None and number == number
        assert scored["logit_quality"] == (np.float32(number) if is_score else None)


def test_a_user_s_model_scores_as_fasttext_does(spark: Any, whole: Config, texts: dict[str, str]) -> None:
    model = fasttext.load_model(whole.scorers["hq"].path)
    features = rows_of(spark, whole, "features")
    for doc, text in list(texts.items())[:200]:
        if features[doc]["logit_hq"] is not None:
            p = {label: p for p, label in model.f.predict(prepare(text) + "\n", 2, 0.0, "strict")}[LABEL]
            assert 1 / (1 + np.exp(-features[doc]["logit_hq"])) == pytest.approx(p, abs=1e-4)


def test_contributions_of_ngrams_add_up_to_the_column_of_every_kind(
    spark: Any, whole: Config, texts: dict[str, str]
) -> None:
    features = rows_of(spark, whole, "features")
    intercepts = {}
    for name in whole.folded():
        scorer = artifact.load(spark, whole.table(f"scorers/{name}"), name)
        explainer = LogitExplainer(scorer.table, scorer.about)
        for doc in [*list(texts)[::20], *[doc for doc in texts if doc.startswith("o")]]:
            found, logit = explainer.explain(texts[doc]), features[doc][f"logit_{name}"]
            assert (found.logit is None) == (logit is None)
            if logit is not None:
                total = found.intercept + sum(part.value for part in found.contributions)
                assert abs(total - logit) <= (1e-5 if name != "ratio" else tolerance(logit))
                intercepts[name] = found.intercept
    assert {name for name, intercept in intercepts.items() if intercept} == {"order", "order_cooking", "order_sailing"}


def test_log_ratios_are_those_of_the_examples_against_the_sample(
    spark: Any, whole: Config, texts: dict[str, str], targets: Path
) -> None:
    from betr_spark.scoring.dsir import LogRatioTable, bucket_counts

    sampled = [row["text"] for row in spark.read.format("delta").load(whole.table("_sample")).collect()]
    lines = [json.loads(line) for name in ("cooking", "sailing") for line in (targets / f"{name}.jsonl").open()]
    counts = [
        bucket_counts(*as_buffers(part), n_buckets=1000)
        for part in ([f"{row['question']}\n{row['answer']}" for row in lines], sampled)
    ]
    features = rows_of(spark, whole, "features")
    for name, per_feature in (("ratio", False), ("ratio_mean", True)):
        table = LogRatioTable.fit(*counts, per_feature=per_feature)
        logits = score_texts(list(texts.values()), table)
        column = [features[doc][f"logit_{name}"] for doc in texts]
        np.testing.assert_array_equal([np.nan if v is None else np.float32(v) for v in column], logits)


def mean_logits(spark: Any, config: Config, scorer: str) -> dict[str, float]:
    """Mean logit of each topic."""
    rows = [row for row in rows_of(spark, config, "features").values() if row["n_words"]]
    topics = ("kitchen", "harbour", "orchard")
    return {t: float(np.mean([row[f"logit_{scorer}"] for row in rows if row["source"] == t])) for t in topics}


def test_external_scores_are_learnt_in_their_order(spark: Any, whole: Config) -> None:
    """Positive are the documents with the highest external scores; in the inverted order, the harbour would be first."""
    by_topic = mean_logits(spark, whole, "distilled")
    assert max(by_topic, key=lambda topic: by_topic[topic]) == "orchard"
    assert by_topic["orchard"] > 0 > by_topic["harbour"]
    kind = kind_of(whole, "distilled")
    scores = {row["key"]: row["points"] for row in pq.read_table(whole.scorers["distilled"].path).to_pylist()}
    sampled = spark.read.format("delta").load(whole.table("_sample"))
    labelled = kind._labelled(spark, sampled.select("doc_id", "text")).collect()
    positive = sorted(scores[row["doc_id"]] for row in labelled if row["label"] == 1)
    ordered = sorted((scores[row["doc_id"]] for row in sampled.collect()), reverse=True)
    assert positive == sorted(ordered[: math.ceil(0.1 * len(ordered))])


def test_a_classifier_scores_the_topics_of_the_targets_highest(spark: Any, whole: Config) -> None:
    by_topic = mean_logits(spark, whole, "dclm")
    assert min(by_topic["kitchen"], by_topic["harbour"]) > by_topic["orchard"]
    assert about(whole, "distilled")["metrics"]["n_positive"] >= 20
    assert about(whole, "dclm")["settings"]["ws"] == 5
    assert about(whole, "betr")["settings"]["ws"] == 10


def test_scorer_json_has_the_evaluation_of_every_kind(whole: Config) -> None:
    for name in whole.trained_scorers():
        figures = about(whole, name)
        assert {"spearman", "recall_at_1_percent", "recall_at_30_percent", "spearman_length"} <= set(figures["metrics"])
        assert set(figures["evaluation"]["recall_at_10_percent_by_benchmark"]) <= {"cooking", "sailing"}
        assert "kitchen" in figures["evaluation"]["source_shares"]
    assert about(whole, "betr")["metrics"]["spearman"] > 0.3


def test_selections_take_the_best_and_noise_changes_them(spark: Any, whole: Config) -> None:
    run_all(spark, whole, "dedup")
    run_all(spark, whole, "select")
    features = rows_of(spark, whole, "features")
    removed = set(rows_of(spark, whole, "duplicates"))
    for name in ("betr", "order", "betr_sailing", "dclm", "quality"):
        left = [r for r in features.values() if r["doc_id"] not in removed and r[f"logit_{name}"] is not None]
        best = sorted((row[f"logit_{name}"] for row in left), reverse=True)[:40]
        kept = spark.read.format("delta").load(whole.table(f"selected/{name}")).orderBy("rank").collect()
        assert [row["logit"] for row in kept] == best
    noisy = spark.read.format("delta").load(whole.table("selected/ratio_mean")).collect()
    noise = [row["logit"] - features[row["doc_id"]]["logit_ratio_mean"] for row in noisy]
    assert len(noisy) == 40
    assert np.std(noise) > 0.3


@pytest.mark.parametrize(("scorer", "setting"), [("betr", ("loss", "ova")), ("order", ("model", "linear"))])
def test_benchmark_scorers_tell_which_benchmark_a_document_serves(
    spark: Any, whole: Config, scorer: str, setting: tuple[str, str]
) -> None:
    ranked = rows_of(spark, whole, "ranked_sample")
    for row in ranked.values():
        assert set(row["by_benchmark"]) == {"cooking", "sailing"}
        assert row["by_benchmark"][row["best_benchmark"]]["score"] == row["target_score"] == 1 / row["best_rank"]
    features = rows_of(spark, whole, "features")
    for benchmark, source in (("cooking", "kitchen"), ("sailing", "harbour")):
        description = about(whole, f"{scorer}_{benchmark}")
        assert description["settings"]["benchmark"] == benchmark
        assert description["settings"][setting[0]] == setting[1]
        assert description["metrics"]["validation_auc"] > 0.7
        means = mean_logits(spark, whole, f"{scorer}_{benchmark}")
        assert max(means, key=lambda t: means[t]) == source
    run_all(spark, whole, "dedup")
    run_all(spark, whole, "select")
    kept = spark.read.format("delta").load(whole.table(f"selected/{scorer}")).collect()
    for row in kept:
        logits = {name: features[row["doc_id"]][f"logit_{scorer}_{name}"] for name in ("cooking", "sailing")}
        assert row["best_benchmark"] == max(logits, key=lambda name: logits[name])
    assert "best_benchmark" not in spark.read.format("delta").load(whole.table("selected/dclm")).columns


def test_benchmark_scorers_that_are_missing_or_replaced_are_trained_again(spark: Any, whole: Config) -> None:
    before = about(whole, "betr_cooking")["sha256"]
    Path(whole.table("scorers/betr_cooking/scorer.json")).unlink()
    assert {done.stage for done in run_all(spark, whole, "train") if not done.skipped} == {"train/betr"}
    assert about(whole, "betr_cooking")["sha256"] == before
    foreign = {**whole.model_dump(), "scorers": {"betr_cooking": {"kind": "dsir"}}, "selections": {}}
    run_all(spark, Config.model_validate(foreign), "train")
    assert {done.stage for done in run_all(spark, whole, "train") if not done.skipped} == {"train/betr"}
    assert about(whole, "betr_cooking")["sha256"] == before


def test_compare_has_every_pair_of_scorers(spark: Any, whole: Config) -> None:
    pairs, count = compare(spark, whole, percent=10)
    features = rows_of(spark, whole, "features")
    assert count == len(features)
    assert len(pairs) == 8 * 7 / 2
    by_name = {(pair.left, pair.right): pair for pair in pairs}
    for names in (("betr", "dclm"), ("ratio", "quality")):
        logits = ([row[f"logit_{name}"] for name in names] for row in features.values())
        a, b = zip(*(pair for pair in logits if None not in pair), strict=True)
        assert by_name[names].spearman == pytest.approx(spearmanr(a, b).statistic)
        top = round(len(a) / 10)
        best = [set(np.argsort(-np.array(values), kind="stable")[:top].tolist()) for values in (a, b)]
        assert by_name[names].overlap == pytest.approx(len(best[0] & best[1]) / top, abs=2 / top)  # ties at the cut
    with pytest.raises(ConfigError, match="compare requires at least two scorers, found betr"):
        compare(
            spark, Config.model_validate({**whole.model_dump(), "scorers": {"betr": {}}, "selections": {}}), percent=10
        )


def test_scorers_that_cannot_be_fitted_are_named(spark: Any, whole: Config, tmp_path: Path) -> None:
    def fit(scorer: dict[str, Any]) -> None:
        values = {**whole.model_dump(), "scorers": {"new": scorer}, "selections": {}}
        run_all(spark, Config.model_validate(values), "train")

    cut = tmp_path / "cut.bin"
    cut.write_bytes(Path(whole.scorers["hq"].path).read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"scorers\.new\.path: .*cut\.bin: truncated: 1000 bytes"):
        fit({"kind": "fasttext", "path": str(cut), "label": LABEL})
    with pytest.raises(ArtifactError, match="no label '__label__x'; it has "):
        fit({"kind": "fasttext", "path": whole.scorers["hq"].path, "label": "__label__x"})
    with pytest.raises(DataError, match="no such file"):
        fit({"kind": "fasttext", "path": str(tmp_path / "none.bin"), "label": LABEL})
    external = whole.scorers["distilled"].path
    with pytest.raises(SchemaError, match=r"scorers\.new\.path: .*: no column 'score' .*; found key, points"):
        fit({"kind": "teacher", "path": external, "id": "key"})
    with pytest.raises(DataError, match="no document of the sample has a score"):
        fit({"kind": "teacher", "path": external, "id": "points", "score": "points"})


def test_a_changed_model_file_of_any_name_has_another_version(spark: Any, whole: Config, tmp_path: Path) -> None:
    file = tmp_path / "_hidden.bin"
    scorer = {"kind": "fasttext", "path": str(file), "label": LABEL}
    kind = kind_of(Config.model_validate({**whole.model_dump(), "scorers": {"m": scorer}, "selections": {}}), "m")
    context = RunContext(spark, whole)
    file.write_bytes(b"first")
    before = kind.versions(context)
    file.write_bytes(b"another")
    assert kind.versions(context) != before
